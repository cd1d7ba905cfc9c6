"""The subscription of one camera: opened with the right reliability, and opened again when the publishers change.

A thin shell over rclpy; the decision itself is `qos.decide`.
"""

from __future__ import annotations

import threading
import time

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from lisard_ros.frames import Region
from lisard_ros.node import compat, messages, parameters, qos
from lisard_ros.node.box_subscriber import BoxSubscriber
from lisard_ros.node.channel import CameraChannel, CameraMessage, QueuedImage
from lisard_ros.node.fetch_gate import FetchGate
from lisard_ros.node.frame_counters import SequenceGaps
from lisard_ros.node.latest_frames import LatestFrameBuffer
from lisard_ros.node.message_waiter import MessageWaiter
from lisard_ros.node.parameters import NodeSettings

_POLICIES = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
_TYPES = {True: "sensor_msgs/msg/CompressedImage", False: "sensor_msgs/msg/Image"}


class ImageSubscriber:
    """Receives the images of one camera and queues them: in `frames`, or in `boxes` until their boxes come.

    All methods but `fetch`, `fetched` and `let_executor_look` are called in the executor's thread.
    """

    def __init__(
        self,
        node: Node,
        channel: CameraChannel,
        settings: NodeSettings,
        frames: LatestFrameBuffer,
        boxes: BoxSubscriber | None,
        waiter: MessageWaiter,
    ) -> None:
        """Subscribe at once; a QoS override of the topic replaces the parameters `reliability` and `queue_depth`."""
        self._node, self._frames, self._boxes, self._waiter = node, frames, boxes, waiter
        self._overrides = compat.qos_overrides(node, channel.topic.topic)
        self._policy: str = self._overrides.reliability or settings.reliability
        waiting = max(settings.queue_depth, settings.boxes_buffer) if boxes is not None else settings.queue_depth
        self._depth = self._overrides.depth or waiting
        self._gate = FetchGate() if self._depth == 1 and boxes is None else None
        self._regions = _fixed_regions(settings)
        self._lock = threading.Lock()
        self._gaps = SequenceGaps()
        self.channel = channel
        self.name: str = node.resolve_topic_name(channel.topic.topic)
        self.reliability: qos.Reliability = qos.decide(self._policy, self._offered())
        self._subscription: Subscription[CameraMessage] | None = self._subscribe()

    def close(self) -> None:
        """Take what still waits in the middleware, so that it is accounted for, and unsubscribe."""
        with self._lock:
            subscription = self._subscription
            if subscription is None:
                return
            for _ in range(self._depth if self._node.context.ok() else 0):
                taken = compat.take(subscription)
                if taken is None:
                    break
                self.received(*taken)  # asks the subscription for its publishers where a message names none
            self._subscription = None
        self._node.destroy_subscription(subscription)

    def received(self, message: CameraMessage, info: compat.MessageInfo) -> None:
        """Queue an image that the executor took, and wake the worker."""
        self._queue(message, info)
        self._waiter.wake()

    def _queue(self, message: CameraMessage, info: compat.MessageInfo) -> None:
        """Count an image and queue it."""
        gid, number = info.get("publisher_gid"), info.get("publication_sequence_number")
        missing = self._gaps.saw(gid, number, alone=gid is None and self._has_one_publisher())
        if missing:
            self.channel.counters.gap(missing)
        now_s = time.perf_counter()
        self.channel.counters.arrived(now_s)
        stamp_ns = messages.stamp_ns(message.header)
        if self.channel.stale_frames.saw(stamp_ns, now_s):
            self.channel.counters.jumped_back()
        image = QueuedImage(self.channel, message, stamp_ns, now_s, self._regions)
        if self._boxes is None:
            self._frames.put(image)
        else:
            self._boxes.join(image)

    def fetch(self) -> bool:
        """Take the newest image that waits in the middleware; False when there is none. Called by the worker.

        For that moment the worker executes the subscription's callback, so the executor keeps its hands off.
        """
        if self._gate is None:
            return False
        with self._lock:
            subscription = self._subscription
            if subscription is None or not self._gate.beginning_execution(subscription):
                return False
            try:
                taken = compat.take(subscription)
                if taken is not None:
                    self._queue(*taken)
                return taken is not None
            finally:
                self._gate.ending_execution(subscription)

    def let_executor_look(self) -> None:
        """Let the executor take the events of the subscription; called by the worker, which was woken by one."""
        if self._gate is not None:
            self._gate.open()

    @property
    def fetched(self) -> Subscription[CameraMessage] | None:
        """The subscription whose images the worker fetches; None where the executor takes them."""
        return None if self._gate is None else self._subscription

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
        self._waiter.wake()

    def silence(self, silent_s: float) -> str:
        """Say why no image comes: publishers, their QoS, and the topics that exist when there is no publisher."""
        offers = self.offers()
        reason = qos.mismatch(self.reliability, _TYPES[self.channel.topic.compressed], offers, self._overrides)
        return qos.describe(self.name, silent_s, offers, reason, () if offers else self._similar())

    def _has_one_publisher(self) -> bool:
        subscription = self._subscription
        return subscription is not None and subscription.get_publisher_count() == 1

    def _offered(self) -> tuple[str, ...]:
        return tuple(offer.reliability for offer in self.offers()) if self._policy == "auto" else ()

    def _similar(self) -> tuple[str, ...]:
        """Names of the image topics that somebody publishes, without our own overlays."""
        own = self._node.get_fully_qualified_name() + "/"
        known = self._node.get_topic_names_and_types()
        wanted = set(_TYPES.values())
        candidates = [name for name, types in known if wanted & set(types) and not name.startswith(own)]
        return tuple(name for name in candidates if self._node.count_publishers(name))[:8]

    def _subscribe(self) -> Subscription[CameraMessage]:
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=self._depth, reliability=_POLICIES[self.reliability]
        )
        self._gaps = SequenceGaps()
        return compat.subscribe(
            self._node,
            CompressedImage if self.channel.topic.compressed else Image,
            self.channel.topic.topic,
            self.received,
            profile,
            self.channel.counters.lost,
            self._review_soon,
            self._gate,
            self._overrides,
        )

    def _review_soon(self) -> None:
        """Review after this event callback: a subscription is not destroyed by its own event."""
        if self._node.executor is not None:
            self._node.executor.create_task(self.review)


def _fixed_regions(settings: NodeSettings) -> tuple[Region, ...] | None:
    """Return the boxes looked at in every frame; None where the frame or its boxes decide."""
    if parameters.regions_mode(settings) != "fixed":
        return None
    return tuple(Region(box) for box in parameters.fixed_boxes(settings))
