"""The subscription of `boxes_topic`: images wait here for the boxes that another detector found in them."""

from __future__ import annotations

import time
from dataclasses import replace

from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from lisard_ros.message_fields import stamp_ns
from lisard_ros.node import compat, messages
from lisard_ros.node.box_joiner import BoxJoiner, Key, Matched
from lisard_ros.node.channel import QueuedImage
from lisard_ros.node.frame_counters import NO_BOXES
from lisard_ros.node.latest_frames import LatestFrameBuffer
from lisard_ros.node.message_waiter import MessageWaiter
from lisard_ros.node.parameters import NodeSettings

_DEPTH = 50


class BoxSubscriber:
    """Queues images together with their boxes; an image whose boxes never come is counted as failed (no_boxes).

    All methods but those that `ImageSubscriber.fetch` reaches are called in the executor's thread; an image subscriber
    beside a box subscriber never fetches.
    """

    def __init__(
        self, node: Node, settings: NodeSettings, cameras: int, frames: LatestFrameBuffer, waiter: MessageWaiter
    ) -> None:
        """Subscribe at once. frames: where images with boxes go; waiter: what the worker sleeps in."""
        self._node, self._settings, self._frames, self._waiter = node, settings, frames, waiter
        self._joiner: BoxJoiner[QueuedImage] = BoxJoiner(settings.boxes_buffer * cameras, settings.boxes_wait_ms / 1e3)
        self._by_frame_id = cameras > 1
        self.received = 0
        options = compat.overriding(compat.qos_overrides(node, settings.boxes_topic))
        self._subscription = node.create_subscription(
            Detection2DArray,
            settings.boxes_topic,
            self._on_boxes,
            QoSProfile(depth=_DEPTH),
            qos_overriding_options=options,
        )

    @property
    def unmatched(self) -> int:
        """Messages of `boxes_topic` whose frame never came."""
        return self._joiner.boxes_given_up

    def use(self, settings: NodeSettings) -> None:
        """Take over settings that were changed at run time."""
        self._settings = settings

    def join(self, image: QueuedImage) -> None:
        """Queue the image with its boxes if they are here, else keep it waiting for them."""
        self._queue(self._joiner.frame(self._key(image.message.header), image, image.arrived_s))

    def expire(self) -> None:
        """Give up the images that have waited longer than `boxes_wait_ms`."""
        self._joiner.expire(time.perf_counter())
        self._count_given_up()

    def close(self) -> None:
        """Unsubscribe and give up what waits."""
        self._node.destroy_subscription(self._subscription)
        self._joiner.close()
        self._count_given_up()

    def _on_boxes(self, message: Detection2DArray) -> None:
        self.received += 1
        regions = messages.regions(message, self._settings.max_detections)
        self._queue(self._joiner.boxes(self._key(message.header), regions, time.perf_counter()))

    def _queue(self, matched: Matched[QueuedImage] | None) -> None:
        self._count_given_up()
        if matched is not None:
            self._frames.put(replace(matched.frame, regions=matched.regions))
            self._waiter.wake()

    def _count_given_up(self) -> None:
        text = f"no boxes on {self._settings.boxes_topic} with the stamp of this frame"
        for image in self._joiner.take_given_up():
            image.channel.counters.failed(NO_BOXES, text)

    def _key(self, header: Header) -> Key:
        """Return what joins images and boxes: the stamp, and with several cameras the frame_id."""
        return (header.frame_id if self._by_frame_id else "", stamp_ns(header))
