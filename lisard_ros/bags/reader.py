"""Read frames and their labels out of a rosbag2 (sqlite3, mcap) or ROS 1 bag, without ROS and without DDS.

Every image of the chosen topics comes out once, in the order of the recording; labels are joined by header stamp.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection

from lisard_ros.bags.messages import CLASSIFICATION, COMPRESSED_IMAGE, DETECTIONS, IMAGE, typestore
from lisard_ros.errors import DataError, ImageError, UsageError, one_line
from lisard_ros.frames import Frame, Region
from lisard_ros.images import to_frame, to_region
from lisard_ros.message_fields import stamp_ns
from lisard_ros.naming import camera_name


@dataclass(frozen=True, slots=True)
class BagFrame:
    """One image of a bag and what is known about it.

    frame: None when the image could not be decoded; `error` is the reason. label: the true class of the whole frame, if
    recorded. regions: ground-truth or detector boxes recorded for this stamp, None when there is no such message.
    """

    topic: str
    stamp_ns: int
    frame: Frame | None
    error: ImageError | None
    decode_ms: float
    label: str | None
    regions: tuple[Region, ...] | None


@dataclass(frozen=True, slots=True)
class Topics:
    """Which topics to read. Labels and boxes belong to every image of their stamp; None means there are none."""

    images: tuple[str, ...]
    labels: str | None
    boxes: str | None


class Bag:
    """An open recording."""

    def __init__(self, path: Path, reader: AnyReader, topics: Topics) -> None:
        """Use `open_bag`, which also closes it."""
        self.path, self.topics, self._reader = path, topics, reader

    def count(self) -> int:
        """Return how many images the chosen topics hold."""
        return sum(c.msgcount for c in self._connections(self.topics.images))

    def frames(self) -> Iterator[BagFrame]:
        """Yield every image once; an image that cannot be decoded comes with its error."""
        labels: dict[int, str | None] = {}
        for stamp, message in self._by_stamp(self.topics.labels):
            best = max(message.results, key=lambda hypothesis: hypothesis.score, default=None)
            labels[stamp] = None if best is None else str(best.class_id)
        boxes = {
            stamp: tuple(region for item in message.detections if (region := to_region(item)) is not None)
            for stamp, message in self._by_stamp(self.topics.boxes)
        }
        for connection, raw in self._messages(self.topics.images):
            yield self._read(connection, raw, labels, boxes)

    def _read(
        self, connection: Connection, raw: bytes, labels: dict[int, str | None], boxes: dict[int, tuple[Region, ...]]
    ) -> BagFrame:
        started = time.perf_counter_ns()
        try:
            message: Any = self._reader.deserialize(raw, connection.msgtype)
            stamp = stamp_ns(message.header)
            frame, error = to_frame(message, camera_name(connection.topic)), None
        except ImageError as failure:
            frame, error = None, failure
        except Exception as failure:  # rosbags raises many kinds for bytes that do not fit their type
            stamp, frame, error = 0, None, ImageError("image message cannot be read", found=one_line(failure))
        elapsed_ms = (time.perf_counter_ns() - started) / 1e6
        return BagFrame(connection.topic, stamp, frame, error, elapsed_ms, labels.get(stamp), boxes.get(stamp))

    def _connections(self, topics: Sequence[str]) -> list[Connection]:
        return [c for c in self._reader.connections if c.topic in topics]

    def _by_stamp(self, topic: str | None) -> Iterator[tuple[int, Any]]:
        if topic is None:
            return
        for connection, raw in self._messages([topic]):
            try:
                message: Any = self._reader.deserialize(raw, connection.msgtype)
                stamp = stamp_ns(message.header)
            except Exception as error:  # see _read
                raise DataError(
                    f"a message of {topic} cannot be read",
                    found=one_line(error),
                    expected=connection.msgtype,
                    cure="choose another topic or repair the bag",
                ) from error
            yield stamp, message

    def _messages(self, topics: Sequence[str]) -> Iterator[tuple[Connection, bytes]]:
        """Yield serialised messages in the order of the recording; DataError where its files are damaged."""
        connections = self._connections(topics)
        stream = self._reader.messages(connections) if connections else iter(())
        count = 0
        while True:
            try:
                connection, _, raw = next(stream)
            except StopIteration:
                return
            except Exception as error:  # rosbags, sqlite3 and the decompressors each raise their own kinds
                raise DataError(
                    f"{self.path} breaks off after {count} messages of {', '.join(topics)}",
                    found=one_line(error),
                    expected="an undamaged recording",
                    cure="copy the bag again, or use --limit to stop before",
                ) from error
            count += 1
            yield connection, raw


@contextmanager
def open_bag(
    path: Path, images: Sequence[str] = (), labels: str | None = None, boxes: str | None = None
) -> Iterator[Bag]:
    """Open a bag and settle its topics.

    Args:
        path: A rosbag2 folder (sqlite3 or mcap) or a ROS 1 .bag file.
        images: Topics to read; empty: every image topic.
        labels: Topic with vision_msgs/Classification; None: the only such topic in the bag, if there is exactly one.
        boxes: Topic with vision_msgs/Detection2DArray; None: likewise.

    Raises:
        DataError: There is no readable bag, or it has no images.
        UsageError: A topic is not in the bag, or of another type.
    """
    if not os.path.exists(path):
        raise DataError(
            "no such bag", found=str(path), expected="a rosbag2 folder or a .bag file", cure="check the path"
        )
    with ExitStack() as opened:
        try:
            reader = AnyReader([path], default_typestore=typestore())
            opened.callback(_close, reader)
            reader.open()
            _require_plain(reader)
        except Exception as error:  # rosbags lets through what YAML, sqlite3 and struct raise for files that are no bag
            raise DataError(
                f"{path} is not a readable bag",
                found=one_line(error),
                expected="a rosbag2 folder with metadata.yaml, or a ROS 1 .bag",
                cure="copy it again; `ros2 bag reindex` restores a lost metadata.yaml",
            ) from error
        yield Bag(path, reader, _settle(reader, images, labels, boxes))


def _close(reader: AnyReader) -> None:
    """Close a reader that may have failed to open; what it stumbled over in metadata.yaml fails here again."""
    with suppress(Exception):
        reader.close()


def _require_plain(reader: AnyReader) -> None:
    """Refuse what metadata.yaml gives in place of names and counts; rosbags hands it on."""
    for connection in reader.connections:
        for value, kind in ((connection.topic, str), (connection.msgtype, str), (connection.msgcount, int)):
            if not isinstance(value, kind):
                raise TypeError(f"{value!r} in place of a {'count' if kind is int else 'name'}")


def _settle(reader: AnyReader, images: Sequence[str], labels: str | None, boxes: str | None) -> Topics:
    kinds: dict[str, str] = {c.topic: c.msgtype for c in reader.connections}
    of_images = tuple(topic for topic, kind in kinds.items() if kind in (IMAGE, COMPRESSED_IMAGE))
    for topic in images:
        _require(topic, kinds, (IMAGE, COMPRESSED_IMAGE))
    if not (images or of_images):
        raise DataError(
            "the bag has no images",
            found=", ".join(sorted(kinds)) or "no topics",
            expected=f"a topic of type {IMAGE} or {COMPRESSED_IMAGE}",
        )
    return Topics(tuple(images) or of_images, _only(labels, kinds, CLASSIFICATION), _only(boxes, kinds, DETECTIONS))


def _only(wanted: str | None, kinds: dict[str, str], kind: str) -> str | None:
    if wanted is not None:
        _require(wanted, kinds, (kind,))
        return wanted
    topics = [topic for topic, of_topic in kinds.items() if of_topic == kind]
    return topics[0] if len(topics) == 1 else None


def _require(topic: str, kinds: dict[str, str], expected: Sequence[str]) -> None:
    if kinds.get(topic) not in expected:
        found = kinds.get(topic, "no such topic")
        offer = ", ".join(t for t, kind in kinds.items() if kind in expected) or "none in this bag"
        wanted = " or ".join(expected)
        raise UsageError(f"topic {topic} does not fit", found=found, expected=wanted, cure=f"use: {offer}")
