"""Start the node `perception`, attack what its cameras see, write the report, and end.

All arguments of perception.launch.py can be given too. `ros2 launch` ends with 0 only if at least one limit was set
and all hold, else with 1. Example:

    ros2 launch lisard_ros attack_test.launch.py bundle:=models/traffic_signs image_topics:=/front/image_raw \
        suite:=clean=0.9,universal=0.8,corruption/fog/3 report:=out/attack_test
"""

import shutil
import sys
from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from lisard_ros.errors import DataError, UsageError
from lisard_ros.node import arguments

PERCEPTION = Path(__file__).parent / "perception.launch.py"
# What launch calls the process of the node, before a dash and a number.
NODE = "perception_node"


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, include the node with those of the test, and ask for the test once values are known."""
    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=argument.choices or None,
        )
        for argument in arguments.ATTACK_TEST
    ]
    handed_on = [(parameter, LaunchConfiguration(name)) for name, parameter in arguments.ATTACK_TEST_PARAMETERS.items()]
    node = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(PERCEPTION)), launch_arguments=handed_on)
    return LaunchDescription([*declared, OpaqueFunction(function=start_test), node])


def start_test(context) -> list:
    """Return who asks for the test, and the handler that ends the launch by its answer."""

    def value(name: str) -> str:
        return LaunchConfiguration(name, default="").perform(context).strip()

    if slip := arguments.misspelt(context.launch_configurations):
        raise UsageError(slip)
    timeout_s = arguments.seconds("timeout_s", value("timeout_s"), positive=True)
    pushed = context.launch_configurations.get("ros_namespace")
    namespace = make_namespace_absolute(prefix_namespace(pushed, value("namespace")))
    name = prefix_namespace(namespace, value("name") or NODE.removesuffix("_node"))
    # The interpreter that the node's script finds too: in a virtual environment it is another one than that of ros2.
    python = shutil.which("python3") or sys.executable
    words = [python, "-m", "lisard_ros.tools.ask", "self_test", name, "--active", "--timeout", str(timeout_s)]
    asker = ExecuteProcess(cmd=words, name="attack_test", output="both")

    def when_a_process_ends(event, context) -> list:
        """End the launch; raising is the one way to make it end with 1."""
        ours = event.action is asker or event.process_name.startswith(f"{NODE}-")
        if not ours or context.is_shutdown:
            return []
        if event.action is not asker:
            raise DataError(f"attack test: the node ended with {event.returncode}; its own message is above")
        if event.returncode != 0:
            raise DataError(f"attack test: not passed; the report is in {value('report')}, the answer is above")
        return [EmitEvent(event=Shutdown(reason=f"the attack test has passed; the report is in {value('report')}"))]

    return [RegisterEventHandler(OnProcessExit(on_exit=when_a_process_ends)), asker]
