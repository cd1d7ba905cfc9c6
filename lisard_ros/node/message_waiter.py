"""Waits for images outside the executor, so that a frame does not cost one of its rounds.

For every message rclpy's executor builds a wait set of all entities of the node, some thirty, in Python.
This one has the image subscriptions alone. rclpy has the wait set from Humble on, but no public name for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.subscription import Subscription

FOREVER_NS = -1
_InvalidHandle = rclpy_implementation.InvalidHandle


class MessageWaiter:
    """Sleeps until a subscription has a message; one thread waits, any thread wakes it."""

    def __init__(self, node: Node) -> None:
        """Wait in the context of `node`."""
        self._context: Any = node.context
        self._guard = GuardCondition(None, None, context=node.context)

    def wait(self, subscriptions: Sequence[Subscription[Any]], timeout_s: float | None = None) -> bool:
        """Return when one of the subscriptions has a message or an event, after `wake`, or after `timeout_s`.

        Returns:
            True after `wake` and after the timeout: there need not be a message.
        """
        with ExitStack() as held:  # what is destroyed meanwhile stays valid until this is left
            handles = []
            for subscription in subscriptions:
                try:
                    held.enter_context(subscription.handle)
                except _InvalidHandle:
                    continue
                handles.append(subscription.handle)
            try:
                held.enter_context(self._guard.handle)
                held.enter_context(self._context.handle)
            except _InvalidHandle:
                return True
            wait_set = rclpy_implementation.WaitSet(len(handles), 1, 0, 0, 0, 0, self._context.handle)
            wait_set.clear_entities()
            for handle in handles:
                wait_set.add_subscription(handle)
            wait_set.add_guard_condition(self._guard.handle)
            begin_s = time.monotonic()
            wait_set.wait(FOREVER_NS if timeout_s is None else max(0, int(timeout_s * 1e9)))
            timed_out = timeout_s is not None and time.monotonic() - begin_s >= timeout_s
            return timed_out or bool(wait_set.get_ready_entities("guard_condition"))

    def wake(self) -> None:
        """End a wait that is under way, or the next one."""
        self._guard.trigger()

    def close(self) -> None:
        """Free the guard condition; nobody may wait any more."""
        self._guard.destroy()
