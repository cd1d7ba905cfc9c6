"""Log lines about trouble that may come with every frame."""

from __future__ import annotations

import time

from rclpy.node import Node

# One log line for each kind of trouble in this time; the counters in /diagnostics miss nothing.
_REPEAT_AFTER_S = 5.0


class ThrottledLog:
    """Writes warnings to the node's log, each kind at most once in a while; callable from any thread."""

    def __init__(self, node: Node) -> None:
        """Log as `node`."""
        self._logger = node.get_logger()
        self._logged_at_s: dict[str, float] = {}

    def warn(self, kind: str, text: str) -> None:
        """Log `text`, unless something of the same `kind` was logged a moment ago."""
        now_s = time.monotonic()
        if now_s - self._logged_at_s.get(kind, -_REPEAT_AFTER_S) >= _REPEAT_AFTER_S:
            self._logged_at_s[kind] = now_s
            self._logger.warning(text)

    def frame_failed(self, camera: str, cause: str, message: str) -> None:
        """Log why a frame of `camera` was not answered; '' stands for the worker as a whole."""
        self.warn(f"{camera} {cause}", f"{camera or 'worker'}: {cause}: {message}")
