"""Recordings made of other things: labelled images, and what can still be read of a damaged recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lisard_ros.bags.messages import CLASSIFICATION, COMPRESSED_IMAGE, DETECTIONS, IMAGE, typestore
from lisard_ros.bags.recordings import RecordingInfo, open_recording
from lisard_ros.bags.storage import CDR
from lisard_ros.bags.writer import START_NS, BagWriter, JpegImage, LabelledBox, boxes_message, header, image_message
from lisard_ros.decoding import PNG_START
from lisard_ros.errors import DataError, UsageError
from lisard_ros.image_files import coco_images, folders
from lisard_ros.image_files.coco import read_instances
from lisard_ros.message_fields import NS_PER_S

IMAGE_TOPIC, ENCODED_TOPIC = "/camera/image_raw", "/camera/image_raw/compressed"
LABELS_TOPIC, BOXES_TOPIC = "/camera/labels", "/camera/boxes"
FRAME_ID = "camera"
JPEG_START = b"\xff\xd8\xff"


@dataclass(frozen=True, slots=True)
class MadeBag:
    """What was written: images, and labels or boxes by class."""

    images: int
    labels: dict[str, int]


@dataclass(frozen=True, slots=True)
class Repaired:
    """A repaired copy. source: what was read; copied: messages by topic; left_out: topics whose type nobody defines."""

    source: RecordingInfo
    copied: dict[str, int]
    left_out: tuple[str, ...]


def from_coco(path: Path, target: Path, hz: float) -> MadeBag:
    """Write the images of a COCO list with their boxes.

    Args:
        path: The list.
        target: The rosbag2 folder, which must not exist.
        hz: Images a second; the stamps are made up.

    Raises:
        DataError: The list or an image cannot be used.
    """
    names = list(dict.fromkeys(category.name for category in read_instances(path).categories))
    listed = coco_images.read(path, names)
    store, counts = typestore(), dict.fromkeys(names, 0)
    with BagWriter(_new(target), store) as bag:
        for number, one in enumerate(listed):
            stamp_ns, boxes = _stamp_ns(number, hz), []
            rows = zip(one.boxes.boxes_xyxy_px.tolist(), one.boxes.classes.tolist(), strict=True)
            for place, ((x0, y0, x1, y1), kind) in enumerate(rows):
                counts[names[kind]] += 1
                boxes.append(LabelledBox(f"{number}_{place}", names[kind], x0, y0, x1 - x0, y1 - y0))
            message = boxes_message(store, JpegImage(stamp_ns, FRAME_ID, b"", tuple(boxes)))
            bag.write(BOXES_TOPIC, DETECTIONS, stamp_ns, message)
            _write_image(bag, store, one.path, stamp_ns)
    return MadeBag(len(listed), counts)


def from_class_folders(folder: Path, target: Path, hz: float, labels: Sequence[str] = ()) -> MadeBag:
    """Write the images of a folder whose folders are the classes, as GTSRB has them.

    Args:
        folder: CLASS/image files; also GTSRB's own layout, numbered folders with .ppm files.
        target: The rosbag2 folder, which must not exist.
        hz: Images a second; the stamps are made up.
        labels: Names of numbered folders: the nth name is the class of folder n.

    Raises:
        DataError: There are no such images, a number has no name, or an image cannot be read.
    """
    files = list(_of_classes(folder, labels))
    if not files:
        raise DataError(f"folder {folder}", found="no images in folders of classes", expected="CLASS/image files")
    store = typestore()
    counts: dict[str, int] = {}
    with BagWriter(_new(target), store) as bag:
        for number, (file, name) in enumerate(files):
            stamp_ns = _stamp_ns(number, hz)
            counts[name] = counts.get(name, 0) + 1
            label = store.types["vision_msgs/msg/ObjectHypothesis"](class_id=name, score=1.0)
            top = header(store, stamp_ns, FRAME_ID)
            message = store.types[CLASSIFICATION](header=top, results=[label])
            bag.write(LABELS_TOPIC, CLASSIFICATION, stamp_ns, message)
            _write_image(bag, store, file, stamp_ns)
    return MadeBag(len(files), counts)


def repair(source: Path, target: Path) -> Repaired:
    """Copy every message that can be read into a new recording with index and metadata.

    Raises:
        DataError: Nothing can be read, or the source is a ROS 1 bag.
    """
    recording = open_recording(source)
    try:
        encodings = {topic.encoding for topic in recording.topics}
        if encodings - {CDR}:
            raise DataError(
                f"recording {source} is not of ROS 2",
                found=", ".join(sorted(encodings)),
                expected="CDR messages",
                cure="`rosbag reindex` repairs ROS 1 bags",
            )
        stores = {name: recording.typestore_of(name) for name in recording.kinds}
        wanted = [name for name, store in stores.items() if store is not None]
        copied = dict.fromkeys(wanted, 0)
        with BagWriter(_new(target), typestore()) as bag:
            for message in recording.messages(wanted):
                name = message.topic.name
                bag.write_raw(name, message.topic.kind, message.log_ns, message.raw, stores[name])
                copied[name] += 1
        return Repaired(recording.info(wanted), copied, tuple(name for name in stores if name not in copied))
    finally:
        recording.close()


def _of_classes(folder: Path, labels: Sequence[str]) -> Iterator[tuple[Path, str]]:
    if not folder.is_dir():
        raise DataError(f"folder {folder}", found="no folder", expected="folders of classes", cure="check the path")
    for own in sorted(one for one in folder.iterdir() if one.is_dir()):
        name = own.name
        if labels and name.isdigit():
            if int(name) >= len(labels):
                raise DataError(f"folder {own}", found=f"class {int(name)}", expected=f"0 to {len(labels) - 1}")
            name = labels[int(name)]
        for file in sorted(own.iterdir()):
            if file.suffix.lower() in folders.SUFFIXES:
                yield file, name


def _write_image(bag: BagWriter, store: Any, file: Path, stamp_ns: int) -> None:
    """Write a JPEG or PNG file as it is, others as pixels."""
    data, top = file.read_bytes(), header(store, stamp_ns, FRAME_ID)
    kind = "jpeg" if data.startswith(JPEG_START) else "png" if data.startswith(PNG_START) else ""
    if kind:
        array = np.frombuffer(data, np.uint8)
        message = store.types[COMPRESSED_IMAGE](header=top, format=kind, data=array)
        bag.write(ENCODED_TOPIC, COMPRESSED_IMAGE, stamp_ns, message)
        return
    bag.write(IMAGE_TOPIC, IMAGE, stamp_ns, image_message(store, top, folders.read_rgb(file)))


def _stamp_ns(number: int, hz: float) -> int:
    return START_NS + round(number * NS_PER_S / hz)


def _new(target: Path) -> Path:
    if target.exists():
        raise UsageError(f"{target} is there already", found="a file or folder", expected="a new folder")
    return target
