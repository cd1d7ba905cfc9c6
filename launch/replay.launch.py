"""Play a recording through the node `perception`, with /clock, and end when the recording ends.

All arguments of perception.launch.py can be given too; the node runs with use_sim_time. `ros2 launch` ends with 1 when
node or player fail, or one of `limits` does not hold. Example:

    ros2 launch lisard_ros replay.launch.py bag:=data/road_signs bundle:=models/traffic_signs \
        image_topics:=/camera/image_raw/compressed boxes_topic:=/camera/boxes
"""

import shutil
import sys
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchDescription
from launch.actions import EmitEvent, ExecuteProcess, OpaqueFunction, TimerAction
from launch.events import Shutdown

from lisard_ros.errors import DataError, UsageError
from lisard_ros.node import arguments, fastdds
from lisard_ros.node.launch_actions import declared, full_name, node_beside, node_name, values_of, when_ended


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, include the node, and build the player once the values are known."""
    node = node_beside(__file__, [("use_sim_time", "true")])
    return LaunchDescription([*declared(arguments.REPLAY), OpaqueFunction(function=start_player), node])


def start_player(context) -> list:
    """Return the player, and the handlers that end the launch with it or with the node."""
    value = values_of(context)
    topics = image_topics(context, value)
    arguments.check_recording(Path(value("bag")), topics, named_elsewhere=bool(value("params_file")))
    delay_s = arguments.seconds("shutdown_delay_s", value("shutdown_delay_s"))
    if value("limits"):
        words = judged_command(value, topics, node_name(context))
    else:
        words = command(value, topics, fastdds.chosen(context.environment))
    player = ExecuteProcess(cmd=words, name="player", output="both")
    end = EmitEvent(event=Shutdown(reason="the recording has ended"))

    def answer(event) -> list:
        """End the launch."""
        if event.returncode != 0:
            what = "the node" if event.action is not player else "the replay" if value("limits") else "the player"
            raise DataError(f"replay: {what} ended with {event.returncode}; its own message is above")
        if event.action is player:
            return [TimerAction(period=delay_s, actions=[end])]
        return [EmitEvent(event=Shutdown(reason=f"{event.process_name} has ended"))]

    return [when_ended(player, answer), player]


def image_topics(context, value) -> tuple:
    """Return the full names of the topics that the node will subscribe to."""
    names = [name.strip() for name in value("image_topics").split(",") if name.strip()]
    return tuple(full_name(context, value("namespace"), name) for name in names)


def judged_command(value, topics: tuple, node: str) -> list:
    """Return the command line that plays through the node and judges limits by what comes back."""
    if not value("bundle"):
        raise UsageError("launch argument 'bundle'", found="nothing", expected="the bundle, which `limits` are about")
    check_pace(value)
    given = ("detector", "backend", "precision", "boxes_topic")
    options = [word for name in given if value(name) for word in (f"--{name.replace('_', '-')}", value(name))]
    return [
        shutil.which("python3") or sys.executable,
        "-m",
        "lisard_ros",
        "replay",
        value("bag"),
        "--bundle",
        value("bundle"),
        "--topics",
        ",".join(topics),
        "--injections",
        value("injections"),
        "--live",
        "--node",
        node,
        "--rate",
        value("rate"),
        "--clock",
        value("clock_hz"),
        "--reliability",
        value("player_reliability"),
        "--limits",
        value("limits"),
        *options,
        *(["--json", value("report")] if value("report") else []),
    ]


def check_pace(value) -> None:
    """Refuse a pace that is no number."""
    for name in ("rate", "clock_hz"):
        arguments.seconds(name, value(name), positive=True)


def command(value, topics: tuple, own_profile: bool) -> list:
    """Return the command line of the player that the argument `player` asks for."""
    check_pace(value)
    arguments.seconds("start_delay_s", value("start_delay_s"))
    rosbag2 = value("player") == "rosbag2" or (value("player") == "auto" and rosbag2_installed())
    return rosbag2_command(value) if rosbag2 else lisard_command(value, topics, own_profile)


def rosbag2_installed() -> bool:
    """Tell whether `ros2 bag play` can be run."""
    try:
        get_package_prefix("ros2bag")
    except (PackageNotFoundError, OSError):
        return False
    return shutil.which("ros2") is not None


def rosbag2_command(value) -> list:
    """Play with rosbag2; it cannot wait for a subscriber, so it waits for a time."""
    return [
        "ros2",
        "bag",
        "play",
        value("bag"),
        "--clock",
        value("clock_hz"),
        "--rate",
        value("rate"),
        "--delay",
        value("start_delay_s"),
        "--disable-keyboard-controls",
    ]


def lisard_command(value, topics: tuple, own_profile: bool) -> list:
    """Play with our own player; it waits until the node has subscribed. A profile that the user has set stays."""
    waits = [word for topic in topics for word in ("--wait-for", f"{topic}=1")]
    # The interpreter that the node's script finds too: in a virtual environment it is another one than that of ros2.
    python = shutil.which("python3") or sys.executable
    return [
        python,
        "-m",
        "lisard_ros.tools.player",
        value("bag"),
        "--clock",
        value("clock_hz"),
        "--rate",
        value("rate"),
        "--reliability",
        value("player_reliability"),
        *waits,
        *([] if own_profile else ["--profile"]),
    ]
