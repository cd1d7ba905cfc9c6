"""Read frames and their labels out of recordings, without ROS and without DDS.

Every image of the chosen topics comes out once, in the order of its stamp where several cameras were recorded. Labels
are joined by header stamp (labels.py), which takes a first pass over the stamps of the images; a recording without
labels is read once. A file of labels is joined with the frames of all recordings together.
"""

from __future__ import annotations

import glob
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lisard_ros.bags import label_files
from lisard_ros.bags.frame_order import FrameOrder, FrameStart, StoredImage
from lisard_ros.bags.labels import (
    AMBIGUOUS,
    UNMATCHED,
    LabelJoin,
    LabelSeries,
    Stamps,
    Truth,
    added,
    default_tolerance_ms,
    gap_ms,
    in_order,
    join,
    renamed,
)
from lisard_ros.bags.messages import CLASSIFICATION, COMPRESSED_IMAGE, DETECTIONS, FFMPEG, IMAGE, VIDEO, header_stamp_ns
from lisard_ros.bags.recordings import Recording, RecordingInfo, open_recording
from lisard_ros.bags.storage import ROS1
from lisard_ros.bags.video import VideoStream, codec_of, require_av
from lisard_ros.errors import DataError, ImageError, UsageError, one_line
from lisard_ros.frames import Frame, Region
from lisard_ros.images import to_frame, to_region
from lisard_ros.message_fields import stamp_ns
from lisard_ros.naming import camera_name

IMAGES, VIDEOS = (IMAGE, COMPRESSED_IMAGE, VIDEO, FFMPEG), (VIDEO, FFMPEG)


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
    """The labels of one source for one camera of a recording, with the frames that were given one so far.

    unused: labels without a frame. Where several recordings share a series, the first one of them has their number.
    """

    series: LabelSeries
    tolerance_ms: float
    frames_ns: Stamps
    places: np.ndarray[tuple[int], np.dtype[np.intp]]
    unused: int
    counts: Counter[int] = field(default_factory=Counter)

    def of_frame(self, number: int) -> Truth | None:
        """Return the label of a frame, by its number among those of the camera, and count it."""
        place = int(self.places[number])
        self.counts[min(place, 0)] += 1
        return None if place < 0 else self.series.truths[place]

    def join(self, topic: str) -> LabelJoin:
        """Say how its labels met the frames that were counted."""
        counts = (self.counts[0], self.counts[UNMATCHED], self.counts[AMBIGUOUS])
        return LabelJoin(topic, self.series.source, self.tolerance_ms, *counts, self.unused)


class Bag:
    """One open recording or more, read one after the other."""

    def __init__(
        self,
        recordings: Sequence[Recording],
        topics: Topics,
        labels: LabelOptions | None = None,
        first_recording: int = 0,
    ) -> None:
        """Use `open_bag`, which also closes it. first_recording: number of the first one, if these are part of more."""
        self.recordings, self.topics = tuple(recordings), topics
        self._first = first_recording
        self._options = labels or LabelOptions()
        self._series: tuple[tuple[LabelSeries, ...], ...] | None = None
        self._joined: dict[tuple[int, str], list[_CameraLabels]] | None = None

    @property
    def name(self) -> str:
        """The path of the recording; of several the first, and how many more there are."""
        more = len(self.recordings) - 1
        return str(self.recordings[0].path) + (f" and {more} more" if more else "")

    def count(self) -> int:
        """Return how many images the chosen topics hold; 0 where nobody knows."""
        counts = [one.expected(self.images_in(one)) for one in self.recordings]
        return sum(count for count in counts if count is not None) if None not in counts else 0

    def label_names(self) -> Counter[str]:
        """Count the classes of all labels, under their new names where they are renamed."""
        files = self._labels()[:1] if self._options.file is not None else self._labels()
        return sum((series.names() for of_recording in files for series in of_recording), Counter())

    def has_boxes(self) -> bool:
        """Whether some label is a list of boxes."""
        if self._options.file is None:
            return self.topics.boxes is not None
        truths = (truth for of_recording in self._labels()[:1] for one in of_recording for truth in one.truths)
        return any(truth is not None and truth.regions is not None for truth in truths)

    def info(self) -> tuple[RecordingInfo, ...]:
        """Describe the recordings after their images were read; their files are hashed."""
        return tuple(one.info(self.images_in(one)) for one in self.recordings)

    def frames(self) -> Iterator[BagFrame]:
        """Yield every image once; an image that cannot be decoded comes with its error.

        Raises:
            DataError: As for `require_met`.
        """
        if self._joined is None:
            self.join_labels(self._stamps())
        self.require_met()
        for labels in self._of_cameras():
            labels.counts.clear()
        for number in range(len(self.recordings)):
            with_truths = (
                (image, self.truth_of(number, image.message.topic.name, image.number)) for image in self.order(number)
            )
            yield from self.decoded(number, with_truths)

    def order(self, number: int, start: FrameStart | None = None) -> FrameOrder:
        """Return the images of a recording, not decoded, in the order of `frames`.

        number: of the recording, from 0; start: where its first image is, None: all of them.
        """
        recording = self.recordings[number]
        return FrameOrder(recording, self.images_in(recording), start)

    def decoded(self, number: int, images: Iterable[tuple[StoredImage, Truth | None]]) -> Iterator[BagFrame]:
        """Decode images of a recording; those of a video from a key frame on.

        Args:
            number: Of the recording, from 0.
            images: In their `order`, each with what is recorded about it.
        """
        recording = self.recordings[number]
        videos: dict[str, VideoStream] = {}
        waiting: dict[tuple[str, int], BagFrame] = {}
        for image, truth in images:
            about = self._about(number, image, truth or Truth())
            if image.message.topic.kind in VIDEOS:
                waiting[about.topic, image.number] = about
                yield from _of_video(recording, image, videos, waiting)
            else:
                yield _read(recording, image, about)
        for topic, stream in videos.items():
            yield from (_with_image(waiting.pop((topic, place)), found) for place, found in stream.flush())

    @property
    def is_video(self) -> bool:
        """Whether some images are packets of a video, which can only be decoded one after the other."""
        return any(
            recording.kinds[topic] in VIDEOS for recording in self.recordings for topic in self.images_in(recording)
        )

    @property
    def labels_met(self) -> bool | None:
        """Whether a label belongs to some frame; None where there are none. Known once frames were read."""
        everything = self._of_cameras()
        return any((labels.places != UNMATCHED).any() for labels in everything) if everything else None

    def joins(self) -> tuple[LabelJoin, ...]:
        """Say how labels met the frames that were read so far, camera by camera."""
        joined = (self._joined or {}).items()
        return added(labels.join(topic) for (_, topic), of_camera in joined for labels in of_camera)

    def join_labels(self, stamps_ns: Mapping[tuple[int, str], Stamps]) -> None:
        """Give every frame its labels; that none fits is no error here.

        stamps_ns: of all images, by number of the recording and topic. Labels of a topic meet the frames of their
        own recording, those of a file the frames of every recording.
        """
        self._joined = {key: [] for key in stamps_ns}
        with_frames = [key for key, frames_ns in stamps_ns.items() if len(frames_ns)]
        if self._options.file is None:
            together = [[key] for key in with_frames]
        else:
            topics = dict.fromkeys(topic for _, topic in with_frames)
            together = [[key for key in with_frames if key[1] == topic] for topic in topics]
        for keys in together:
            number, topic = keys[0]
            for one in self._labels()[number]:
                if len(one.stamps_ns) and one.topic in ("", topic):
                    self._join_series(one, {key: stamps_ns[key] for key in keys})

    def require_met(self) -> None:
        """Refuse labels none of which belongs to a frame. They must be joined.

        Raises:
            DataError: Every label is too far from all frames, or those of a file fit several recordings alike.
        """
        everything = self._of_cameras()
        if self.labels_met is False:
            gap = min(gap_ms(labels.frames_ns, labels.series) for labels in everything)
            first = everything[0]
            raise labels_unmet(first.tolerance_ms, f"the nearest one {gap:g} ms away", first.series.source)
        of_recordings = everything and self._options.file is not None and len(self.recordings) > 1
        if of_recordings and not any((labels.places >= 0).any() for labels in everything):
            frames = sum(int(np.count_nonzero(labels.places == AMBIGUOUS)) for labels in everything)
            raise DataError(
                f"no frame has a label of its own in {everything[0].series.source}",
                found=f"{frames} frames whose label fits another one as well, such as those of recordings with the "
                "same stamps",
                expected="recordings that do not overlap in time",
                cure="replay them one by one, each with its own --labels",
            )

    def truth_of(self, number: int, topic: str, image: int) -> Truth | None:
        """Return what is recorded about an image, None: nothing, and count how its labels met it.

        number: of its recording; image: its number among those of the topic. The labels must be joined.
        """
        labels = (self._joined or {}).get((number, topic), ())
        truths = [truth for one in labels if (truth := one.of_frame(image)) is not None]
        if not truths:
            return None
        return Truth(
            next((truth.label for truth in truths if truth.label is not None), None),
            next((truth.regions for truth in truths if truth.regions is not None), None),
            next((truth.track for truth in truths if truth.track), ""),
        )

    def images_in(self, recording: Recording) -> tuple[str, ...]:
        """Return the chosen topics that a recording has."""
        return tuple(topic for topic in self.topics.images if topic in recording.kinds)

    def _about(self, number: int, image: StoredImage, truth: Truth) -> BagFrame:
        """What is known of an image before it is decoded."""
        of_truth = (truth.label, truth.regions, truth.track)
        return BagFrame(image.message.topic.name, image.stamp_ns, None, None, 0.0, *of_truth, self._first + number)

    # --- labels -------------------------------------------------------------------------------------------------------

    def _labels(self) -> tuple[tuple[LabelSeries, ...], ...]:
        """Return the series of each recording; they are read once. A file belongs to every recording."""
        if self._series is None:
            if self._options.file is not None:
                of_file = tuple(renamed(one, self._options.names) for one in label_files.read(self._options.file))
                self._series = (of_file,) * len(self.recordings)
            else:
                self._series = tuple(
                    tuple(
                        renamed(in_order(topic, self._truths(recording, topic)), self._options.names)
                        for topic in (self.topics.labels, self.topics.boxes)
                        if topic is not None and topic in recording.kinds
                    )
                    for recording in self.recordings
                )
        return self._series

    def _truths(self, recording: Recording, topic: str) -> Iterator[tuple[int, Truth]]:
        for stored in recording.messages([topic]):
            try:
                message: Any = recording.deserialize(stored)
                stamp = stamp_ns(message.header)
            except Exception as error:  # see _read
                raise DataError(
                    f"a message of {topic} cannot be read",
                    found=one_line(error),
                    expected=stored.topic.kind,
                    cure="choose another topic or repair the bag",
                ) from error
            if topic == self.topics.labels:
                best = max(message.results, key=lambda hypothesis: hypothesis.score, default=None)
                yield stamp, Truth(None if best is None else str(best.class_id))
            else:
                regions = (to_region(item) for item in message.detections)
                yield stamp, Truth(None, tuple(region for region in regions if region is not None))

    def _stamps(self) -> dict[tuple[int, str], Stamps]:
        """Read the stamps of all images of recordings with labels."""
        stamps: dict[tuple[int, str], list[int]] = {}
        for number, recording in enumerate(self.recordings):
            if any(len(one.stamps_ns) for one in self._labels()[number]):
                topics = self.images_in(recording)
                stamps.update(((number, topic), []) for topic in topics)
                for message in recording.messages(topics):
                    stamp = header_stamp_ns(message.raw, message.topic.encoding == ROS1)
                    stamps[number, message.topic.name].append(stamp)
        return {key: np.array(of_topic, np.int64) for key, of_topic in stamps.items()}

    def _of_cameras(self) -> list[_CameraLabels]:
        return [labels for of_camera in (self._joined or {}).values() for labels in of_camera]

    def _join_series(self, series: LabelSeries, stamps_ns: Mapping[tuple[int, str], Stamps]) -> None:
        """Join labels with the frames of one camera, of all recordings that share them."""
        wanted, counts = self._options.tolerance_ms, [len(frames_ns) for frames_ns in stamps_ns.values()]
        tolerances_ms = [default_tolerance_ms(one) if wanted is None else wanted for one in stamps_ns.values()]
        places = join(np.concatenate(list(stamps_ns.values())), series, np.repeat(tolerances_ms, counts))
        unused = len(series.stamps_ns) - len(np.unique(places[places >= 0]))
        of_recordings = np.split(places, np.cumsum(counts)[:-1])
        assert self._joined is not None
        for (key, frames_ns), tolerance_ms, of_one in zip(stamps_ns.items(), tolerances_ms, of_recordings, strict=True):
            self._joined[key].append(_CameraLabels(series, tolerance_ms, frames_ns, of_one, unused))
            unused = 0


def labels_unmet(tolerance_ms: float, found: str, source: str) -> DataError:
    """Return the error for labels none of which belongs to a frame."""
    return DataError(
        f"no frame has a label within {tolerance_ms:g} ms",
        found=f"{found} ({source})",
        expected="labels with the stamps of the images",
        cure="--label-tolerance-ms allows more",
    )


def _with_image(about: BagFrame, found: Frame | ImageError, decode_ms: float = 0.0) -> BagFrame:
    frame, error = (found, None) if isinstance(found, Frame) else (None, found)
    return replace(about, frame=frame, error=error, decode_ms=decode_ms)


def _read(recording: Recording, image: StoredImage, about: BagFrame) -> BagFrame:
    started = time.perf_counter_ns()
    found: Frame | ImageError
    try:
        found = to_frame(recording.deserialize(image.message), camera_name(about.topic))
    except ImageError as failure:
        found = failure
    except Exception as failure:  # rosbags raises many kinds for bytes that do not fit their type
        found = ImageError("image message cannot be read", found=one_line(failure))
    return _with_image(about, found, (time.perf_counter_ns() - started) / 1e6)


def _of_video(
    recording: Recording,
    image: StoredImage,
    videos: dict[str, VideoStream],
    waiting: dict[tuple[str, int], BagFrame],
) -> Iterator[BagFrame]:
    """Decode a packet; yields the images that are ready, each with what is known of its own packet."""
    topic, started = image.message.topic.name, time.perf_counter_ns()
    try:
        message = recording.deserialize(image.message)
        codec = codec_of(message)
        frame_id = str(message.header.frame_id if hasattr(message, "header") else message.frame_id)
        if topic not in videos or videos[topic].codec != codec:
            left = videos.pop(topic, None)
            yield from (_with_image(waiting.pop((topic, n)), found) for n, found in (left.flush() if left else ()))
            videos[topic] = VideoStream(codec, camera_name(topic))
        decoded = list(videos[topic].push(image.number, image.stamp_ns, frame_id, bytes(message.data)))
    except ImageError as failure:
        decoded = [(image.number, failure)]
    except UsageError:
        raise
    except Exception as failure:  # see _read
        decoded = [(image.number, ImageError("a video packet cannot be read", found=one_line(failure)))]
    elapsed_ms = (time.perf_counter_ns() - started) / 1e6
    yield from (_with_image(waiting.pop((topic, n)), found, elapsed_ms) for n, found in decoded)


def found_paths(words: Sequence[str | Path]) -> tuple[Path, ...]:
    """Resolve paths and patterns (`drives/*`) of recordings, each once.

    Raises:
        DataError: A pattern fits nothing.
        UsageError: A recording is named twice.
    """
    paths: list[Path] = []
    for word in words:
        text = str(word)
        if os.path.exists(text) or not glob.has_magic(text):
            paths.append(Path(text))
            continue
        fitting = sorted(glob.glob(text))  # noqa: PTH207  # Path.glob takes no absolute patterns
        if not fitting:
            raise DataError("no such bag", found=text, expected="a pattern that fits recordings", cure="check the path")
        paths += map(Path, fitting)
    real = [os.path.realpath(path) if os.path.exists(path) else str(path) for path in paths]
    twice = next((path for path, one in zip(paths, real, strict=True) if real.count(one) > 1), None)
    if twice is not None:
        raise UsageError("a recording is named twice", found=twice, expected="each recording once", cure="name it once")
    return tuple(paths)


@contextmanager
def open_bag(
    path: str | Path | Sequence[str | Path],
    images: Sequence[str] = (),
    labels: str | None = None,
    boxes: str | None = None,
    label_options: LabelOptions | None = None,
) -> Iterator[Bag]:
    """Open recordings and settle their topics.

    Args:
        path: A rosbag2 folder (sqlite3 or mcap), a .mcap, .db3 or ROS 1 .bag file, a pattern of such, or several.
        images: Topics to read; empty: every image topic.
        labels: Topic with vision_msgs/Classification; None: the only such topic in the bag, if there is exactly one.
        boxes: Topic with vision_msgs/Detection2DArray; None: likewise.
        label_options: Labels beside the recording, and how labels are joined with frames.

    Raises:
        DataError: There is no readable bag, or it has no images.
        UsageError: A topic is not in the bag, or of another type; video and no package to decode it.
    """
    words = [path] if isinstance(path, (str, Path)) else path
    with ExitStack() as opened:
        recordings = []
        for one in found_paths(words):
            recordings.append(open_recording(one))
            opened.callback(recordings[-1].close)
        kinds: dict[str, str] = {}
        for recording in recordings:
            kinds.update(recording.kinds)
        damage = [line for recording in recordings for line in recording.damage]
        topics = _settle(kinds, images, labels, boxes, damage)
        if any(kinds[topic] in VIDEOS for topic in topics.images):
            require_av()
        yield Bag(recordings, topics, label_options)


def _settle(
    kinds: dict[str, str], images: Sequence[str], labels: str | None, boxes: str | None, damage: Sequence[str]
) -> Topics:
    of_images = tuple(topic for topic, kind in kinds.items() if kind in IMAGES)
    for topic in images:
        _require(topic, kinds, IMAGES)
    if not (images or of_images):
        raise DataError(
            "the bag has no images",
            found="; ".join(
                [", ".join(f"{name} ({kind})" for name, kind in sorted(kinds.items())) or "no topics", *damage]
            ),
            expected="a topic of type " + ", ".join(IMAGES),
            cure="replay a recording of a camera; `lisard bag info` lists what is in one",
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
