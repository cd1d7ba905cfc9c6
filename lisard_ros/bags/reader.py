"""Read frames and their labels out of a rosbag2 (sqlite3, mcap) or ROS 1 bag, without ROS and without DDS.

Every image of the chosen topics comes out once, in the order of the recording. Labels are joined by header stamp
(labels.py), which takes a first pass over the stamps of the images; a recording without labels is read once.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection

from lisard_ros.bags import label_files
from lisard_ros.bags.labels import (
    AMBIGUOUS,
    UNMATCHED,
    LabelJoin,
    LabelSeries,
    Truth,
    default_tolerance_ms,
    gap_ms,
    in_order,
    join,
    renamed,
)
from lisard_ros.bags.messages import CLASSIFICATION, COMPRESSED_IMAGE, DETECTIONS, IMAGE, header_stamp_ns, typestore
from lisard_ros.bags.recordings import RecordingInfo
from lisard_ros.errors import DataError, ImageError, UsageError, one_line
from lisard_ros.frames import Frame, Region
from lisard_ros.images import to_frame, to_region
from lisard_ros.message_fields import stamp_ns
from lisard_ros.naming import camera_name

STORAGE_SUFFIXES = (".db3", ".mcap", ".bag", ".zstd", ".lz4")
HASHED_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class BagFrame:
    """One image of a bag and what is known about it.

    frame: None when the image could not be decoded; `error` is the reason. label: the true class of the whole frame, if
    recorded. regions: ground-truth or detector boxes recorded for this frame, None when there is no such message.
    track: of the object that `label` is about, '' where none is named. recording: number of the recording, from 0.
    """

    topic: str
    stamp_ns: int
    frame: Frame | None
    error: ImageError | None
    decode_ms: float
    label: str | None
    regions: tuple[Region, ...] | None
    track: str = ""
    recording: int = 0


@dataclass(frozen=True, slots=True)
class Topics:
    """Which topics to read. Labels and boxes belong to the images of every camera; None means there are none."""

    images: tuple[str, ...]
    labels: str | None
    boxes: str | None


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """Where labels come from and how they are joined with frames.

    file: a COCO list or CSV file, instead of topics. names: recorded class -> class of the bundle, '' to leave it out.
    tolerance_ms: None for `default_tolerance_ms` of each camera.
    """

    file: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    tolerance_ms: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _CameraLabels:
    """The labels of one source for one camera, with the frames that were given one so far."""

    series: LabelSeries
    tolerance_ms: float
    places: np.ndarray[tuple[int], np.dtype[np.intp]]
    counts: Counter[int] = field(default_factory=Counter)

    def of_frame(self, number: int) -> Truth | None:
        """Return the label of a frame, by its number among those of the camera."""
        place = int(self.places[number])
        self.counts[min(place, 0)] += 1
        return None if place < 0 else self.series.truths[place]

    def report(self, topic: str) -> LabelJoin:
        """Count what was met so far."""
        used = len(np.unique(self.places[self.places >= 0]))
        counts = self.counts
        return LabelJoin(
            topic,
            self.series.source,
            self.tolerance_ms,
            counts[0],
            counts[UNMATCHED],
            counts[AMBIGUOUS],
            len(self.series.stamps_ns) - used,
        )


class Bag:
    """An open recording."""

    def __init__(self, path: Path, reader: AnyReader, topics: Topics, labels: LabelOptions | None = None) -> None:
        """Use `open_bag`, which also closes it."""
        self.path, self.topics, self._reader = path, topics, reader
        self._options = labels or LabelOptions()
        self._series: tuple[LabelSeries, ...] | None = None
        self._joined: dict[str, list[_CameraLabels]] = {}

    def count(self) -> int:
        """Return how many images the chosen topics hold."""
        return sum(c.msgcount for c in self._connections(self.topics.images))

    def label_names(self) -> Counter[str]:
        """Count the classes of all labels, under their new names where they are renamed."""
        return sum((series.names() for series in self._labels()), Counter())

    def has_boxes(self) -> bool:
        """Whether some label is a list of boxes."""
        if self._options.file is None:
            return self.topics.boxes is not None
        return any(truth is not None and truth.regions is not None for one in self._labels() for truth in one.truths)

    def info(self) -> RecordingInfo:
        """Describe the recording; its files are hashed."""
        files = storage_files(self.path)
        return RecordingInfo(str(self.path), sha256_of(files), sum(f.stat().st_size for f in files), self.count())

    def frames(self) -> Iterator[BagFrame]:
        """Yield every image once; an image that cannot be decoded comes with its error.

        Raises:
            DataError: The recording is damaged, or there are labels but none belongs to a frame.
        """
        self._joined = self._join()
        seen: Counter[str] = Counter()
        for connection, raw in self._messages(self.topics.images):
            topic = connection.topic
            truths = [labels.of_frame(seen[topic]) for labels in self._joined.get(topic, ())]
            seen[topic] += 1
            yield self._read(connection, raw, [truth for truth in truths if truth is not None])

    def joins(self) -> tuple[LabelJoin, ...]:
        """Say how labels met the frames that were read so far, camera by camera."""
        return tuple(labels.report(topic) for topic, of_topic in self._joined.items() for labels in of_topic)

    def _read(self, connection: Connection, raw: bytes, truths: Sequence[Truth]) -> BagFrame:
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
        label = next((truth.label for truth in truths if truth.label is not None), None)
        regions = next((truth.regions for truth in truths if truth.regions is not None), None)
        track = next((truth.track for truth in truths if truth.track), "")
        return BagFrame(connection.topic, stamp, frame, error, elapsed_ms, label, regions, track)

    def _labels(self) -> tuple[LabelSeries, ...]:
        """Return the series of all sources; they are read once."""
        if self._series is None:
            topics = (self.topics.labels, self.topics.boxes)
            of_topics = (in_order(topic, self._truths(topic)) for topic in topics if topic is not None)
            found = of_topics if self._options.file is None else label_files.read(self._options.file)
            self._series = tuple(renamed(series, self._options.names) for series in found)
        return self._series

    def _truths(self, topic: str) -> Iterator[tuple[int, Truth]]:
        for stamp, message in self._by_stamp(topic):
            if topic == self.topics.labels:
                best = max(message.results, key=lambda hypothesis: hypothesis.score, default=None)
                yield stamp, Truth(None if best is None else str(best.class_id))
            else:
                regions = (to_region(item) for item in message.detections)
                yield stamp, Truth(None, tuple(region for region in regions if region is not None))

    def _join(self) -> dict[str, list[_CameraLabels]]:
        """Give every frame its labels; takes a pass over the stamps of the images where there are labels."""
        series = [one for one in self._labels() if len(one.stamps_ns)]
        stamps: dict[str, list[int]] = {topic: [] for topic in self.topics.images}
        for connection, raw in self._messages(self.topics.images) if series else ():
            stamps[connection.topic].append(header_stamp_ns(raw, ros1=not self._reader.is2))
        joined: dict[str, list[_CameraLabels]] = {}
        gap = float("inf")
        for topic, of_topic in stamps.items():
            frames_ns = np.array(of_topic, np.int64)
            wanted = self._options.tolerance_ms
            tolerance_ms = default_tolerance_ms(frames_ns) if wanted is None else wanted
            for one in series:
                if one.topic in ("", topic) and len(frames_ns):
                    gap = min(gap, gap_ms(frames_ns, one))
                    labels = _CameraLabels(one, tolerance_ms, join(frames_ns, one, tolerance_ms))
                    joined.setdefault(topic, []).append(labels)
        everything = [labels for of_topic in joined.values() for labels in of_topic]
        if everything and all((labels.places == UNMATCHED).all() for labels in everything):
            raise DataError(
                f"no frame has a label within {everything[0].tolerance_ms:g} ms",
                found=f"the nearest one {gap:g} ms away ({everything[0].series.source})",
                expected="labels with the stamps of the images",
                cure="--label-tolerance-ms allows more",
            )
        return joined

    def _connections(self, topics: Sequence[str]) -> list[Connection]:
        return [c for c in self._reader.connections if c.topic in topics]

    def _by_stamp(self, topic: str) -> Iterator[tuple[int, Any]]:
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


def storage_files(path: Path) -> tuple[Path, ...]:
    """Return the files that hold a recording's messages, in the order of their names; metadata is none of them."""
    if path.is_file():
        return (path,)
    return tuple(sorted(file for file in path.iterdir() if file.suffix in STORAGE_SUFFIXES and file.is_file()))


def sha256_of(files: Sequence[Path]) -> str:
    """Hash the content of files one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while part := content.read(HASHED_AT_ONCE):
                digest.update(part)
    return digest.hexdigest()


@contextmanager
def open_bag(
    path: Path,
    images: Sequence[str] = (),
    labels: str | None = None,
    boxes: str | None = None,
    label_options: LabelOptions | None = None,
) -> Iterator[Bag]:
    """Open a bag and settle its topics.

    Args:
        path: A rosbag2 folder (sqlite3 or mcap) or a ROS 1 .bag file.
        images: Topics to read; empty: every image topic.
        labels: Topic with vision_msgs/Classification; None: the only such topic in the bag, if there is exactly one.
        boxes: Topic with vision_msgs/Detection2DArray; None: likewise.
        label_options: Labels beside the recording, and how labels are joined with frames.

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
        yield Bag(path, reader, _settle(reader, images, labels, boxes), label_options)


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
