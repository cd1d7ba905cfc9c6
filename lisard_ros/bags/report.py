"""What a replay found, as plain values: JSON holds them as they are, and every other output is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lisard_ros import __version__
from lisard_ros.bags.labels import LabelJoin
from lisard_ros.bags.live import LiveReplay
from lisard_ros.bags.recordings import RecordingInfo
from lisard_ros.bags.tracks import Track
from lisard_ros.evaluation.injection_settings import InjectionSettings
from lisard_ros.evaluation.limits import Verdict
from lisard_ros.evaluation.statistics import Interval, Percentiles, Proportion, proportion
from lisard_ros.provenance import Made
from lisard_ros.tracking import NONE

STAGES = ("decode", "preprocess", "inject", "infer", "postprocess", "total")
SCHEMA_VERSION = 3
MOST_FAILURES, SHOWN_FAILURES = 100, 5
NOT_APPLIED, NO_EFFECT = "applied to no frame", "no measurable effect"
ACCURACY, AGREEMENT, REFERENCE = "accuracy", "agreement", "reference"

_UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often a recorded class was answered so. answered '': missed; recorded '': a false box."""

    recorded: str
    answered: str
    count: int


@dataclass(frozen=True, slots=True)
class FrameScores:
    """What was judged frame by frame, in the order of `CameraFrames.stamps_ns`: [F] each.

    right, judged: things of the frame (the whole, or its boxes); judged 0: the frame does not count. false: boxes that
    meet nothing, empty where there are none.
    """

    right: Sequence[int]
    judged: Sequence[int]
    false: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class ClassResult:
    """One class of things under one condition. ap50: of a detector with labels; NaN where there is none."""

    name: str
    score: Proportion
    ap50: float


@dataclass(frozen=True, slots=True)
class DetectionPrecision:
    """AP50 and AP (mean over IoU 0.5 to 0.95, as COCO has it) in [0, 1] over all boxes by score, with 95 % intervals by
    a bootstrap over blocks; over a single block these are NaN. clean_ap50, clean_ap: of the clean answers to the very
    same frames, without an interval; NaN in reports of before.
    """

    ap50: Interval
    ap: Interval
    clean_ap50: Interval = _UNKNOWN
    clean_ap: Interval = _UNKNOWN


@dataclass(frozen=True, slots=True)
class CameraResult:
    """One line of the matrix: a camera under one injection, answered by one model on one backend (number `model` of
    `Replay.models`).

    judged: `accuracy` against recorded labels, `agreement` with the clean answer of the fp32 model to the same image,
    or `reference` for the clean answers of that model itself.
    not_applicable: frames for which the injection was not made; no_regions: frames without a box to attack.
    score: its share, over frames or boxes that have an answer and to which the injection applied. For a detector: the
    share of the reference boxes that the answer finds (same class, IoU >= 0.5). false_boxes: what a detector finds
    besides, in the frames that have a reference; None for others. clean: the clean answers' score over the
    very same frames or boxes, to compare with; nothing (n = 0) where there is nothing to compare them with.
    effect: NOT_APPLIED (the attack was made for none of these frames), NO_EFFECT (the score is not lower than that of
    the clean answers over the same frames or boxes, and there are no more false boxes), or ''.
    blocks: independent blocks of frames behind the score; its interval is as wide as they allow.
    flips: how often the answer to an object changes from one of its frames to the next although the class it is
    compared with stays; n = 0 where no object is followed. precision: of a detector, where labels were recorded.
    """

    topic: str
    backend: str
    injection: str
    knowledge: str
    frames: int
    answered: int
    failed: dict[str, int]
    not_applicable: int
    judged: str
    score: Proportion
    clean: Proportion
    false_boxes: int | None
    latency: dict[str, Percentiles]
    effect: str = ""
    blocks: int = 0
    confusion: tuple[Confusion, ...] = ()
    scores: FrameScores = FrameScores((), ())
    bundle: str = ""
    no_regions: int = 0
    model: int = 0
    flips: Proportion = field(default_factory=lambda: proportion(0, 0))
    classes: tuple[ClassResult, ...] = ()
    precision: DetectionPrecision | None = None


@dataclass(frozen=True, slots=True)
class CameraFrames:
    """The frames of one camera in the order in which they were answered.

    blocks: the block of each frame. copies: frames whose image was there before. truth_sha256: of all labels that were
    joined with them, so that two replays can be compared.
    """

    topic: str
    stamps_ns: Sequence[int]
    recordings: Sequence[int]
    blocks: Sequence[int]
    copies: int
    truth_sha256: str


@dataclass(frozen=True, slots=True)
class FrameFailure:
    """A frame without a clean answer. number: its place among the frames of its camera, from 0.

    bundle, backend: which did not answer; '' where the image could not be decoded.
    """

    topic: str
    recording: int
    number: int
    stamp_ns: int
    error: str
    bundle: str = ""
    backend: str = ""

    def __str__(self) -> str:
        """One line for people."""
        return f"no answer to frame {self.number} of {self.topic} at {self.stamp_ns} ns: {self.error}"

    def moved(self, frames: int) -> FrameFailure:
        """Return it as it stands behind so many other frames of its camera."""
        return replace(self, number=self.number + frames)


@dataclass(frozen=True, slots=True)
class ReplayedModel:
    """A model of the matrix and what ran it. reason: why that backend was chosen; engine_key: of a TensorRT engine, ''
    for others. reference: the backend whose clean answers its own are compared with, where there are no labels.
    """

    bundle: str
    bundle_sha256: str
    description: str
    reason: str
    engine_key: str = ""
    warnings: tuple[str, ...] = ()
    reference: str = ""
    detector: str = ""
    detector_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """The whole evaluation. bundle, backend: all of them, where there are several; bundle_sha256: of the first.

    tracking: which tracker followed the objects of the clean answers; tracks: what it found. reference: the backends
    whose clean answers others are compared with, where there are no labels. by: what a block of frames is, a name of
    `blocks.BY`. failures: the first MOST_FAILURES frames without an answer. unseen: recorded boxes of classes that are
    not looked at, by class. live: the recording played through a node, None where it was not.
    """

    bag: str
    bundle: str
    bundle_sha256: str
    backend: str
    rows: tuple[CameraResult, ...]
    tracking: str = NONE
    tracks: tuple[Track, ...] = ()
    schema_version: int = SCHEMA_VERSION
    made_by: str = f"lisard_ros {__version__}"
    recordings: tuple[RecordingInfo, ...] = ()
    reference: str = ""
    models: tuple[ReplayedModel, ...] = ()
    injections: tuple[InjectionSettings, ...] = ()
    labels: tuple[LabelJoin, ...] = ()
    unseen: dict[str, int] | None = None
    by: str = ""
    block_s: float = 0.0
    cameras: tuple[CameraFrames, ...] = ()
    failures: tuple[FrameFailure, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    made: Made | None = None
    live: LiveReplay | None = None

    @property
    def titles(self) -> tuple[str, ...]:
        """Name the models so that each can be told from the others."""
        several = len({one.bundle for one in self.models}) > 1
        return tuple(f"{one.bundle} on {one.description}" if several else one.description for one in self.models)

    @property
    def failure_lines(self) -> tuple[str, ...]:
        """Name the first SHOWN_FAILURES frames without an answer, and where more of them are."""
        more = ("more of them are in the JSON",) if len(self.failures) > SHOWN_FAILURES else ()
        return (*map(str, self.failures[:SHOWN_FAILURES]), *more)

    @property
    def damaged(self) -> tuple[RecordingInfo, ...]:
        """The recordings that are not whole."""
        return tuple(one for one in self.recordings if one.damage or one.lost != 0)
