"""Build interfaces/vision_msgs into the environment of the interpreter that runs this file.

For a virtual environment that holds the ROS 2 wheels and requirements/vision_msgs_build.txt; takes half a minute.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "interfaces" / "vision_msgs"

# The wheels' exported CMake files name the headers of the machine that built the wheels.
FOREIGN_PYTHON_HEADERS = re.compile(r'[^";]*/include/python3\.\d+')
FOREIGN_NUMPY_HEADERS = re.compile(r'[^";]*/numpy/(?:_core|core)/include')


def point_exports_at_this_python(prefix: Path) -> int:
    """Replace foreign header folders in PREFIX/share/*/cmake; gives the number of files changed."""
    import numpy

    python_headers, numpy_headers = sysconfig.get_path("include"), numpy.get_include()
    changed = 0
    for export in sorted((prefix / "share").glob("*/cmake/*__rosidl_generator_pyExport.cmake")):
        old = export.read_text(encoding="utf-8")
        new = FOREIGN_PYTHON_HEADERS.sub(lambda _: python_headers, old)
        new = FOREIGN_NUMPY_HEADERS.sub(lambda _: numpy_headers, new)
        if new != old:
            export.write_text(new, encoding="utf-8")
            changed += 1
    return changed


def cmake_environment(prefix: Path) -> dict[str, str]:
    """The variables under which the ament macros find the wheels' packages and tools."""
    tools = os.pathsep.join([str(prefix / "bin"), os.environ.get("PATH", os.defpath)])
    own = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    return {**own, "AMENT_PREFIX_PATH": str(prefix), "PATH": tools}


def run_quietly(command: list[str], environment: dict[str, str]) -> None:
    """Run COMMAND; what it printed is shown only when it fails."""
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        sys.stderr.buffer.write(done.stdout + done.stderr)
        raise subprocess.CalledProcessError(done.returncode, command)


def build(prefix: Path) -> None:
    """Configure, build and install vision_msgs under PREFIX."""
    environment = cmake_environment(prefix)
    with tempfile.TemporaryDirectory(prefix="vision_msgs_build_") as folder:
        configure = [
            "cmake",
            "-S",
            str(SOURCE),
            "-B",
            folder,
            "-DBUILD_TESTING=OFF",
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DCMAKE_PREFIX_PATH={prefix}",
            f"-DCMAKE_INSTALL_PREFIX={prefix}",
            f"-DPython3_EXECUTABLE={sys.executable}",
        ]
        run_quietly(configure, environment)
        jobs = str(os.cpu_count() or 1)
        run_quietly(["cmake", "--build", folder, "--target", "install", "--parallel", jobs], environment)


def main() -> int:
    """Build into sys.prefix; exit status 0, or 1 when a step fails."""
    prefix = Path(sys.prefix)
    point_exports_at_this_python(prefix)
    try:
        build(prefix)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"vision_msgs: the build failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
