"""Stand-ins for the parts of launch and launch_ros that the launch files use: they record how they were called."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

LAUNCH_FOLDER = Path(__file__).parents[2] / "launch"
SHARED = "lisard_ros.node.launch_actions"  # what the launch files share, made of launch too


class Recorded:
    """An action, substitution or event: its name, its arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


class Configuration(Recorded):
    """Reads a value of the stand-in context, as LaunchConfiguration does."""

    def perform(self, context: Context) -> str:
        return context.launch_configurations.get(self.args[0], self.kwargs.get("default", ""))


class Context:
    """The parts of a LaunchContext that the launch files read."""

    def __init__(self, values: dict[str, str], environment: dict[str, str] | None = None) -> None:
        self.launch_configurations = values
        self.environment = environment or {}
        self.is_shutdown = False


def kind(name: str) -> type[Recorded]:
    """Make a recording class of its own for one name."""
    return type(name, (Recorded,), {})


MODULES: dict[str, dict[str, Any]] = {
    "launch": {"LaunchDescription": kind("LaunchDescription")},
    "launch.actions": {
        name: kind(name)
        for name in (
            "DeclareLaunchArgument",
            "EmitEvent",
            "ExecuteProcess",
            "IncludeLaunchDescription",
            "LogInfo",
            "OpaqueFunction",
            "RegisterEventHandler",
            "TimerAction",
        )
    },
    "launch.event_handlers": {"OnProcessExit": kind("OnProcessExit")},
    "launch.events": {"Shutdown": kind("Shutdown")},
    "launch.launch_description_sources": {"PythonLaunchDescriptionSource": kind("PythonLaunchDescriptionSource")},
    "launch.substitutions": {"LaunchConfiguration": Configuration},
    "launch_ros": {},
    "launch_ros.actions": {"Node": kind("Node")},
    "launch_ros.utilities": {
        "make_namespace_absolute": lambda name: name if name.startswith("/") else "/" + name,
        "prefix_namespace": lambda base, name: (
            name if not base or name.startswith("/") else base.rstrip("/") + "/" + name
        ),
    },
    "ament_index_python": {},
    "ament_index_python.packages": {
        "PackageNotFoundError": type("PackageNotFoundError", (KeyError,), {}),
        "get_package_prefix": lambda name: f"/opt/ros/{name}",
    },
}


def load(name: str, monkeypatch: Any) -> ModuleType:
    """Import launch/NAME with the stand-ins in place."""
    for module_name, content in MODULES.items():
        module = ModuleType(module_name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, module_name, module)
    monkeypatch.delitem(sys.modules, SHARED, raising=False)
    loaded = load_as_is(name)
    monkeypatch.setitem(sys.modules, SHARED, sys.modules.pop(SHARED))  # gone with the stand-ins that it imported
    return loaded


def load_as_is(name: str) -> ModuleType:
    """Import launch/NAME with whatever launch there is."""
    spec = importlib.util.spec_from_file_location(name.replace(".", "_"), LAUNCH_FOLDER / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arguments(description: Any) -> dict[str, dict[str, Any]]:
    """Return the declared launch arguments of a recorded LaunchDescription: name -> keyword arguments."""
    declared = [a for a in description.args[0] if type(a).__name__ == "DeclareLaunchArgument"]
    names = [action.args[0] for action in declared]
    assert len(names) == len(set(names)), "an argument is declared twice"
    return {action.args[0]: action.kwargs for action in declared}
