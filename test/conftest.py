"""Surroundings of every test: a ROS domain of its own and no busy threads. At the end: which legs did not run here."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Read when a process starts ROS, OpenMP or ONNX Runtime; child processes inherit them.
os.environ.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 101)))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")


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
    if importlib.util.find_spec("torch") is None:
        yield "training legs: not run, torch is not installed"


def missing_ros(package: str) -> str:
    """Why PACKAGE is not there."""
    return f"the sourced ROS installation lacks {package}" if sourced_ros() else "no ROS installation sourced"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what this run did not look at."""
    for line in legs_not_run():
        terminalreporter.write_line(line)
