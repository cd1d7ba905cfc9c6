"""What the launch files share of `launch`, which only a ROS installation has; nothing else may import this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from lisard_ros.errors import UsageError
from lisard_ros.node import arguments
from lisard_ros.node.arguments import Argument

# What launch calls the process of the node, before a dash and a number.
NODE = "perception_node"


def declared(these: Iterable[Argument]) -> list[DeclareLaunchArgument]:
    """Declare arguments; one without a default is required."""
    return [
        DeclareLaunchArgument(
            one.name, default_value=one.default, description=one.description, choices=one.choices or None
        )
        for one in these
    ]


def node_beside(launch_file: str, given: Sequence[tuple[str, Any]]) -> IncludeLaunchDescription:
    """Include perception.launch.py, which lies beside `launch_file`, with some of its arguments given."""
    perception = Path(launch_file).parent / "perception.launch.py"
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(str(perception)), launch_arguments=given)


def values_of(context: Any) -> Callable[[str], str]:
    """Return what gives the value of an argument, '' for none; UsageError where one is misspelt."""
    if slip := arguments.misspelt(context.launch_configurations):
        raise UsageError(slip)
    return lambda name: LaunchConfiguration(name, default="").perform(context).strip()


def full_name(context: Any, namespace: str, name: str) -> str:
    """Return the full name of a node or topic as launch_ros makes it, within the groups that push a namespace."""
    pushed = context.launch_configurations.get("ros_namespace")
    return str(prefix_namespace(make_namespace_absolute(prefix_namespace(pushed, namespace)), name))


def node_name(context: Any) -> str:
    """Return the full name of the node."""
    value = values_of(context)
    return full_name(context, value("namespace"), value("name") or NODE.removesuffix("_node"))


def when_ended(action: Any, answer: Callable[[Any], list[Any]]) -> RegisterEventHandler:
    """Call `answer` with the event when the process of `action` or the node has ended, unless the launch ends anyway.

    Raising in it is the one way to make the launch end with 1.
    """

    def on_exit(event: Any, context: Any) -> list[Any]:
        ours = event.action is action or event.process_name.startswith(f"{NODE}-")
        return answer(event) if ours and not context.is_shutdown else []

    return RegisterEventHandler(OnProcessExit(on_exit=on_exit))
