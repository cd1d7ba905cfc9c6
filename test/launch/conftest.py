"""Tests of the launch files: always against recording stand-ins, and against the real launch where it is installed.

`launch` and `launch_ros` belong to a ROS installation. Where they are missing, the summary says so.
"""

from __future__ import annotations

import importlib.util

import pytest

REAL_LEG = "test_with_real_launch.py"


def real_launch() -> bool:
    """Tell whether launch and launch_ros are installed; the checkout's own folder launch/ is no package."""
    specs = [importlib.util.find_spec(name) for name in ("launch", "launch_ros")]
    return all(spec is not None and spec.origin is not None for spec in specs)


collect_ignore = [] if real_launch() else [REAL_LEG]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say whether the leg against the real launch ran."""
    state = f"run ({REAL_LEG})" if real_launch() else "not run: launch and launch_ros are not installed here"
    terminalreporter.write_line(f"launch leg: {state}")
