"""What this machine offers: tools that must be there before anything is installed, and a sourced ROS or none.

Standard library only: this runs before the virtual environment exists.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 10)
DISTRIBUTION_PYTHON = "/usr/bin/python3"
# The ROS 2 wheels exist for these machines and distributions alone. Where no ROS is sourced, the variable chooses a
# distribution; the first one is the default.
WHEEL_MACHINES = ("x86_64",)
WHEEL_DISTROS = ("kilted", "jazzy")
WHEELS_VARIABLE = "LISARD_ROS_WHEELS"


@dataclass(frozen=True)
class Ros:
    """A ROS 2 installation that the shell has sourced."""

    distro: str
    prefixes: tuple[Path, ...]

    def has(self, package: str) -> bool:
        """Whether PACKAGE is installed, by the ament index."""
        return any(_indexed(prefix, package) for prefix in self.prefixes)


def _indexed(prefix: Path, package: str) -> bool:
    return (prefix / "share" / "ament_index" / "resource_index" / "packages" / package).exists()


def sourced_ros() -> Ros | None:
    """The sourced installation; None where ROS_DISTRO is not set or no sourced prefix holds rclpy."""
    distro = os.environ.get("ROS_DISTRO", "")
    prefixes = tuple(Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p)
    ros = Ros(distro, prefixes)
    return ros if distro and ros.has("rclpy") else None


def wheels_distro() -> str:
    """The distribution whose wheels are used where no ROS is sourced."""
    return os.environ.get(WHEELS_VARIABLE) or WHEEL_DISTROS[0]


def venv_folder(ros: Ros | None) -> Path:
    """One virtual environment for the default wheels, another for each other distribution, sourced or from wheels."""
    distro = ros.distro if ros else wheels_distro()
    return ROOT / (".venv" if ros is None and distro == WHEEL_DISTROS[0] else f".venv-{distro}")


def base_python(ros: Ros | None) -> str:
    """The interpreter to make the virtual environment from: this one, or the one that a sourced ROS was built for."""
    running = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    if ros is None or _imports_rclpy(running):
        return running
    return DISTRIBUTION_PYTHON if _imports_rclpy(DISTRIBUTION_PYTHON) else running


def _imports_rclpy(python: str) -> bool:
    command = [python, "-c", "import rclpy"]
    return Path(python).exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0


def missing_apt_packages() -> list[str]:
    """Debian and Ubuntu packages that the set-up needs and that are not there."""
    there = {
        _apt_name("venv"): _has_venv(),
        _apt_name("dev"): Path(sysconfig.get_path("include"), "Python.h").exists(),
        "g++": shutil.which("g++") is not None,
        "cmake": shutil.which("cmake") is not None,
        "make": shutil.which("make") is not None,
    }
    return [name for name, found in there.items() if not found]


def _apt_name(part: str) -> str:
    """python3-dev for the distribution's own Python, else python3.13-dev and the like."""
    own = Path(DISTRIBUTION_PYTHON).resolve() == Path(sys.executable).resolve()
    return f"python3-{part}" if own else f"python3.{sys.version_info.minor}-{part}"


def _has_venv() -> bool:
    command = [sys.executable, "-c", "import ensurepip, venv"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def complaint() -> str | None:
    """Why the set-up cannot start here, with the cure; None when it can."""
    if sys.version_info < OLDEST_PYTHON:
        found = f"{sys.version_info.major}.{sys.version_info.minor}"
        return f"Python: found {found}, expected 3.10 or newer; name another one: make PYTHON=python3.11 ..."
    if wheels_distro() not in WHEEL_DISTROS:
        return f"{WHEELS_VARIABLE}: found {wheels_distro()}, expected one of {', '.join(WHEEL_DISTROS)}"
    if os.environ.get(WHEELS_VARIABLE) and sourced_ros() is not None:
        return f"{WHEELS_VARIABLE}: found a sourced ROS, expected none; open a shell without it"
    if sourced_ros() is None and platform.machine() not in WHEEL_MACHINES:
        cure = "expected a sourced ROS 2: source /opt/ros/DISTRO/setup.bash"
        return f"ROS: found none on this {platform.machine()}, {cure}"
    missing = missing_apt_packages()
    if missing:
        return f"Some packages are missing. Install them with\n  sudo apt-get install -y {' '.join(missing)}"
    return None
