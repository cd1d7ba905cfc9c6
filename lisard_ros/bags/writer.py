"""Write rosbag2 recordings: images with ground truth, excerpts of other bags, and repaired copies of damaged ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys.store import Typestore

from lisard_ros.bags.messages import CLASSIFICATION, COMPRESSED_IMAGE, DETECTIONS, IMAGE
from lisard_ros.message_fields import from_ns

ROSBAG2_VERSION: Literal[8, 9] = 8
NO_POSE_VARIANCE = 36
START_NS = 1_700_000_000 * 10**9  # stamp of the first image of every recording made here


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """A ground-truth box in pixels of its image, with the class it holds."""

    id: str
    label: str
    x_px: float
    y_px: float
    width_px: float
    height_px: float


@dataclass(frozen=True, slots=True)
class JpegImage:
    """One encoded image with its ground truth; the bytes go into the bag as they are."""

    stamp_ns: int
    frame_id: str
    jpeg: bytes
    boxes: tuple[LabelledBox, ...]


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image with the class that it shows; rgb: uint8 [H, W, 3]."""

    stamp_ns: int
    frame_id: str
    rgb: NDArray[np.uint8]
    label: str


class BagWriter:
    """A rosbag2 recording under construction; use it in a `with` block."""

    def __init__(self, path: Path, store: Typestore, *, mcap: bool = True) -> None:
        """Create `path`, which must not exist."""
        self._store = store
        plugin = StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3
        self._writer = Writer(path, version=ROSBAG2_VERSION, storage_plugin=plugin)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        """Open the files."""
        self._writer.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Write the index and metadata.yaml."""
        self._writer.close()

    def write(self, topic: str, kind: str, stamp_ns: int, message: object) -> None:
        """Serialise `message` of type `kind` and append it to `topic`."""
        self.write_raw(topic, kind, stamp_ns, self._store.serialize_cdr(message, kind))

    def write_raw(
        self, topic: str, kind: str, stamp_ns: int, data: bytes | memoryview, store: Typestore | None = None
    ) -> None:
        """Append serialised bytes to `topic`. store: has the type, where that of the writer has not."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=store or self._store)
        self._writer.write(self._connections[topic], stamp_ns, data)


def header(store: Typestore, stamp_ns: int, frame_id: str) -> Any:
    """Build a std_msgs/Header."""
    sec, nanosec = from_ns(stamp_ns)
    stamp = store.types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    return store.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def boxes_message(store: Typestore, image: JpegImage) -> Any:
    """Build the Detection2DArray that holds the ground truth of `image`, each box with score 1."""
    top = header(store, image.stamp_ns, image.frame_id)
    detections = [_detection(store, top, box) for box in image.boxes]
    return store.types[DETECTIONS](header=top, detections=detections)


def _detection(store: Typestore, top: Any, box: LabelledBox) -> Any:
    types = store.types
    centre = types["vision_msgs/msg/Point2D"](x=box.x_px + box.width_px / 2, y=box.y_px + box.height_px / 2)
    pose = types["vision_msgs/msg/Pose2D"](position=centre, theta=0.0)
    bbox = types["vision_msgs/msg/BoundingBox2D"](center=pose, size_x=box.width_px, size_y=box.height_px)
    hypothesis = types["vision_msgs/msg/ObjectHypothesis"](class_id=box.label, score=1.0)
    result = types["vision_msgs/msg/ObjectHypothesisWithPose"](hypothesis=hypothesis, pose=_no_pose(store))
    return types["vision_msgs/msg/Detection2D"](header=top, results=[result], bbox=bbox, id=box.id)


def _no_pose(store: Typestore) -> Any:
    types = store.types
    position = types["geometry_msgs/msg/Point"](x=0.0, y=0.0, z=0.0)
    orientation = types["geometry_msgs/msg/Quaternion"](x=0.0, y=0.0, z=0.0, w=1.0)
    pose = types["geometry_msgs/msg/Pose"](position=position, orientation=orientation)
    return types["geometry_msgs/msg/PoseWithCovariance"](pose=pose, covariance=np.zeros(NO_POSE_VARIANCE))


def write_jpeg_bag(
    path: Path, store: Typestore, images: Iterable[JpegImage], image_topic: str, boxes_topic: str, *, mcap: bool
) -> int:
    """Write encoded images and their boxes under equal stamps, boxes first; return the number of images."""
    count = 0
    with BagWriter(path, store, mcap=mcap) as bag:
        for image in images:
            count += 1
            message = store.types[COMPRESSED_IMAGE](
                header=header(store, image.stamp_ns, image.frame_id),
                format="jpeg",
                data=np.frombuffer(image.jpeg, np.uint8),
            )
            bag.write(boxes_topic, DETECTIONS, image.stamp_ns, boxes_message(store, image))
            bag.write(image_topic, COMPRESSED_IMAGE, image.stamp_ns, message)
    return count


def write_labelled_bag(
    path: Path, store: Typestore, images: Iterable[LabelledImage], image_topic: str, labels_topic: str
) -> int:
    """Write raw rgb8 images and, under the same stamp, their labels; return the number of images."""
    count = 0
    with BagWriter(path, store) as bag:
        for image in images:
            count += 1
            top = header(store, image.stamp_ns, image.frame_id)
            label = store.types["vision_msgs/msg/ObjectHypothesis"](class_id=image.label, score=1.0)
            message = store.types[CLASSIFICATION](header=top, results=[label])
            bag.write(labels_topic, CLASSIFICATION, image.stamp_ns, message)
            bag.write(image_topic, IMAGE, image.stamp_ns, image_message(store, top, image.rgb))
    return count


def image_message(store: Typestore, top: Any, rgb: NDArray[np.uint8]) -> Any:
    """Make the message of an image. rgb: uint8 [height, width, 3]."""
    height, width = rgb.shape[:2]
    return store.types[IMAGE](
        header=top,
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(rgb).reshape(-1),
    )


def write_excerpt(path: Path, store: Typestore, source: Path, topics: Sequence[str], frames: int, *, mcap: bool) -> int:
    """Copy the first `frames` messages of each of `topics` from the bag `source`, bytes unchanged; return the count."""
    copied = dict.fromkeys(topics, 0)
    with AnyReader([source], default_typestore=store) as reader, BagWriter(path, store, mcap=mcap) as bag:
        wanted = [link for link in reader.connections if link.topic in copied]
        for link, stamp_ns, data in reader.messages(connections=wanted):
            if copied[link.topic] < frames:
                bag.write_raw(link.topic, link.msgtype, stamp_ns, data)
                copied[link.topic] += 1
    return sum(copied.values())
