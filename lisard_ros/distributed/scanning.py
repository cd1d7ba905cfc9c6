"""The scan of a recording: it is read once without decoding an image, which gives slices, labels, hash and losses."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise

from lisard_ros.bags.frame_order import FrameStart
from lisard_ros.bags.labels import Truth
from lisard_ros.bags.reader import Bag, Topics
from lisard_ros.bags.recordings import open_recording
from lisard_ros.distributed import codec
from lisard_ros.distributed.plan import (
    FrameSlice,
    RecordingScan,
    ReplayJob,
    ScannedFrames,
    ScanTask,
    SliceCutter,
    SliceTask,
)
from lisard_ros.tracking import NONE


def scan(job: ReplayJob, task: ScanTask) -> RecordingScan:
    """Read a recording to its end.

    Raises:
        DataError: It cannot be read, or a label cannot.
    """
    from_file = job.labels.file is not None  # joined with the frames of all recordings, in `merge.with_labels`
    topics, labels = (job.topics, job.labels) if not from_file else (Topics(job.topics.images, None, None), None)
    recording = open_recording(job.recordings[task.recording])
    try:
        bag = Bag([recording], topics, labels)
        names, has_boxes = bag.label_names(), bag.has_boxes()  # read before the images, whose losses `info` tells
        order, cutter = bag.order(0), SliceCutter(job.slice_s, bag.is_video or job.tracking != NONE)
        starts: list[tuple[int, FrameStart]] = []
        frames: list[tuple[str, int, int]] = []  # topic, number there, stamp
        for place, image in enumerate(order):
            frames.append((image.message.topic.name, image.number, image.stamp_ns))
            if cutter.begins(image.stamp_ns):
                starts.append((place, order.start_of(image)))
        found = ScannedFrames.of(bag.images_in(recording), frames)
        bag.join_labels({(0, topic): stamps_ns for topic, stamps_ns in found.by_topic().items()})
        truths = [bag.truth_of(0, topic, number) for topic, number, _ in frames]
        tasks = tuple(
            SliceTask(FrameSlice(task.recording, begin, end), order.settled(start), packed(truths[begin:end]))
            for ((begin, start), (end, _)) in pairwise([*starts, (len(frames), FrameStart())])
        )
        of_labels = (names, has_boxes, bag.joins(), bag.labels_met, found if from_file else None)
        return RecordingScan(task.recording, bag.info()[0], tasks, *of_labels)
    finally:
        recording.close()


def packed(truths: Sequence[Truth | None]) -> bytes:
    """Return what is recorded about frames as bytes, none where that is nothing."""
    return zlib.compress(codec.pack(list(truths)), 1) if any(truths) else b""


def unpacked(truths: bytes, count: int) -> list[Truth | None]:
    """Return what is recorded about so many frames."""
    return codec.unpack(zlib.decompress(truths)) if truths else [None] * count
