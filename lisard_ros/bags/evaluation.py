"""Score a recording: accuracy where labels exist, else agreement with the clean answer; latency by stage.

One pass over the bag: each frame is prepared once, answered clean, then answered under every injection.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lisard_ros import __version__
from lisard_ros.bags.reader import BagFrame
from lisard_ros.bags.tracks import Track, TrackRecorder
from lisard_ros.errors import ImageError, OutputError
from lisard_ros.evaluation.scoring import Named, match
from lisard_ros.evaluation.statistics import Percentiles, Proportion, percentiles, proportion
from lisard_ros.frames import WHOLE_FRAME, BoxXyxyPx, Pixels, Result, StageTimes
from lisard_ros.inference.pipeline import Attacked, Outcome, Pipeline, Prepared
from lisard_ros.injection import CLEAN, AtDetector, Injection
from lisard_ros.reporting.display import as_seen
from lisard_ros.tracking import NONE
from lisard_ros.tracking.stage import FAINT_SHARE

STAGES = ("decode", "preprocess", "inject", "infer", "postprocess", "total")
SCHEMA_VERSION = 1
NOT_APPLIED, NO_EFFECT = "applied to no frame", "no measurable effect"


@dataclass(frozen=True, slots=True)
class CameraResult:
    """One line of the matrix: a camera under one injection on one backend.

    judged: `accuracy` against recorded labels, `agreement` with the clean answer of the same image, or `reference`
    for clean answers without anything to compare them with.
    score: its share, over frames or boxes that have an answer and to which the injection applied. For a detector: the
    share of the reference boxes that the answer finds (same class, IoU >= 0.5). false_boxes: what a detector finds
    besides, in the frames that have a reference; None for others. clean: the clean answers' score over the
    very same frames or boxes, to compare with; nothing (n = 0) where nothing was recorded.
    effect: NOT_APPLIED (the attack was made for none of these frames), NO_EFFECT (the score is not lower than that of
    the clean answers over the same frames or boxes, and there are no more false boxes), or ''.
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


@dataclass(frozen=True, slots=True)
class Replay:
    """The whole evaluation of one bag. backend: all of them, where there are several. tracking: which tracker followed
    the objects of the clean answers; tracks: what it found.
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


@dataclass(frozen=True, slots=True)
class Label:
    """A class that something has: `image` of the frame, or for a detector the object at `box_xyxy_px`.

    track: id of its track, '' where nothing is tracked.
    """

    image: int
    box_xyxy_px: BoxXyxyPx | None
    name: str
    score: float = 1.0
    track: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """An answer and its reference. answer None: missed; reference None: nothing is known there, or nothing is there (a
    detector's false box). right: whether both agree, None where there is no reference.
    """

    answer: Label | None
    reference: Label | None
    right: bool | None


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The answers to one frame under one condition. image: uint8 RGB as the network saw it, None where it saw parts."""

    item: BagFrame
    condition: str
    pairs: tuple[Pair, ...]
    image: Callable[[], Pixels | None]


@dataclass(frozen=True, slots=True)
class References:
    """What an answer is compared with: the recorded labels and the clean answer; None where there are none."""

    recorded: tuple[Label, ...] | None
    clean: tuple[Label, ...] | None


@dataclass(slots=True)
class _Score:
    """Hits among judged images or boxes, and answers that meet none of them."""

    hits: int = 0
    judged: int = 0
    false: int = 0

    def add(self, pairs: Sequence[Pair]) -> None:
        """Count the answers to one frame."""
        self.hits += sum(pair.right is True for pair in pairs)
        self.judged += sum(pair.reference is not None for pair in pairs)
        self.false += sum(pair.reference is None for pair in pairs)


@dataclass(slots=True)
class _Tally:
    """The counts of one camera under one injection."""

    frames: int = 0
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    not_applicable: int = 0
    accuracy: _Score = field(default_factory=_Score)
    agreement: _Score = field(default_factory=_Score)
    clean: _Score = field(default_factory=_Score)
    times: list[StageTimes] = field(default_factory=list)


def evaluate(
    pipeline: Pipeline,
    bag: str,
    frames: Iterable[BagFrame],
    injections: Sequence[Injection],
    progress: Callable[[], object] = lambda: None,
    watch: Callable[[Seen], object] = lambda seen: None,
    tracking: str = NONE,
) -> Replay:
    """Answer every frame clean and under each injection and score the answers.

    Frames with recorded boxes are judged by box (coarse labels by the bundle's `roi_groups`), others as a whole. A
    detector always looks at the whole frame. Tracking changes no score: boxes that a track adds are listed beside them.

    Args:
        pipeline: The model under test.
        bag: Name of the recording, for the report.
        frames: The recorded frames in order.
        injections: What to inject, each under a name of its own.
        progress: Called after each frame.
        watch: Called with every answer, each frame's clean one first.
        tracking: What follows the objects of the clean answers, a name of `lisard_ros.tracking.TRACKERS`.
    """
    tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
    knowledge = {CLEAN: "none", **{i.name: i.knowledge for i in injections}}
    recorder = TrackRecorder(tracking, pipeline.choice.backend.description)
    for item in frames:
        _score_frame(pipeline, item, injections, tallies, recorder, watch)
        progress()
    labelled = {topic for (topic, _), tally in tallies.items() if tally.accuracy.judged}
    backend = pipeline.choice.backend.description
    rows = [
        _row((topic, backend, name, knowledge[name]), tally, topic in labelled, pipeline.finds_boxes)
        for (topic, name), tally in tallies.items()
    ]
    manifest, sha256 = pipeline.bundle.manifest, pipeline.bundle.sha256
    return Replay(bag, manifest.name, sha256, backend, tuple(rows), tracking, recorder.tracks())


def side_by_side(replays: Sequence[Replay]) -> Replay:
    """Join evaluations of one bag and bundle on several backends, in their order."""
    backend = "; ".join(dict.fromkeys(one.backend for one in replays))
    rows = tuple(row for one in replays for row in one.rows)
    return replace(replays[0], backend=backend, rows=rows, tracks=tuple(t for one in replays for t in one.tracks))


def _score_frame(
    pipeline: Pipeline,
    item: BagFrame,
    injections: Sequence[Injection],
    tallies: dict[tuple[str, str], _Tally],
    recorder: TrackRecorder,
    watch: Callable[[Seen], object],
) -> None:
    names = (CLEAN, *(i.name for i in injections))
    for name in names:
        tallies[item.topic, name].frames += 1
    if item.frame is None:
        for name in names:
            tallies[item.topic, name].failed[_cause(item.error)] += 1
        return
    finds = pipeline.finds_boxes
    regions = (WHOLE_FRAME,) if item.regions is None or finds else item.regions
    prepared = pipeline.prepare([item.frame], [regions])
    inferred = pipeline.infer(prepared)
    clean = _timed(pipeline.decode(inferred, FAINT_SHARE if recorder.on else 1.0)[0], item.decode_ms)
    if isinstance(clean, Result):
        clean = recorder.follow(item.topic, clean)
    truth = _recorded(item, finds)
    looked_at = frozenset({0}) if finds else frozenset(crop.region for crop in prepared.crops)
    pairs = _count(tallies[item.topic, CLEAN], clean, References(truth, None), looked_at, pipeline, recorder.on)
    watch(Seen(item, CLEAN, pairs, lambda: None))
    before = _answered(clean, finds) if isinstance(clean, Result) else None
    for injection in injections:
        attacked = pipeline.answer_attacked(prepared, injection)[0]
        tally = tallies[item.topic, injection.name]
        if not attacked.applied:
            tally.not_applicable += 1
            continue
        outcome = _timed(attacked.outcome, item.decode_ms)
        regions_hit = looked_at if finds else attacked.regions
        pairs = _count(tally, outcome, References(truth, before), regions_hit, pipeline)
        if isinstance(outcome, Result) and truth is not None:
            judged = [label for label in truth if label.image in regions_hit]
            tally.clean.add(compared(judged, before or (), pipeline))
        watch(Seen(item, injection.name, pairs, _image(pipeline, prepared, injection, attacked)))


def _image(
    pipeline: Pipeline, prepared: Prepared, injection: Injection, attacked: Attacked
) -> Callable[[], Pixels | None]:
    """Shows the whole frame as the attacked network saw it."""
    frame = prepared.frames[0]
    first = pipeline.detector.bundle if pipeline.detector and isinstance(injection, AtDetector) else None
    whole = [crop.pixels.shape[:2] for crop in prepared.crops] == [(frame.height_px, frame.width_px)]
    if first is None and not whole:
        return lambda: None
    spec = (first or pipeline.bundle).manifest.input
    return lambda: as_seen(attacked.seen[0], frame.width_px, frame.height_px, spec)


def _recorded(item: BagFrame, detector: bool) -> tuple[Label, ...] | None:
    """Return the recorded labels: the class of the whole frame, or of its boxes; None where there are none."""
    if item.regions is not None:
        boxes = enumerate(item.regions)
        known = tuple(Label(0 if detector else n, r.box_xyxy_px, r.label) for n, r in boxes if r.label is not None)
        return known if known or (detector and not item.regions) else None
    return None if item.label is None or detector else (Label(0, None, item.label),)


def _answered(result: Result, detector: bool, tracked: bool = False) -> tuple[Label, ...]:
    """Return the first hypothesis of the frame or of each of its boxes. tracked: ids are those of tracks."""
    if result.detections is not None:
        items = enumerate(result.detections.items)
        return tuple(
            Label(
                0 if detector else n,
                d.box_xyxy_px,
                d.hypotheses[0].label,
                d.hypotheses[0].score,
                d.id if tracked else "",
            )
            for n, d in items
            if d.hypotheses
        )
    hypotheses = result.classification.hypotheses if result.classification else ()
    return (Label(0, None, hypotheses[0].label, hypotheses[0].score),) if hypotheses else ()


def _count(
    tally: _Tally,
    outcome: Outcome,
    references: References,
    images: frozenset[int],
    pipeline: Pipeline,
    tracked: bool = False,
) -> tuple[Pair, ...]:
    """Add one answer; only `images`, those that were looked at and that the injection applied to, are judged.

    Returns how it compares with what was recorded, else with the clean answer.
    """
    if not isinstance(outcome, Result):
        tally.failed[_cause(outcome.error)] += 1
        return ()
    tally.answered += 1
    tally.times.append(outcome.times)
    answers = _answered(outcome, pipeline.finds_boxes, tracked)
    pairs = tuple(Pair(answer, None, None) for answer in answers)
    for score, labels in ((tally.agreement, references.clean), (tally.accuracy, references.recorded)):
        if labels is not None:
            pairs = compared([label for label in labels if label.image in images], answers, pipeline)
            score.add(pairs)
    return pairs


def compared(references: Sequence[Label], answers: Sequence[Label], pipeline: Pipeline) -> tuple[Pair, ...]:
    """Compare answers with references: a detector's by place and class, others image by image."""
    groups = pipeline.bundle.manifest.roi_groups
    if not pipeline.finds_boxes:
        by_image = {answer.image: answer for answer in answers}
        pairs = []
        for reference in references:
            answer = by_image.get(reference.image)
            right = answer is not None and _fits(answer.name, reference.name, groups)
            pairs.append(Pair(answer, reference, right))
        return tuple(pairs)
    known = [label for label in references if label.box_xyxy_px is not None]
    places = match(
        [_named(answer, known, groups) for answer in answers],
        [Named(label.box_xyxy_px, label.name) for label in known if label.box_xyxy_px is not None],
    )
    answered = [
        Pair(answer, None if place is None else known[place], place is not None)
        for answer, place in zip(answers, places, strict=True)
    ]
    return (*answered, *(Pair(None, label, False) for number, label in enumerate(known) if number not in places))


def _named(answer: Label, references: Sequence[Label], groups: Mapping[str, Sequence[str]]) -> Named:
    """An answer under the name of the reference that it may be: a finer class counts as its group."""
    names = (reference.name for reference in references)
    name = next((name for name in names if _fits(answer.name, name, groups)), answer.name)
    assert answer.box_xyxy_px is not None  # a detector's answers have boxes
    return Named(answer.box_xyxy_px, name, answer.score)


def _fits(name: str, wanted: str, groups: Mapping[str, Sequence[str]]) -> bool:
    return name == wanted or name in groups.get(wanted, ())


def _row(names: tuple[str, str, str, str], tally: _Tally, labelled: bool, finds_boxes: bool) -> CameraResult:
    """names: topic, backend, injection and the attacker's knowledge."""
    score, name = tally.accuracy if labelled else tally.agreement, names[2]
    clean = tally.accuracy if name == CLEAN else tally.clean
    false = score.false if finds_boxes and tally.answered and (labelled or name != CLEAN) else None
    return CameraResult(
        *names,
        tally.frames,
        tally.answered,
        dict(tally.failed),
        tally.not_applicable,
        "accuracy" if labelled else "reference" if name == CLEAN else "agreement",
        proportion(score.hits, score.judged),
        proportion(clean.hits, clean.judged),
        false,
        {stage: percentiles([getattr(t, f"{stage}_ms") for t in tally.times]) for stage in STAGES},
        "" if name == CLEAN else _effect(tally, labelled),
    )


def _effect(tally: _Tally, labelled: bool) -> str:
    """Return `CameraResult.effect` of an attack."""
    if tally.not_applicable and tally.not_applicable + tally.failed.total() == tally.frames and not tally.answered:
        return NOT_APPLIED
    if not labelled:
        same = tally.agreement.hits == tally.agreement.judged and not tally.agreement.false
        return NO_EFFECT if tally.agreement.judged and same else ""
    score, clean = tally.accuracy, tally.clean
    harmless = score.hits >= clean.hits and score.false <= clean.false
    return NO_EFFECT if score.judged and score.judged == clean.judged and harmless else ""


def _timed(outcome: Outcome, decode_ms: float) -> Outcome:
    if isinstance(outcome, Result):
        return replace(outcome, times=replace(outcome.times, decode_ms=decode_ms))
    return outcome


def _cause(error: Exception | None) -> str:
    if isinstance(error, ImageError):
        return "image"
    return "output" if isinstance(error, OutputError) else "other"
