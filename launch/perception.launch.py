"""Start the node `perception` for a model bundle and any number of cameras.

Every parameter of the node is a launch argument (lisard_ros/node/arguments.py). An argument left empty is not passed
on, so that the params file, then the node's default, decides. Example:

    ros2 launch lisard_ros perception.launch.py bundle:=/models/signs image_topics:=/front/image_raw,/rear/image_raw
"""

import atexit
import json
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile

from launch import LaunchDescription
from launch.actions import LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from lisard_ros.errors import UsageError
from lisard_ros.node import arguments, fastdds
from lisard_ros.node.launch_actions import declared, full_name

FILES = ("perception.launch.py", "replay.launch.py", "attack_test.launch.py")


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the node is built once their values are known."""
    return LaunchDescription([*declared(arguments.PERCEPTION), OpaqueFunction(function=start_node)])


def start_node(context) -> list:
    """Return the node action for the values in `context`."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context).strip()

    slip = arguments.misspelt(context.launch_configurations)
    if slip and started_directly():
        raise UsageError(slip)
    delay_s = arguments.seconds("respawn_delay", value("respawn_delay"))
    node = Node(
        package="lisard_ros",
        executable="perception_node",
        name=value("name"),
        namespace=value("namespace"),
        parameters=parameter_files(context, value, full_name(context, value("namespace"), value("name"))),
        ros_arguments=["--log-level", value("log_level")] if value("log_level") else [],
        additional_env=profile_environment(context.environment),
        output="both",
        respawn=arguments.typed("respawn", "bool", value("respawn")),
        respawn_delay=delay_s,
    )
    return [LogInfo(msg=f"warning: {slip}"), node] if slip else [node]


def started_directly() -> bool:
    """Tell whether `ros2 launch` was given one of our files: its arguments are then all meant for us.

    A file that includes ours has arguments of its own, which launch shows us too.
    """
    return any(word.endswith(FILES) for word in sys.argv)


def parameter_files(context, value, node: str) -> list:
    """List the params file, if one is given, and then a file with the arguments that are not empty."""
    given = arguments.parameters_given(context.launch_configurations)
    path = value("params_file")
    files = [arguments.existing_file("params_file", path)] if path else []
    return [*files, arguments_file(node, given)] if given else files


def arguments_file(node: str, given: dict) -> str:
    """Write `given` for this very node, so that it wins over every section of the params file; return the path.

    JSON is YAML with each string quoted. A dict handed to launch_ros becomes YAML with a bare y or n, which rcl reads
    as a boolean. The file is removed when launch has ended: a node that respawns reads it again.
    """
    with NamedTemporaryFile("w", prefix="lisard_arguments_", suffix=".yaml", delete=False) as file:
        json.dump({node: {"ros__parameters": given}}, file)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    return file.name


def profile_environment(environment) -> dict:
    """Let our own outputs use the shared-memory profile, unless the user has chosen a profile."""
    if fastdds.chosen(environment):
        return {}
    profile = Path(__file__).parent.parent / "config" / fastdds.PROFILE_NAME
    return fastdds.variables(profile, environment.get("AMENT_PREFIX_PATH", ""))
