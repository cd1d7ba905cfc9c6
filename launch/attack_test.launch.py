"""Start the node `perception`, attack what its cameras see, write the report, and end.

All arguments of perception.launch.py can be given too. `ros2 launch` ends with 0 only if at least one limit was set,
all hold and the report is written, else with 1. Example:

    ros2 launch lisard_ros attack_test.launch.py bundle:=models/traffic_signs image_topics:=/front/image_raw \
        suite:=clean=0.9,universal=0.8,corruption/fog/3 report:=out/attack_test
"""

import shutil
import sys

from launch import LaunchDescription
from launch.actions import EmitEvent, ExecuteProcess, OpaqueFunction
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration

from lisard_ros.errors import DataError
from lisard_ros.node import arguments
from lisard_ros.node.launch_actions import declared, node_beside, node_name, values_of, when_ended


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, include the node with those of the test, and ask for the test once values are known."""
    handed_on = [(parameter, LaunchConfiguration(name)) for name, parameter in arguments.ATTACK_TEST_PARAMETERS.items()]
    node = node_beside(__file__, handed_on)
    return LaunchDescription([*declared(arguments.ATTACK_TEST), OpaqueFunction(function=start_test), node])


def start_test(context) -> list:
    """Return who asks for the test, and the handler that ends the launch by its answer."""
    value = values_of(context)
    timeout_s = arguments.seconds("timeout_s", value("timeout_s"), positive=True)
    # The interpreter that the node's script finds too: in a virtual environment it is another one than that of ros2.
    python = shutil.which("python3") or sys.executable
    node = node_name(context)
    words = [python, "-m", "lisard_ros.tools.ask", "self_test", node, "--active", "--timeout", str(timeout_s)]
    asker = ExecuteProcess(cmd=words, name="attack_test", output="both")

    def end(event) -> list:
        """End the launch."""
        if event.action is not asker:
            raise DataError(f"attack test: the node ended with {event.returncode}; its own message is above")
        if event.returncode != 0:
            raise DataError(f"attack test: not passed, or no report in {value('report')}; the answer is above")
        return [EmitEvent(event=Shutdown(reason=f"the attack test has passed; the report is in {value('report')}"))]

    return [when_ended(asker, end), asker]
