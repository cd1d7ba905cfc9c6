"""What a replay keeps of the frames that were answered so far: plain values that add up.

A state holds the frames [a, b) of a replay. The states of consecutive parts, added with `EvaluationState.append`, are
the state of the whole in all but times: what stands here is a count, a list that grows frame by frame, or a histogram.
Intervals, blocks, copies, confusion and flips are made of it in the end (results.py). A state can be pickled and knows
no model. Of each frame some 40 bytes are kept for each camera, 3 more for each condition of a classifier, and for a
detector 2 for each box to find, 6 for each false box and 8 for each box that is ranked.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bags.blocks import BlockRule, FrameLog
from lisard_ros.bags.report import ACCURACY, AGREEMENT, MOST_FAILURES, STAGES, FrameFailure
from lisard_ros.bags.tracks import Track
from lisard_ros.errors import DataError
from lisard_ros.evaluation.average_precision import Ranked
from lisard_ros.evaluation.latency_histogram import LatencyHistogram
from lisard_ros.frames import StageTimes
from lisard_ros.growing import extend
from lisard_ros.tracking import NONE

KINDS = (ACCURACY, AGREEMENT)


class FrameStatus(IntEnum):
    """What became of a frame under one condition."""

    ANSWERED = 0
    FAILED = 1
    NOT_APPLICABLE = 2
    NO_REGIONS = 3


class Code(IntEnum):
    """How a thing was answered: the number of the answered class, with RIGHT where it fits; or one of the others."""

    RIGHT = 0x8000
    MISSED = 0x7FFF
    NOT_JUDGED = 0xFFFF


@dataclass(slots=True, eq=False)
class Numbering:
    """Names that arrays hold as numbers, from 0 in the order of their appearance."""

    names: list[Hashable] = field(default_factory=list)
    _numbers: dict[Hashable, int] = field(default_factory=dict)

    def of(self, name: Hashable) -> int:
        """Return the number of a name, a new one where it is new."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
        return number

    def append(self, later: Numbering) -> NDArray[np.int64]:
        """Take the names of another one; returns of each of its numbers that in this one."""
        return np.array([self.of(name) for name in later.names], np.int64)


@dataclass(slots=True, eq=False)
class Things:
    """What the answers to one camera are compared with, such as the recorded labels.

    counts: how many each frame has. classes, tracks: of each thing, one frame after the other; track 0 is none.
    """

    counts: array[int] = field(default_factory=lambda: array("H"))
    classes: array[int] = field(default_factory=lambda: array("H"))
    tracks: array[int] = field(default_factory=lambda: array("I"))

    def add(self, classes: Sequence[int], tracks: Sequence[int]) -> None:
        """Take those of the next frame."""
        self.counts.append(len(classes))
        self.classes.extend(classes)
        self.tracks.extend(tracks)

    def append(self, later: Things, classes: NDArray[np.int64], tracks: NDArray[np.int64]) -> None:
        """Take those of the next frames; classes, tracks: of each number of `later` that in this state."""
        self.counts.extend(later.counts)
        extend(self.classes, classes[np.array(later.classes, np.intp)])
        extend(self.tracks, tracks[np.array(later.tracks, np.intp)])


@dataclass(slots=True, eq=False)
class ThingAnswers:
    """How one condition answered the things of one camera.

    codes: of each thing, see `Code`. false_frames, false_classes: of each answer that meets no thing its frame, by
    number, and its class.
    """

    codes: array[int] = field(default_factory=lambda: array("H"))
    false_frames: array[int] = field(default_factory=lambda: array("I"))
    false_classes: array[int] = field(default_factory=lambda: array("H"))

    def append(self, later: ThingAnswers, frames: int, classes: NDArray[np.int64]) -> None:
        """Take those of the next frames. frames: how many were before; classes: as for `Things.append`."""
        codes = np.array(later.codes, np.int64)
        answered = (codes != Code.NOT_JUDGED) & (codes != Code.MISSED)
        codes[answered] = classes[codes[answered] & Code.MISSED] | (codes[answered] & Code.RIGHT)
        extend(self.codes, codes)
        extend(self.false_frames, np.array(later.false_frames, np.int64) + frames)
        extend(self.false_classes, classes[np.array(later.false_classes, np.intp)])


@dataclass(slots=True, eq=False)
class Cell:
    """One camera under one condition of one model. status: what became of each frame; failed: by cause.

    ranked: the boxes of a detector by score, where labels were recorded.
    """

    status: array[int] = field(default_factory=lambda: array("B"))
    failed: Counter[str] = field(default_factory=Counter)
    answers: dict[str, ThingAnswers] = field(default_factory=lambda: {kind: ThingAnswers() for kind in KINDS})
    times: dict[str, LatencyHistogram] = field(default_factory=lambda: {stage: LatencyHistogram() for stage in STAGES})
    ranked: Ranked = field(default_factory=Ranked)

    def add_times(self, times: StageTimes) -> None:
        """Keep the times of one answer."""
        for stage, histogram in self.times.items():
            histogram.add(getattr(times, f"{stage}_ms"))

    def append(self, later: Cell, frames: int, classes: NDArray[np.int64]) -> None:
        """Take the next frames; frames, classes: as for `ThingAnswers.append`."""
        self.status.extend(later.status)
        self.failed.update(later.failed)
        for kind in KINDS:
            self.answers[kind].append(later.answers[kind], frames, classes)
        for stage, histogram in self.times.items():
            histogram.merge(later.times[stage])
        self.ranked.append(later.ranked, frames, classes)


@dataclass(frozen=True, slots=True)
class Condition:
    """The clean answers, or an injection with what its attacker knows."""

    name: str
    knowledge: str


@dataclass(frozen=True, slots=True)
class MatrixModelInfo:
    """One model on one backend, as reports name it. reference: the backend of the fp32 model that its answers are
    compared with, '' where it is that model. groups: finer classes by the class that they count as.
    """

    bundle: str
    bundle_sha256: str
    backend: str
    reason: str
    conditions: tuple[Condition, ...]
    engine_key: str = ""
    warnings: tuple[str, ...] = ()
    reference: str = ""
    detector: str = ""
    detector_sha256: str = ""
    finds_boxes: bool = False
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(slots=True, eq=False)
class CameraState:
    """The frames of one camera. clean: the clean answers that those of each model are compared with.

    cells: by model, then by condition, in the order of `EvaluationState.models`.
    """

    frames: FrameLog
    labels: Things
    clean: list[Things]
    cells: list[list[Cell]]

    def append(self, later: CameraState, classes: NDArray[np.int64], tracks: NDArray[np.int64]) -> None:
        """Take the next frames; classes, tracks: as for `Things.append`."""
        before = len(self.frames)
        self.frames.append(later.frames, tracks)
        self.labels.append(later.labels, classes, tracks)
        for things, next_things in zip(self.clean, later.clean, strict=True):
            things.append(next_things, classes, tracks)
        for cells, next_cells in zip(self.cells, later.cells, strict=True):
            for cell, next_cell in zip(cells, next_cells, strict=True):
                cell.append(next_cell, before, classes)


def _no_tracks() -> Numbering:
    return Numbering([None], {None: 0})


@dataclass(slots=True, eq=False)
class EvaluationState:
    """What was found in some consecutive frames of a replay. classes, track_names: what numbers stand for."""

    models: tuple[MatrixModelInfo, ...]
    rule: BlockRule = BlockRule()
    tracking: str = NONE
    classes: Numbering = field(default_factory=Numbering)
    track_names: Numbering = field(default_factory=_no_tracks)
    cameras: dict[str, CameraState] = field(default_factory=dict)
    failures: list[FrameFailure] = field(default_factory=list)
    tracks: list[Track] = field(default_factory=list)

    def camera(self, topic: str) -> CameraState:
        """Return the camera of a topic, a new one where it is new."""
        if topic not in self.cameras:
            cells = [[Cell() for _ in model.conditions] for model in self.models]
            self.cameras[topic] = CameraState(FrameLog(), Things(), [Things() for _ in self.models], cells)
        return self.cameras[topic]

    def add_failure(self, failure: FrameFailure) -> None:
        """Keep the first MOST_FAILURES."""
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(failure)

    def append(self, later: EvaluationState) -> None:
        """Take the frames that come next in the replay; `later` stays as it is.

        A tracker begins anew with each recording, so parts of a tracked replay begin where recordings do.

        Raises:
            DataError: `later` is of other models, conditions, blocks or tracking, or cuts a tracked recording.
        """
        for what, mine, theirs in (
            ("models and conditions", self.models, later.models),
            ("blocks", self.rule, later.rule),
            ("tracking", self.tracking, later.tracking),
        ):
            if mine != theirs:
                raise DataError(f"two parts of a replay have other {what}", found=theirs, expected=mine)
        self._require_whole_recordings(later)
        before = {topic: len(camera.frames) for topic, camera in self.cameras.items()}
        classes, tracks = self.classes.append(later.classes), self.track_names.append(later.track_names)
        for failure in later.failures:
            self.add_failure(failure.moved(before.get(failure.topic, 0)))
        for topic, camera in later.cameras.items():
            self.camera(topic).append(camera, classes, tracks)
        self.tracks += later.tracks

    def _require_whole_recordings(self, later: EvaluationState) -> None:
        if self.tracking == NONE:
            return
        parts = [{n for camera in one.cameras.values() for n in camera.frames.recordings} for one in (self, later)]
        if shared := parts[0] & parts[1]:
            raise DataError(
                "a tracked recording is in two parts of a replay",
                found=f"recording {min(shared)} in both",
                expected="each recording in one part, since a track goes on from frame to frame",
                cure="cut between recordings, or use no --tracking",
            )
