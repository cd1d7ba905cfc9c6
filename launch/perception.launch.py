"""Start the node `perception` for a model bundle and any number of cameras.

Every parameter of the node is a launch argument; the table in lisard_ros/node/parameters.py is the one source. An
argument left empty is not passed on, so that the params file, then the node's default, decides. Example:

    ros2 launch lisard_ros perception.launch.py bundle:=/models/signs image_topics:=/front/image_raw,/rear/image_raw
"""

import json
from pathlib import Path
from tempfile import NamedTemporaryFile

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

from lisard_ros.errors import UsageError
from lisard_ros.node.parameters import TABLE, Spec

# Fast DDS 2 knows only the second name, Fast DDS 3 prefers the first.
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
PROFILE = Path(__file__).parent.parent / "config" / "fastdds_shm.xml"
BOOLEANS = {"true": True, "false": False}

# Arguments that are no parameters in the table: name, default, description.
OTHER_ARGUMENTS = (
    ("namespace", "", "Namespace of the node, for example /front."),
    ("name", "perception", "Name of the node; ~ in the topics stands for namespace and name."),
    ("params_file", "", "YAML file with parameters of the node; arguments given here win over it."),
    ("use_sim_time", "", "Follow /clock instead of the system clock: true or false."),
    ("log_level", "", "Log level of the node: debug, info, warn, error or fatal."),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; the node is built once their values are known."""
    table = [(spec.field, "", describe(spec)) for spec in TABLE] + list(OTHER_ARGUMENTS)
    arguments = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in table]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_node)])


def describe(spec: Spec) -> str:
    """Describe a parameter as a launch argument: what it is, its form and its default."""
    form = "comma-separated list" if spec.kind.endswith("_array") else spec.expected
    unit = f", in {spec.unit}" if spec.unit else ""
    default = ",".join(map(str, spec.default)) if isinstance(spec.default, tuple) else str(spec.default)
    return f"{spec.description} ({form}{unit}; default of the node: {default or 'empty'})"


def start_node(context) -> list:
    """Return the node action for the values in `context`."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context).strip()

    node = Node(
        package="lisard_ros",
        executable="perception_node",
        name=value("name"),
        namespace=value("namespace"),
        parameters=parameter_files(value, full_name(context, value("namespace"), value("name"))),
        ros_arguments=["--log-level", value("log_level")] if value("log_level") else [],
        additional_env=profile_environment(context.environment),
        output="both",
    )
    return [node]


def full_name(context, namespace: str, name: str) -> str:
    """Return the node's full name as launch_ros makes it, within the groups that push a namespace."""
    pushed = context.launch_configurations.get("ros_namespace")
    return prefix_namespace(make_namespace_absolute(prefix_namespace(pushed, namespace)), name)


def parameter_files(value, node: str) -> list:
    """List the params file, if one is given, and then a file with the arguments that are not empty."""
    given = {spec.name: typed(spec.field, spec.kind, value(spec.field)) for spec in TABLE if value(spec.field)}
    if value("use_sim_time"):
        given["use_sim_time"] = typed("use_sim_time", "bool", value("use_sim_time"))
    files = [checked_file(value("params_file"))] if value("params_file") else []
    return [*files, arguments_file(node, given)] if given else files


def arguments_file(node: str, given: dict) -> str:
    """Write `given` for this very node, so that it wins over every section of the params file; return the path.

    JSON is YAML with each string quoted. A dict handed to launch_ros becomes YAML with a bare y or n, which rcl reads
    as a boolean.
    """
    with NamedTemporaryFile("w", prefix="lisard_arguments_", suffix=".yaml", delete=False) as file:
        json.dump({node: {"ros__parameters": given}}, file)
    return file.name


def checked_file(path: str) -> str:
    """Refuse a params file that is not there; launch_ros would go on without it."""
    if not Path(path).is_file():
        raise UsageError("launch argument 'params_file'", found=path, expected="a YAML file that exists")
    return path


def typed(name: str, kind: str, text: str):
    """Turn the text of a launch argument into a value of the parameter's kind."""
    try:
        if kind == "bool":
            return BOOLEANS[text.lower()]
        if kind == "string_array":
            return [part.strip() for part in text.split(",")]
        if kind == "double_array":
            return [float(part) for part in text.split(",")]
        return {"integer": int, "double": float, "string": str}[kind](text)
    except (KeyError, ValueError):
        raise UsageError(f"launch argument '{name}'", found=repr(text), expected=f"a value of type {kind}") from None


def profile_environment(environment) -> dict:
    """Let our own outputs use the shared-memory profile, unless the user has chosen a profile."""
    if any(environment.get(name) for name in PROFILE_VARIABLES):
        return {}
    return dict.fromkeys(PROFILE_VARIABLES, str(PROFILE))
