"""Frames of a camera topic of the running ROS 2 system, for `lisard attack run --topic`.

A node of its own that nobody needs to know: hidden, without services, gone afterwards.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from lisard_ros.errors import ImageError, UsageError
from lisard_ros.evaluation.live_images import FrameSpread
from lisard_ros.frames import Frame
from lisard_ros.images import to_frame
from lisard_ros.naming import camera_name
from lisard_ros.node import compat, qos
from lisard_ros.tools.player import message_class
from lisard_ros.tools.running_system import IMAGE_TYPES
from lisard_ros.tools.start import start_ros

SPIN_S = 0.1
DEPTH = 5


def collect(topic: str, count: int, wait_s: float, over_s: float = 0.0) -> Iterator[Frame]:
    """Yield frames of a camera, `count` of them or those that come within `wait_s` seconds.

    over_s: they are spread evenly over so many seconds; 0: they are taken as they come.

    Raises:
        UsageError: ROS does not start, the topic is none of images, or no frame comes in time.
    """
    camera = camera_name(topic)
    start_ros()
    try:
        node = rclpy.create_node(f"_lisard_attack_{os.getpid()}", start_parameter_services=False)
        yield from FrameCollector(node, topic, camera, wait_s).frames(count, FrameSpread(count, over_s))
    finally:
        compat.try_shutdown()


class FrameCollector:
    """Waits for the publisher of one topic, subscribes as it offers, and decodes what comes."""

    def __init__(self, node: Node, topic: str, camera: str, wait_s: float) -> None:
        """camera: the name under which frames go on; wait_s: for all frames together."""
        self._node, self._camera, self._wait_s = node, camera, wait_s
        self._topic = node.resolve_topic_name(topic)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._deadline_s = time.monotonic() + wait_s
        self._messages: deque[Any] = deque()
        self._unreadable = ""

    def frames(self, count: int, spread: FrameSpread) -> Iterator[Frame]:
        """Yield up to `count` frames, those that `spread` takes; UsageError when none comes."""
        reliability = self._subscribe()
        found = 0
        while found < count and time.monotonic() < self._deadline_s:
            self._executor.spin_once(timeout_sec=SPIN_S)
            while self._messages and found < count:
                try:
                    frame = to_frame(self._messages.popleft(), self._camera)
                except ImageError as error:
                    self._unreadable = str(error)
                    continue
                if spread.take():
                    found += 1
                    yield frame
        if not found:
            raise self._nothing(reliability)

    def _subscribe(self) -> qos.Reliability:
        """Subscribe once somebody publishes the topic."""
        while not (offers := compat.offers(self._node, self._topic)):
            if time.monotonic() > self._deadline_s:
                raise self._nothing("reliable")
            self._executor.spin_once(timeout_sec=SPIN_S)
        kind = offers[0].topic_type
        if kind not in IMAGE_TYPES:
            raise UsageError(f"topic {self._topic} has no images", found=kind, expected=" or ".join(IMAGE_TYPES))
        reliability = qos.decide("auto", (offer.reliability for offer in offers))
        profile = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy[reliability.upper()])

        def received(message: Any, info: compat.MessageInfo) -> None:
            self._messages.append(message)

        compat.subscribe(
            self._node, message_class(kind), self._topic, received, profile, lambda lost: None, lambda: None
        )
        return reliability

    def _nothing(self, reliability: qos.Reliability) -> UsageError:
        """Say why no frame came: nobody publishes, or nothing can be read."""
        if self._unreadable:
            found = f"none within {self._wait_s:g} s that can be read, the last: {self._unreadable}"
            return UsageError(f"no frame on {self._topic}", found=found, expected="images", cure="check the camera")
        offers = compat.offers(self._node, self._topic)
        known = self._node.get_topic_names_and_types()
        others = [name for name, types in known if set(types) & set(IMAGE_TYPES) and self._node.count_publishers(name)]
        kind = offers[0].topic_type if offers else IMAGE_TYPES[0]
        reason = qos.mismatch(reliability, kind, offers)
        return UsageError(
            f"no frame on {self._topic}",
            found=qos.describe(self._topic, self._wait_s, offers, reason, () if offers else others[:8]),
            expected="images",
            cure="look whether the camera publishes (lisard doctor --ros); --wait-s waits longer",
        )
