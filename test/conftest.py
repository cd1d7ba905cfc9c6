"""Surroundings of every test: a ROS domain for each worker, no busy threads, a cache. At the end: what did not run."""

from __future__ import annotations

import atexit
import fcntl
import importlib
import importlib.util
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
HIGHEST_DOMAIN = 101  # as in scripts/in_env.py
WAITING = tuple(ROOT / "test" / name for name in ("node", "demo"))  # their tests mostly wait for other processes


def domain_of(worker: str, first: int) -> int:
    """ROS domain of a pytest-xdist worker ("gw0", "gw1", ...; "" for a run in one process), from 1 to 101."""
    return (first - 1 + int(worker.removeprefix("gw") or 0)) % HIGHEST_DOMAIN + 1


# Read when a process starts ROS, OpenMP or ONNX Runtime; child processes inherit them.
FIRST_DOMAIN = int(os.environ.setdefault("ROS_DOMAIN_ID", str(random.randint(1, HIGHEST_DOMAIN))))
os.environ["ROS_DOMAIN_ID"] = str(domain_of(os.environ.get("PYTEST_XDIST_WORKER", ""), FIRST_DOMAIN))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# One fresh cache for the whole run, so that what a node measures at its start is measured once and never out of date.
if "LISARD_CACHE" not in os.environ:
    os.environ["LISARD_CACHE"] = tempfile.mkdtemp(prefix="lisard_test_cache_")
    atexit.register(shutil.rmtree, os.environ["LISARD_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Make a folder once in a run, by its name: the first worker that asks fills it, the others wait for it."""
    own = tmp_path_factory.getbasetemp()
    base = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder = base / f"once_{name}"
        with (base / f"once_{name}.state").open("a+") as state:
            fcntl.flock(state, fcntl.LOCK_EX)
            state.seek(0)
            if state.read() != "made":
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                fill(folder)
                state.write("made")
        return folder

    return make


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Workers of `-n auto`: one more than cores, as tests of the node wait for about half of their time."""
    import psutil

    return min(psutil.cpu_count(logical=False) or 1, len(os.sched_getaffinity(0))) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files whose tests wait among those that compute, of which the longest files come first."""
    place: dict[Path, float] = {}
    waiting = dict.fromkeys(item.path for item in items if item.path.parent in WAITING)
    computing = dict.fromkeys(item.path for item in items if item.path not in waiting)
    computing = dict.fromkeys(sorted(computing, key=lambda path: path.parent.name != "newcomer"))
    for files, share in ((waiting, 0.9), (computing, 1.0)):  # the last files are short ones
        place |= {path: share * number / len(files) for number, path in enumerate(files)}
    items.sort(key=lambda item: place[item.path])


def sourced_ros() -> bool:
    """Whether the shell has sourced a ROS installation."""
    return bool(os.environ.get("ROS_DISTRO")) and indexed("rclpy")


def indexed(package: str) -> bool:
    """Whether PACKAGE is in the ament index of a sourced prefix."""
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    return any((p / "share/ament_index/resource_index/packages" / package).exists() for p in prefixes)


def legs_not_run() -> Iterator[str]:
    """One line for each part of the tests that needs what this machine lacks."""
    if not indexed("cv_bridge"):
        yield f"cv_bridge leg: not run, {missing_ros('cv_bridge')}"
    if not (indexed("launch_ros") and shutil.which("ros2")):
        yield f"ros2 launch leg: not run, {missing_ros('launch_ros')}"
    if not indexed("rclcpp"):
        yield f"C++ example: not run, {missing_ros('rclcpp')}"
    if importlib.util.find_spec("launch_testing") is None:
        yield "launch_testing example: run with stand-ins, launch_testing is not installed"
    if importlib.util.find_spec("torch") is None:
        yield "training legs: not run, torch is not installed"
    if beside("chromium").CHROMIUM is None:
        yield "pages in Chromium: not run, Chromium is not installed"


def beside(name: str) -> Any:
    """Import a module of this folder, which is no package."""
    sys.path.insert(0, str(ROOT / "test"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "test"))


def missing_ros(package: str) -> str:
    """Why PACKAGE is not there."""
    return f"the sourced ROS installation lacks {package}" if sourced_ros() else "no ROS installation sourced"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what this run did not look at."""
    for line in legs_not_run():
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def accessibility() -> Any:
    """The module that looks at pages in Chromium under the rules of axe-core."""
    pytest.importorskip("aiohttp", reason="requirements/watch.txt is not installed")
    module = beside("accessibility")
    module.need_chromium()
    return module
