"""How the small processes beside the node (player, recorder, ask) start ROS and end on a signal."""

from __future__ import annotations

import signal
import time
from typing import Any

ROS_ARGUMENTS = ("--ros-args", "--disable-rosout-logs")
SLEEP_SLICE_S = 0.05


class Stop:
    """Becomes true when the process is told to end; rclpy stays usable until everything is written down."""

    def __init__(self) -> None:
        """Start as not asked."""
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        """Take over SIGINT and SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, *_: object) -> None:
        self.asked = True

    def sleep(self, seconds: float) -> bool:
        """Sleep; False when the process was told to end."""
        end = time.monotonic() + seconds
        while not self.asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, SLEEP_SLICE_S))
        return not self.asked
