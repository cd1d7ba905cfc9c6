"""Installs of the package, each made once in a temporary copy of the checkout, offline."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Big, and no part of what is installed.
LEFT_OUT = ("data/", "docs/", "bench/", "test/")

PROBE = """
import importlib.metadata, importlib.util, json, pkgutil, sys
def origin(name):
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin:
        return spec and spec.origin
    inside = list(pkgutil.iter_modules(spec.submodule_search_locations))
    return next(iter(spec.submodule_search_locations)) if inside else None
def modules(name, spec):
    if spec is None:
        return []
    # Not pkgutil.walk_packages: it imports every package, and torch with the trainer.
    found = list(pkgutil.iter_modules(spec.submodule_search_locations, name + "."))
    inside = [modules(entry.name, entry.module_finder.find_spec(entry.name)) for entry in found if entry.ispkg]
    return [name, *(entry.name for entry in found if not entry.ispkg), *(name for names in inside for name in names)]
groups = ("console_scripts", "lisard_ros.commands", "lisard_ros.attack_make", "lisard_ros.running_system",
          "lisard_ros.live_frames", "lisard_ros.twin")
points = {group: {} for group in groups}
# The first on the path alone: the environment of the tests has the checkout installed as well.
for entry in importlib.metadata.distribution("lisard_ros").entry_points:
    if entry.group in groups:
        points[entry.group][entry.name] = entry.value
names = sys.argv[1:]
print(json.dumps({
    "origins": {name: origin(name) for name in names},
    "modules": sorted(m for n in names[:3] for m in modules(n, importlib.util.find_spec(n))),
    "entry_points": points,
}))
"""
# Names that the checkout's folders would have if they became importable. colcon --symlink-install puts its build folder
# on the path: there some of them are folders without any module, which Python takes for empty namespaces.
GENERIC = ("trainer", "engines", "test", "launch", "config", "models", "scripts", "interfaces")


@dataclass(frozen=True)
class Install:
    """One way of installing: where it lies and how to run Python in it."""

    name: str
    checkout: Path
    prefix: Path
    command: tuple[str, ...]
    variables: dict[str, str]

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run ARGUMENTS in this install's environment, outside the checkout unless told otherwise."""
        return subprocess.run(
            [*self.command, *arguments],
            env=self.variables,
            cwd=cwd or self.prefix,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @cached_property
    def probed(self) -> dict[str, dict]:
        """What is importable, and which entry points are registered."""
        done = self.run("python3", "-c", PROBE, "lisard_ros", "lisard_trainer", "lisard_engines", *GENERIC)
        assert done.returncode == 0, done.stderr
        found: dict[str, dict] = json.loads(done.stdout)
        return found


# What a user's shell has, with or without a sourced ROS.
KEPT = ("HOME", "LANG", "TMPDIR", "ROS_DISTRO", "ROS_VERSION", "AMENT_PREFIX_PATH", "LD_LIBRARY_PATH")


def clean_variables() -> dict[str, str]:
    """A user's shell: no virtual environment, and of PYTHONPATH what a sourced ROS put there, not this checkout."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
    foreign = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and not of_checkout(part)]
    kept["PYTHONPATH"] = os.pathsep.join(foreign)
    return {**kept, "PATH": path, "PIP_NO_INDEX": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def of_checkout(part: str) -> bool:
    """Whether an entry of PYTHONPATH makes this checkout's own packages importable."""
    return Path(part).resolve() in (ROOT, ROOT / "trainer", ROOT / "engines")


def run(command: list[str], cwd: Path, variables: dict[str, str]) -> str:
    """Run COMMAND and give its output; the test fails with all of it when the command does."""
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def copy_of_the_checkout(target: Path) -> Path:
    """The files that git knows or would add, without the big ones."""
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT, clean_variables())
    for name in listed.split("\0"):
        source = ROOT / name
        if name and not name.startswith(LEFT_OUT) and source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


def fresh_venv(folder: Path) -> Path:
    """A virtual environment that sees this one's packages, pip among them, so that nothing has to be downloaded."""
    venv.create(folder, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    paths = dict.fromkeys([sysconfig.get_path("purelib"), *site.getsitepackages()])
    (folder / "lib" / version / "site-packages" / "parent.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make a fresh copy of the checkout for one kind of install."""
    return lambda name: copy_of_the_checkout(tmp_path_factory.mktemp(name))


def pip_install(name: str, source: Path, folder: Path, *what: str) -> Install:
    """pip install in a fresh virtual environment, offline and without dependencies."""
    environment = fresh_venv(folder)
    variables = clean_variables()
    variables["PATH"] = f"{environment / 'bin'}{os.pathsep}{variables['PATH']}"
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "-qq", "--no-deps", "--no-build-isolation"]
    run([*pip, *what], source, variables)
    return Install(name, source, environment, (), variables)


@pytest.fixture(scope="session")
def wheel_file(checkout: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline."""
    source, target = checkout("wheel_source"), tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "-w", str(target), "."]
    run(pip, source, clean_variables())
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def wheel(wheel_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """pip install lisard_ros-*.whl"""
    return pip_install("wheel", wheel_file.parent, tmp_path_factory.mktemp("wheel") / "venv", str(wheel_file))


@pytest.fixture(scope="session")
def editable(checkout: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Install:
    """pip install -e ."""
    source = checkout("editable_source")
    return pip_install("editable", source, tmp_path_factory.mktemp("editable") / "venv", "-e", ".")


def colcon_build(source: Path, *options: str) -> None:
    """colcon build in SOURCE."""
    colcon = [sys.executable, "-m", "colcon", "--log-base", os.devnull, "build", "--paths", ".", *options]
    run(colcon, source, clean_variables())


def colcon_install(name: str, source: Path, *options: str) -> Install:
    """colcon build, and a shell that has sourced its result."""
    colcon_build(source, *options)
    shell = ("bash", "-c", f'source "{source}/install/setup.bash" && exec "$@"', "shell")
    return Install(name, source, source / "install" / "lisard_ros", shell, clean_variables())


@pytest.fixture(scope="session")
def colcon(checkout: Callable[[str], Path]) -> Install:
    """colcon build"""
    return colcon_install("colcon", checkout("colcon"))


@pytest.fixture(scope="session")
def colcon_symlink(checkout: Callable[[str], Path]) -> Install:
    """colcon build --symlink-install, twice: the second build must cope with the links of the first."""
    source = checkout("colcon_symlink")
    colcon_build(source, "--symlink-install")
    return colcon_install("colcon_symlink", source, "--symlink-install")


@pytest.fixture(params=["wheel", "editable", "colcon", "colcon_symlink"])
def install(request: pytest.FixtureRequest) -> Install:
    """Each way of installing in turn."""
    made: Install = request.getfixturevalue(request.param)
    return made
