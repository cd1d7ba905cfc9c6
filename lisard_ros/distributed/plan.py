"""What a distributed replay is made of: the job, what a scan finds of each recording, and tasks: consecutive frames.

Plain values that can be sent to another process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bags.blocks import BlockRule
from lisard_ros.bags.evaluation_state import EvaluationState
from lisard_ros.bags.frame_order import FrameStart
from lisard_ros.bags.labels import LabelJoin, Stamps
from lisard_ros.bags.matrix import MatrixSpec
from lisard_ros.bags.reader import LabelOptions, Topics
from lisard_ros.bags.recordings import RecordingInfo
from lisard_ros.message_fields import NS_PER_S
from lisard_ros.reporting.album import Example
from lisard_ros.tracking import NONE

DEFAULT_SLICE_S = 60.0


@dataclass(frozen=True, slots=True)
class ReplayJob:
    """A replay as its workers see it.

    recordings: paths, the same on every machine. bundles_sha256: of the bundles of `spec`, in their order. slice_s:
    length of a slice in seconds of the recording. labelled: some recording has labels. examples: frames that each
    slice keeps for a page, of each model and condition: harmed ones and others; None: none.
    """

    spec: MatrixSpec
    bundles_sha256: tuple[str, ...]
    recordings: tuple[Path, ...]
    topics: Topics
    labels: LabelOptions = field(default_factory=LabelOptions)
    rule: BlockRule = field(default_factory=BlockRule)
    tracking: str = NONE
    slice_s: float = DEFAULT_SLICE_S
    labelled: bool = False
    examples: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ScanTask:
    """Read a recording without decoding it. recording: its number."""

    recording: int


@dataclass(frozen=True, slots=True)
class FrameSlice:
    """The frames [start, stop) of a recording, by their order there."""

    recording: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class SliceTask:
    """Answer a slice. begin: where its frames are read; truths: what is recorded about each of them (`codec.pack` of a
    list), empty where nothing is.
    """

    part: FrameSlice
    begin: FrameStart
    truths: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class ScannedFrames:
    """The frames of a recording in their order. topics [F]: place of each frame's topic in `names`; numbers [F]: its
    number among those of the topic.
    """

    names: tuple[str, ...]
    topics: NDArray[np.int32]
    numbers: NDArray[np.int64]
    stamps_ns: Stamps

    @classmethod
    def of(cls, names: Sequence[str], frames: Sequence[tuple[str, int, int]]) -> ScannedFrames:
        """Keep frames as topic, number there and stamp."""
        places = {name: place for place, name in enumerate(names)}
        return cls(
            tuple(names),
            np.array([places[name] for name, _, _ in frames], np.int32),
            np.array([number for _, number, _ in frames], np.int64),
            np.array([stamp_ns for _, _, stamp_ns in frames], np.int64),
        )

    def by_topic(self) -> dict[str, Stamps]:
        """Return the stamps of each topic's frames by their numbers there."""
        stamps: dict[str, Stamps] = {}
        for place, name in enumerate(self.names):
            of_topic = self.topics == place
            stamps[name] = self.stamps_ns[of_topic][np.argsort(self.numbers[of_topic], kind="stable")]
        return stamps

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Yield the topic of each frame and its number there."""
        for place, number in zip(self.topics.tolist(), self.numbers.tolist(), strict=True):
            yield self.names[place], number


@dataclass(frozen=True, slots=True)
class RecordingScan:
    """What a recording holds. tasks: its slices, in their order; none without frames.

    label_names: how often each class is recorded; has_boxes: some label is a list of boxes; joins: how its frames met
    labels; labels_met: whether any did, None where there are no labels. frames_in_order: for a file of labels, which is
    joined with the frames of all recordings later; None for labels of topics.
    """

    recording: int
    info: RecordingInfo
    tasks: tuple[SliceTask, ...]
    label_names: Counter[str]
    has_boxes: bool
    joins: tuple[LabelJoin, ...]
    labels_met: bool | None
    frames_in_order: ScannedFrames | None = None

    @property
    def frames(self) -> int:
        """How many images there are."""
        return self.tasks[-1].part.stop if self.tasks else 0


@dataclass(frozen=True, slots=True, eq=False)
class SliceResult:
    """What was found in a slice. host: the machine that answered."""

    part: FrameSlice
    state: EvaluationState
    examples: tuple[Example, ...]
    host: str


Task = ScanTask | SliceTask
TaskResult = RecordingScan | SliceResult


class SliceCutter:
    """Cuts frames into slices of equal time.

    Examples:
        >>> cutter = SliceCutter(1.0, whole=False)
        >>> [cutter.begins(stamp_ns) for stamp_ns in (0, 500_000_000, 1_200_000_000, 5_000_000_000)]
        [True, False, True, True]
    """

    def __init__(self, slice_s: float, whole: bool) -> None:
        """whole: all frames are one slice: of a video, or where objects are followed."""
        self._length_ns, self._whole = max(1, round(slice_s * NS_PER_S)), whole
        self._border_ns: int | None = None

    def begins(self, stamp_ns: int) -> bool:
        """Whether the next frame begins a slice; a stamp that goes back cuts nothing."""
        if self._border_ns is None:
            self._border_ns = stamp_ns + self._length_ns
            return True
        if self._whole or stamp_ns < self._border_ns:
            return False
        self._border_ns += self._length_ns * (1 + (stamp_ns - self._border_ns) // self._length_ns)
        return True


def tasks(scans: Sequence[RecordingScan]) -> tuple[SliceTask, ...]:
    """Return the slices of all recordings in the order of the replay."""
    return tuple(task for scan in scans for task in scan.tasks)
