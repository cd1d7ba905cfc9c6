"""Keeps the executor off the images of a camera, which the worker fetches itself."""

from __future__ import annotations

import math
import time
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.subscription import Subscription


class FetchGate(MutuallyExclusiveCallbackGroup):
    """Lets the executor see a subscription only when it may have events: now and then, and when the worker says so.

    The worker fetches an image when it can answer it. Until then the middleware's queue of one replaces images for
    nothing, and the sequence numbers count them. The events of the subscription go with it: waiting for them alone,
    Fast DDS reports unread data again and again.
    """

    # The executor looks in when it is awake after this time.
    LOOK_IN_S = 0.2

    def __init__(self) -> None:
        """Start closed, for one LOOK_IN_S."""
        super().__init__()
        self._closed = True
        self._open_s = time.monotonic()

    def open(self) -> None:
        """Let the executor look in once, as soon as it is awake."""
        self._open_s = -math.inf

    def can_execute(self, entity: Any) -> bool:
        """Asked by the executor before it waits for the subscription, then before it waits for each of its events."""
        if isinstance(entity, Subscription):
            now_s = time.monotonic()
            self._closed = now_s - self._open_s <= self.LOOK_IN_S
            if not self._closed:
                self._open_s = now_s
        return not self._closed and super().can_execute(entity)
