"""What a replay found, as plain values: JSON holds them as they are, and every other output is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lisard_ros import __version__
from lisard_ros.bags.labels import LabelJoin
from lisard_ros.bags.live import LiveReplay
from lisard_ros.bags.recordings import RecordingInfo
from lisard_ros.bags.tracks import Track
from lisard_ros.evaluation.limits import Verdict
from lisard_ros.evaluation.statistics import Percentiles, Proportion
from lisard_ros.provenance import Made
from lisard_ros.tracking import NONE

STAGES = ("decode", "preprocess", "inject", "infer", "postprocess", "total")
SCHEMA_VERSION = 2
MOST_FAILURES = 100
NOT_APPLIED, NO_EFFECT = "applied to no frame", "no measurable effect"
ACCURACY, AGREEMENT, REFERENCE = "accuracy", "agreement", "reference"


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
class CameraResult:
    """One line of the matrix: a camera under one injection on one backend.

    judged: `accuracy` against recorded labels, `agreement` with the clean answer of the fp32 model to the same image,
    or `reference` for the clean answers of that model itself.
    score: its share, over frames or boxes that have an answer and to which the injection applied. For a detector: the
    share of the reference boxes that the answer finds (same class, IoU >= 0.5). false_boxes: what a detector finds
    besides, in the frames that have a reference; None for others. clean: the clean answers' score over the
    very same frames or boxes, to compare with; nothing (n = 0) where there is nothing to compare them with.
    effect: NOT_APPLIED (the attack was made for none of these frames), NO_EFFECT (the score is not lower than that of
    the clean answers over the same frames or boxes, and there are no more false boxes), or ''.
    blocks: independent blocks of frames behind the score; its interval is as wide as they allow.
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
    """A frame without a clean answer. number: its place among the frames of its camera, from 0."""

    topic: str
    recording: int
    number: int
    stamp_ns: int
    error: str


@dataclass(frozen=True, slots=True)
class InjectionSettings:
    """How an injection was made. strength: severity of a corruption, or percent of the area that a patch covers; steps:
    gradients, or queries of an attack that only asks. None where a setting does not apply.
    """

    name: str
    knowledge: str
    attack: str
    eps_255: float | None = None
    steps: int | None = None
    sigma_255: float | None = None
    strength: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What ran the model. reason: why it was chosen; engine_key: of a TensorRT engine, '' for others."""

    description: str
    reason: str
    engine_key: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Replay:
    """The whole evaluation. backend: all of them, where there are several. tracking: which tracker followed the objects
    of the clean answers; tracks: what it found.

    reference: the backend whose clean answers others are compared with, where there are no labels. by: what a block of
    frames is, a name of `blocks.BY`. failures: the first MOST_FAILURES frames without an answer. unseen: recorded boxes
    of classes that are not looked at, by class. live: the recording played through a node, None where it was not.
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
    detector: str = ""
    detector_sha256: str = ""
    reference: str = ""
    backends: tuple[BackendInfo, ...] = ()
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
    def damaged(self) -> tuple[RecordingInfo, ...]:
        """The recordings that are not whole."""
        return tuple(one for one in self.recordings if one.damage or one.lost != 0)


def side_by_side(replays: Sequence[Replay]) -> Replay:
    """Join evaluations of one bag and bundle on several backends, in their order."""
    return replace(
        replays[0],
        backend="; ".join(dict.fromkeys(one.backend for one in replays)),
        rows=tuple(row for one in replays for row in one.rows),
        tracks=tuple(track for one in replays for track in one.tracks),
        backends=tuple(dict.fromkeys(info for one in replays for info in one.backends)),
        reference=next((one.reference for one in replays if one.reference), ""),
    )
