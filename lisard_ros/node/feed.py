"""The subscription of one camera: opened with the right reliability, and opened again when the publishers change.

A thin shell over rclpy; the decision itself is `qos.decide`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from lisard_ros.naming import CameraTopic
from lisard_ros.node import compat, qos
from lisard_ros.node.accounting import SequenceGaps

_POLICIES = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
_TYPES = {True: "sensor_msgs/msg/CompressedImage", False: "sensor_msgs/msg/Image"}


class Gate(MutuallyExclusiveCallbackGroup):
    """Lets the executor fetch images only while the worker rests; a busy worker fetches its next ones itself.

    A camera faster than the model would otherwise spend the time of the model on images that are replaced at once. The
    middleware's queue of one replaces them for nothing, and the sequence numbers count them. The events of the
    subscription go with it: waiting for them alone, Fast DDS reports unread data again and again.
    """

    # However busy the worker is, the executor looks in when it is awake after this time, for the events.
    LOOK_IN_S = 0.2

    def __init__(self, busy: Callable[[], bool]) -> None:
        """busy: says whether the worker is at work or has an image waiting."""
        super().__init__()
        self._busy = busy
        self._closed = False
        self._open_s = 0.0

    def can_execute(self, entity: Any) -> bool:
        """Asked by the executor before it waits for the subscription, then before it waits for each of its events."""
        if isinstance(entity, Subscription):
            self._closed = True  # before asking, so that a worker that comes to rest in between sees it
            now_s = time.monotonic()
            if not self._busy() or now_s - self._open_s > self.LOOK_IN_S:
                self._closed, self._open_s = False, now_s
        return not self._closed and super().can_execute(entity)

    def reopen(self) -> bool:
        """Called by the worker when it rests; True when the executor was turned away and has to be woken."""
        was_closed, self._closed = self._closed, False
        return was_closed


class Feed:
    """Receives the messages of one camera topic. All methods but `fetch` are called in the executor's thread."""

    def __init__(
        self,
        node: Node,
        topic: CameraTopic,
        policy: str,
        depth: int,
        on_message: Callable[[Any], None],
        on_lost: Callable[[int], None],
        on_gap: Callable[[int], None],
        gate: Gate | None = None,
        overrides: qos.Overrides = qos.Overrides(),  # noqa: B008  frozen
    ) -> None:
        """Subscribe at once; policy is the parameter `reliability`, which a QoS override replaces."""
        self.gate = gate
        self._lock = threading.Lock()
        policy = overrides.reliability or policy
        self._node, self._policy, self._depth, self._overrides = node, policy, depth, overrides
        self._on_message, self._on_lost, self._on_gap = on_message, on_lost, on_gap
        self._gaps = SequenceGaps()
        self.topic = topic
        self.name: str = node.resolve_topic_name(topic.topic)
        self.reliability: qos.Reliability = qos.decide(policy, self._offered())
        self._subscription: Any = self._subscribe()

    def close(self) -> None:
        """Unsubscribe."""
        with self._lock:
            subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._node.destroy_subscription(subscription)

    def fetch(self) -> None:
        """Take the newest image that waits in the middleware, if any; called by the worker.

        For that moment the worker executes the subscription's callback, so the executor keeps its hands off.
        """
        with self._lock:
            subscription = self._subscription
            if self.gate is None or subscription is None or not self.gate.beginning_execution(subscription):
                return
            try:
                taken = compat.take(subscription)
                if taken is not None:
                    self._received(*taken)
            finally:
                self.gate.ending_execution(subscription)

    def offers(self) -> tuple[qos.Offer, ...]:
        """Return what the publishers of the topic offer now."""
        return compat.offers(self._node, self.name)

    def review(self) -> None:
        """Subscribe again if the publishers of this moment call for another reliability."""
        if self._subscription is None:
            return
        wanted = qos.decide(self._policy, self._offered())
        if wanted == self.reliability:
            return
        self._node.get_logger().info(f"{self.name}: now subscribed {wanted}, as its publishers offer")
        self.reliability = wanted
        self.close()
        self._subscription = self._subscribe()

    def silence(self, silent_s: float) -> str:
        """Say why no image comes: publishers, their QoS, and the topics that exist when there is no publisher."""
        offers = self.offers()
        reason = qos.mismatch(self.reliability, _TYPES[self.topic.compressed], offers, self._overrides)
        return qos.describe(self.name, silent_s, offers, reason, () if offers else self._similar())

    def _offered(self) -> tuple[str, ...]:
        return tuple(offer.reliability for offer in self.offers()) if self._policy == "auto" else ()

    def _similar(self) -> tuple[str, ...]:
        """Names of the image topics that somebody publishes, without our own overlays."""
        own = self._node.get_fully_qualified_name() + "/"
        known = self._node.get_topic_names_and_types()
        wanted = set(_TYPES.values())
        candidates = [name for name, types in known if wanted & set(types) and not name.startswith(own)]
        return tuple(name for name in candidates if self._node.count_publishers(name))[:8]

    def _subscribe(self) -> Any:
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=self._depth, reliability=_POLICIES[self.reliability]
        )
        kind = CompressedImage if self.topic.compressed else Image
        self._gaps = SequenceGaps()
        return compat.subscribe(
            self._node,
            kind,
            self.topic.topic,
            self._received,
            profile,
            self._on_lost,
            self._review_soon,
            self.gate,
            self._overrides,
        )

    def _received(self, message: Any, info: Mapping[str, Any]) -> None:
        missing = self._gaps.saw(info.get("publisher_gid"), info.get("publication_sequence_number"))
        if missing:
            self._on_gap(missing)
        self._on_message(message)

    def _review_soon(self) -> None:
        """Review after this event callback: a subscription is not destroyed by its own event."""
        if self._node.executor is not None:
            self._node.executor.create_task(self.review)
