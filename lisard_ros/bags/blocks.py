"""Which frames of a recording are independent evidence: blocks of frames that resemble each other.

Neighbouring frames show the same scene, so an interval counts blocks, not frames. A frame whose image was there before
belongs to the block of its first appearance, wherever it comes again. Blocks are settled when all frames are known: of
each frame its stamp, recording, image and tracks are kept, so parts of a replay can be joined before.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lisard_ros.errors import UsageError
from lisard_ros.evaluation.limits import DEFAULT_BLOCK_S
from lisard_ros.frames import Frame
from lisard_ros.growing import extend
from lisard_ros.message_fields import NS_PER_S

TIME, TRACK, BAG, FRAME = BY = ("time", "track", "bag", "frame")
NO_IMAGE = 0  # the fingerprint of a frame that could not be decoded
_FINGERPRINT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class BlockRule:
    """What a block is, one of BY, and for stretches of time their length in seconds; else that is 0.

    time: frames of the same stretch of time, of all cameras, counted from the first stamp of their recording. track:
    frames that a chain of tracks (objects with an id) connects. bag: frames of one recording. frame: each frame alone.
    """

    by: str = TIME
    block_s: float = DEFAULT_BLOCK_S

    def __post_init__(self) -> None:
        """Leave out a length that plays no part."""
        if self.by != TIME:
            object.__setattr__(self, "block_s", 0.0)


@dataclass(slots=True, eq=False)
class FrameLog:
    """What is kept of each frame of one camera, in the order in which they were answered.

    recordings: numbers from 0. images: fingerprints, NO_IMAGE where there is none. truths: digests of the recorded
    labels. track_counts: how many tracks each frame shows; track_numbers: these, one frame after the other. A track's
    number is the same in all cameras of a state and is not used again in another recording.
    """

    stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    recordings: array[int] = field(default_factory=lambda: array("i"))
    images: array[int] = field(default_factory=lambda: array("Q"))
    truths: array[int] = field(default_factory=lambda: array("Q"))
    track_counts: array[int] = field(default_factory=lambda: array("H"))
    track_numbers: array[int] = field(default_factory=lambda: array("I"))

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self.stamps_ns)

    def add(self, stamp_ns: int, recording: int, image: int, truth: int, tracks: Sequence[int]) -> None:
        """Take the next frame."""
        self.stamps_ns.append(stamp_ns)
        self.recordings.append(recording)
        self.images.append(image)
        self.truths.append(truth)
        self.track_counts.append(len(tracks))
        self.track_numbers.extend(tracks)

    def append(self, later: FrameLog, track_numbers: NDArray[np.integer]) -> None:
        """Take the frames that come next. track_numbers: of each number of `later` that in this one."""
        for name in ("stamps_ns", "recordings", "images", "truths", "track_counts"):
            getattr(self, name).extend(getattr(later, name))
        extend(self.track_numbers, track_numbers[np.array(later.track_numbers, np.intp)])


@dataclass(frozen=True, slots=True, eq=False)
class CameraBlocks:
    """blocks [F]: of each frame of a camera its block, from 0. copies: frames whose image was there before."""

    blocks: NDArray[np.int64]
    copies: int


def settle(rule: BlockRule, cameras: Sequence[FrameLog]) -> list[CameraBlocks]:
    """Give the frames of all cameras their blocks, numbered in the order of appearance, camera by camera.

    Raises:
        UsageError: Blocks by track, and no label names one.
    """
    if not cameras or not any(len(one) for one in cameras):
        return [CameraBlocks(np.zeros(len(one), np.int64), 0) for one in cameras]
    stamps, recordings = (
        np.concatenate([np.array(getattr(one, name), np.int64) for one in cameras])
        for name in ("stamps_ns", "recordings")
    )
    images = np.concatenate([np.array(one.images, np.uint64) for one in cameras])
    first = _first_appearance(images, np.lexsort((stamps, recordings)))  # stable: of one stamp, by camera
    groups = _groups(rule, cameras, stamps, recordings)[first]
    _, appeared, inverse = np.unique(groups, return_index=True, return_inverse=True)
    blocks = np.argsort(np.argsort(appeared))[inverse]
    copied = first != np.arange(len(first))
    ends = np.cumsum([len(one) for one in cameras])[:-1]
    parts = zip(np.split(blocks, ends), np.split(copied, ends), strict=True)
    return [CameraBlocks(of_camera, int(copies.sum())) for of_camera, copies in parts]


def _first_appearance(images: NDArray[np.uint64], order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return of each frame the number of the first one, in this order, with the same image."""
    _, places, inverse = np.unique(images[order], return_index=True, return_inverse=True)
    first = np.empty(len(images), np.intp)
    first[order] = order[places[inverse]]
    return np.where(images == NO_IMAGE, np.arange(len(images)), first)


def _groups(
    rule: BlockRule, cameras: Sequence[FrameLog], stamps: NDArray[np.int64], recordings: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return a number for each frame that those of one block share."""
    if rule.by == BAG:
        return recordings
    if rule.by == FRAME:
        return np.arange(len(stamps))
    if rule.by == TRACK:
        return _connected(cameras)
    begin = np.full(recordings.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(begin, recordings, stamps)
    stretches = (stamps - begin[recordings]) // max(1, round(rule.block_s * NS_PER_S))
    _, groups = np.unique(np.stack([recordings, stretches], axis=1), axis=0, return_inverse=True)
    return np.asarray(groups, np.int64).reshape(-1)


def _connected(cameras: Sequence[FrameLog]) -> NDArray[np.int64]:
    """Join the tracks that meet in a frame; a frame without any stands alone."""
    count = 1 + max(max(one.track_numbers, default=-1) for one in cameras)
    if not count:
        raise UsageError(
            "--by track",
            found="labels without tracks",
            expected="the `id` of recorded boxes, or `track` in the labels",
            cure="use --by time",
        )
    above = list(range(count))  # of each track one that it was joined with, or itself

    def root(number: int) -> int:
        while above[number] != number:
            above[number] = above[above[number]]
            number = above[number]
        return number

    shown = [_split(one) for one in cameras]
    for numbers in (numbers for of_camera in shown for numbers in of_camera):
        for number in numbers[1:]:
            one, other = root(numbers[0]), root(number)
            above[max(one, other)] = min(one, other)
    frames = [numbers for of_camera in shown for numbers in of_camera]
    return np.array([root(numbers[0]) if numbers else count + n for n, numbers in enumerate(frames)], np.int64)


def _split(log: FrameLog) -> list[list[int]]:
    """Return the tracks of each frame."""
    ends = np.cumsum(np.array(log.track_counts, np.int64))
    return [part.tolist() for part in np.split(np.array(log.track_numbers, np.int64), ends[:-1])] if len(ends) else []


def fingerprint(frame: Frame) -> int:
    """Hash every so many rows of the image, so that equal images are known at little cost; never NO_IMAGE."""
    rows = np.ascontiguousarray(frame.image[:: max(1, frame.image.nbytes // _FINGERPRINT_BYTES)])
    digest = hashlib.blake2b(str(frame.image.shape).encode(), digest_size=8)
    digest.update(rows.data)
    return int.from_bytes(digest.digest(), "little") or 1
