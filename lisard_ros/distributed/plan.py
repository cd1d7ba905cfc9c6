"""What a distributed replay is made of: the job, what a scan finds of each recording, and slices of consecutive frames.

Plain values that can be sent to another process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from lisard_ros.bags.blocks import BlockRule
from lisard_ros.bags.evaluation_state import EvaluationState
from lisard_ros.bags.labels import LabelJoin
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
class RecordingScan:
    """What a recording holds. ends: of each slice the number of the frame behind it, rising; none without frames.

    label_names: how often each class is recorded; has_boxes: some label is a list of boxes.
    """

    recording: int
    info: RecordingInfo
    ends: tuple[int, ...]
    label_names: Counter[str]
    has_boxes: bool

    @property
    def frames(self) -> int:
        """How many images there are."""
        return self.ends[-1] if self.ends else 0


@dataclass(frozen=True, slots=True)
class FrameSlice:
    """The frames [start, stop) of a recording, by their order there."""

    recording: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class SliceResult:
    """What was found in a slice. joins: how its frames met labels; labels_met: whether any frame of the recording did,
    None where there are none. host: the machine that answered.
    """

    part: FrameSlice
    state: EvaluationState
    joins: tuple[LabelJoin, ...]
    labels_met: bool | None
    examples: tuple[Example, ...]
    host: str


Task = ScanTask | FrameSlice
TaskResult = RecordingScan | SliceResult


def ends_of(stamps_ns: Iterable[int], slice_s: float, whole: bool) -> tuple[int, ...]:
    """Cut frames into slices of equal time.

    Args:
        stamps_ns: Of all frames, in their order; a stamp that goes back cuts nothing.
        slice_s: Length of a slice in seconds.
        whole: All frames are one slice: of a video, or where objects are followed.

    Returns:
        Of each slice the number of the frame behind it; no slice is empty.

    Examples:
        >>> ends_of([0, 500_000_000, 1_200_000_000, 5_000_000_000], 1.0, whole=False)
        (2, 3, 4)
    """
    length_ns = max(1, round(slice_s * NS_PER_S))
    ends: list[int] = []
    border_ns: int | None = None
    count = 0
    for number, stamp_ns in enumerate(stamps_ns):
        if border_ns is None:
            border_ns = stamp_ns + length_ns
        elif stamp_ns >= border_ns and not whole:
            ends.append(number)
            border_ns += length_ns * (1 + (stamp_ns - border_ns) // length_ns)
        count = number + 1
    return (*ends, count) if count else ()


def slices(scans: Sequence[RecordingScan]) -> tuple[FrameSlice, ...]:
    """Return the slices of all recordings in the order of the replay."""
    return tuple(FrameSlice(scan.recording, start, stop) for scan in scans for start, stop in pairwise((0, *scan.ends)))
