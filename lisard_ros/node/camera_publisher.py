"""The output topics of one camera: operational answers, attacked answers, the overlay image and the timing.

Topics are made for what the model gives: `classification` for whole frames, `detections` for boxes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray, Header
from vision_msgs.msg import Classification, Detection2DArray

from lisard_ros import frames
from lisard_ros.frames import Result
from lisard_ros.node import messages

Answer: TypeAlias = Classification | Detection2DArray

_DEPTH = 10


class CameraPublisher:
    """Publishers of one camera: the worker publishes the operational answers, the injection's thread the attacked ones.

    Attacked topics are made by that thread and the executor's.
    """

    def __init__(self, node: Node, camera: str, boxes: bool, id_format: str) -> None:
        """boxes: answers are Detection2DArray (a detector, or boxes that are looked at), else Classification."""
        self._node, self._camera, self._boxes, self._id_format = node, camera, boxes, id_format
        self._answers = self._publisher(f"~/{camera}")
        self._overlay = node.create_publisher(Image, f"~/{camera}/overlay", 1)
        self._timing = node.create_publisher(Float64MultiArray, f"~/{camera}/timing", _DEPTH)
        self._attacked: dict[str, Publisher[Answer]] = {}
        self._lock = threading.Lock()

    def publish(self, result: Result, header: Header) -> None:
        """Publish the operational answer under the input's header."""
        self._answers.publish(self._message(result.classification, result.detections, header))

    def publish_attacked(
        self,
        classification: frames.Classification | None,
        detections: frames.Detections | None,
        header: Header,
        group: str,
    ) -> None:
        """Publish the answer to an attacked copy; `group` separates several attacks ('' for a single one)."""
        self._attacked_publisher(group).publish(self._message(classification, detections, header))

    def offer_attacked(self, injections: Sequence[str]) -> None:
        """Make the publishers of these injections at once, so that subscribers match before the first answer."""
        for group in injections if len(injections) > 1 else [""] * len(injections):
            self._attacked_publisher(group)

    def overlay_wanted(self) -> bool:
        """Say whether anybody looks at the overlay."""
        return self._overlay.get_subscription_count() > 0

    def publish_overlay(self, result: Result, header: Header) -> None:
        """Draw and publish the overlay."""
        self._overlay.publish(messages.overlay(result, header))

    def publish_timing(self, stages_ms: Mapping[str, float]) -> None:
        """Publish how long the stages of one answered image took, while anybody listens."""
        if self._timing.get_subscription_count() > 0:
            self._timing.publish(messages.timing(stages_ms))

    def close(self) -> None:
        """Destroy all publishers."""
        for publisher in (self._answers, self._overlay, self._timing, *self._attacked.values()):
            self._node.destroy_publisher(publisher)
        self._attacked.clear()

    def _attacked_publisher(self, group: str) -> Publisher[Answer]:
        with self._lock:
            if group not in self._attacked:
                self._attacked[group] = self._publisher(attacked_topic(self._camera, group))
            return self._attacked[group]

    def _publisher(self, base: str) -> Publisher[Answer]:
        if self._boxes:
            return self._node.create_publisher(Detection2DArray, f"{base}/detections", _DEPTH)
        return self._node.create_publisher(Classification, f"{base}/classification", _DEPTH)

    def _message(
        self, classification: frames.Classification | None, detections: frames.Detections | None, header: Header
    ) -> Answer:
        if not self._boxes and classification is not None:
            return messages.classification(classification, header, self._id_format)
        if detections is None:
            raise ValueError(f"no {'boxes' if self._boxes else 'classification'} in the answer for {self._camera}")
        return messages.detections(detections, header, self._id_format)


def attacked_topic(camera: str, group: str) -> str:
    """Return the private name under which attacked answers of one attack are published."""
    token = re.sub(r"\W", "_", group)
    return f"~/{camera}/attacked" + (f"/{'a_' if token[0].isdigit() else ''}{token}" if token else "")
