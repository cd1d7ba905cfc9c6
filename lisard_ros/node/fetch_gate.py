"""Keeps the executor off the images of a camera while the worker is busy."""

from __future__ import annotations

import time
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.subscription import Subscription

from lisard_ros.node.latest_frames import LatestFrameBuffer


class FetchGate(MutuallyExclusiveCallbackGroup):
    """Lets the executor fetch images only while the worker rests; a busy worker fetches its next ones itself.

    A camera faster than the model would otherwise spend the time of the model on images that are replaced at once. The
    middleware's queue of one replaces them for nothing, and the sequence numbers count them. The events of the
    subscription go with it: waiting for them alone, Fast DDS reports unread data again and again.
    """

    # However busy the worker is, the executor looks in when it is awake after this time, for the events.
    LOOK_IN_S = 0.2

    def __init__(self, frames: LatestFrameBuffer) -> None:
        """frames: tells whether the worker is at work or has an image waiting."""
        super().__init__()
        self._frames = frames
        self._closed = False
        self._open_s = 0.0

    def can_execute(self, entity: Any) -> bool:
        """Asked by the executor before it waits for the subscription, then before it waits for each of its events."""
        if isinstance(entity, Subscription):
            self._closed = True  # before asking, so that a worker that comes to rest in between sees it
            now_s = time.monotonic()
            if not self._frames.busy or now_s - self._open_s > self.LOOK_IN_S:
                self._closed, self._open_s = False, now_s
        return not self._closed and super().can_execute(entity)

    def reopen(self) -> bool:
        """Called by the worker when it rests; True when the executor was turned away and has to be woken."""
        was_closed, self._closed = self._closed, False
        return was_closed
