"""Play a recording through the node `perception`, with /clock, and end when the recording ends.

All arguments of perception.launch.py can be given too; the node runs with use_sim_time. Example:

    ros2 launch lisard_ros replay.launch.py bag:=data/road_signs bundle:=models/traffic_signs \
        image_topics:=/camera/image_raw/compressed boxes_topic:=/camera/boxes
"""

import shutil
import sys
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from lisard_ros.errors import UsageError

PERCEPTION = Path(__file__).parent / "perception.launch.py"
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
PLAYERS = ("auto", "rosbag2", "lisard")

# Name, default, description; a default of None makes an argument required.
ARGUMENTS = (
    ("bag", None, "Folder of the rosbag2 recording to play. Required."),
    ("rate", "1.0", "Factor on the recorded pace."),
    ("clock_hz", "40", "How often /clock is published, in Hz."),
    (
        "player",
        "auto",
        "Who plays: rosbag2 (ros2 bag play), lisard (our own player, which waits for the node and uses "
        "the shared-memory profile), or auto: rosbag2 where it is installed.",
    ),
    ("player_reliability", "reliable", "Reliability that our own player offers: reliable or best_effort."),
    ("start_delay_s", "3.0", "Seconds that rosbag2 waits for the node before it plays; our own player needs none."),
    ("shutdown_delay_s", "2.0", "Seconds from the end of the recording to the end of the node, for the last answers."),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, include the node, and build the player once the values are known."""
    arguments = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(PERCEPTION)), launch_arguments=[("use_sim_time", "true")]
    )
    return LaunchDescription([*arguments, OpaqueFunction(function=start_player), node])


def start_player(context) -> list:
    """Return the player, and the handlers that end the launch with it or with the node."""

    def value(name: str) -> str:
        return LaunchConfiguration(name, default="").perform(context).strip()

    own_profile = any(context.environment.get(name) for name in PROFILE_VARIABLES)
    player = ExecuteProcess(cmd=command(value, own_profile), name="player", output="both")
    end = EmitEvent(event=Shutdown(reason="the recording has ended"))

    def when_any_process_ends(event, _context) -> list:
        if event.action is player:
            return [TimerAction(period=float(value("shutdown_delay_s")), actions=[end])]
        return [EmitEvent(event=Shutdown(reason=f"{event.process_name} has ended"))]

    return [RegisterEventHandler(OnProcessExit(on_exit=when_any_process_ends)), player]


def command(value, own_profile: bool) -> list:
    """Return the command line of the player that the argument `player` asks for."""
    if value("player") not in PLAYERS:
        raise UsageError("launch argument 'player'", found=value("player"), expected="one of " + ", ".join(PLAYERS))
    if not Path(value("bag")).exists():
        raise UsageError("launch argument 'bag'", found=value("bag"), expected="a rosbag2 recording that exists")
    rosbag2 = value("player") == "rosbag2" or (value("player") == "auto" and rosbag2_installed())
    return rosbag2_command(value) if rosbag2 else lisard_command(value, own_profile)


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


def lisard_command(value, own_profile: bool) -> list:
    """Play with our own player; it waits until the node has subscribed. A profile that the user has set stays."""
    topics = [topic.strip() for topic in value("image_topics").split(",") if topic.strip()]
    waits = [word for topic in topics for word in ("--wait-for", f"{topic}=1")]
    # The interpreter that the node's script finds too: in a virtual environment it is another one than that of ros2.
    python = shutil.which("python3") or sys.executable
    return [
        python,
        "-m",
        "lisard_ros.node.player",
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
