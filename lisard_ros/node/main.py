"""Entry point `perception_node`: starts the node, spins it, and ends in order on SIGINT and SIGTERM at any moment.

The signal handlers are set before anything heavy is imported; the executor has a thread of its own, so that the main
thread can always react. Exit status: 0 after a signal or shutdown, 1 the node cannot start or its backend does not
return, 2 invalid parameters.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported late, see above
    from rclpy.executors import Executor

    from lisard_ros.node.perception import Perception

# Ending in order takes well under a second on an idle machine, and may take so long on a loaded one. A model that is
# just being loaded, or a self test before activation, cannot be interrupted and is left behind then.
GRACE_S = 3.0
# Of that, what batches under way may take; and the end of a self test, where one runs.
RELEASE_S = 0.5
HELP_HEAD = """\
usage: perception_node --ros-args -p bundle:=BUNDLE -p image_topics:=TOPIC,TOPIC [-p NAME:=VALUE ...]
       perception_node --ros-args --params-file FILE.yaml
       ros2 launch lisard_ros perception.launch.py --show-args

Answers camera topics with vision_msgs. Topics, services and every parameter: docs/node.md.
Exit status: 0 after a signal or shutdown, 1 the node cannot start or its backend does not return, 2 invalid
parameters or arguments.

parameters:"""


class Ending:
    """Collects the wishes to end (signals, failures) and lets the main thread sleep until there is one.

    A pipe, not an Event: writing to it is safe in a signal handler. The system may give a signal to any thread, and
    Python runs its handler in the main one, which the pipe wakes for it.
    """

    def __init__(self) -> None:
        """Set the handlers; until `running` is set a signal ends the process at once, as nothing is open yet."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self.running = False
        self.requested = False
        self.status = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def request(self, status: int) -> None:
        """End with `status`, unless an end was requested before; callable from any thread."""
        if not self.requested:
            self.requested, self.status = True, status
            os.write(self._write, b"x")

    def wait(self) -> None:
        """Sleep until an end is requested."""
        while not self.requested:
            os.read(self._read, 1)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.running:
            os._exit(0)
        self.request(0)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until it is told to end; returns the exit status."""
    ending = Ending()
    argv = list(sys.argv if args is None else args)
    if {"-h", "--help"} & set(argv[1:]):
        print(help_text())
        return 0
    try:
        from lisard_ros.node import compat
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("rclpy", "rpyutils"):
            return _missing_package(error)
        return _complain(f"cannot import ROS 2 ({error}); source a ROS 2 installation or run make setup", 2)
    ending.running = True
    try:
        compat.init(argv)
    except Exception as error:  # rclpy has several classes for wrong arguments and files
        return _complain(f"{error}\nin YAML quote y, n, on, off, yes, no: unquoted they are booleans", 2)
    status = _run(argv, ending)
    compat.try_shutdown()
    return status


def help_text() -> str:
    """Return what --help prints: how to give parameters, and each with its form and default."""
    from lisard_ros.node.parameter_docs import help_lines

    return "\n".join([HELP_HEAD, *help_lines()])


def _run(argv: Sequence[str], ending: Ending) -> int:
    """Make the node, spin it in a thread, wait for the end, take everything down."""
    from rclpy.executors import SingleThreadedExecutor

    from lisard_ros.errors import LisardError
    from lisard_ros.node import compat

    try:
        from lisard_ros.node.perception import Perception
    except ImportError as error:
        return _missing_package(error)
    try:
        node = Perception(argv)
    except LisardError as error:
        return _complain(str(error), 2)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.create_task(_autostart, node, ending)
    spinner = threading.Thread(target=_spin, args=(executor, ending), name="lisard_executor", daemon=True)
    spinner.start()
    ending.wait()
    _leave_at_latest(GRACE_S, ending)
    executor.wake()
    spinner.join()
    node.release(RELEASE_S)
    executor.shutdown(timeout_sec=0)  # not sooner: threads of the node give it tasks, which Jazzy's then refuses
    node.destroy_node()
    if any(thread.name.startswith("lisard_") for thread in threading.enumerate()):
        # Stuck in a backend: it would keep the interpreter, or the runtime's own clean-up, from ending.
        compat.try_shutdown()
        _leave(ending)
    return ending.status


def _autostart(node: Perception, ending: Ending) -> None:
    """Bring the node up by itself; the process ends with status 1 when that fails."""
    if not node.autostart():
        ending.request(1)


def _spin(executor: Executor, ending: Ending) -> None:
    """Spin until an end is requested; anything that escapes from a callback ends the process with status 1."""
    from lisard_ros.node import compat
    from lisard_ros.node.backend_watch import BackendStuckError

    try:
        while not ending.requested:
            executor.spin_once()
    except compat.INTERRUPTS:
        ending.request(0)
    except BackendStuckError:  # reported by the node
        ending.request(1)
    except BaseException:
        if ending.requested:
            return
        ending.request(1)
        raise
    ending.request(0)


def _leave_at_latest(seconds: float, ending: Ending) -> None:
    """End the process after `seconds` even if something hangs."""
    timer = threading.Timer(seconds, _leave, (ending,))
    timer.daemon = True
    timer.start()


def _leave(ending: Ending) -> None:
    """End the process now, whatever its threads do."""
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(ending.status)


def _missing_package(error: ImportError) -> int:
    from lisard_ros import needs

    return _complain(str(needs.cannot_import(error)), 2)


def _complain(message: str, status: int) -> int:
    print(f"perception_node: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
