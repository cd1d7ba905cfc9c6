"""Score a recording: accuracy where labels exist, else agreement with the clean answer; latency by stage.

One pass over the bag: each frame is prepared once, answered clean, then answered under every injection.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lisard_ros import __version__
from lisard_ros.bags.reader import BagFrame
from lisard_ros.errors import ImageError, OutputError
from lisard_ros.frames import WHOLE_FRAME, BoxXyxyPx, Result, StageTimes
from lisard_ros.injection.stage import CLEAN, Injection
from lisard_ros.pipeline import Outcome, Pipeline
from lisard_ros.postprocess import iou_with
from lisard_ros.scoring import MATCH_IOU
from lisard_ros.statistics import Percentiles, Proportion, percentiles, proportion

STAGES = ("decode", "preprocess", "inject", "infer", "postprocess", "total")
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the matrix: a camera under one injection.

    judged: `accuracy` against recorded labels, `agreement` with the clean answer of the same picture, or `reference`
    for clean answers that nothing can be held against.
    score: its share, over frames or boxes that have an answer and to which the injection applied. For a detector: the
    share of the reference boxes that the answer finds (same class, IoU >= 0.5); what it finds besides is not counted.
    """

    topic: str
    injection: str
    knowledge: str
    frames: int
    answered: int
    failed: dict[str, int]
    not_applicable: int
    judged: str
    score: Proportion
    latency: dict[str, Percentiles]


@dataclass(frozen=True, slots=True)
class Replay:
    """The whole evaluation of one bag."""

    bag: str
    bundle: str
    bundle_sha256: str
    backend: str
    rows: tuple[Row, ...]
    schema_version: int = SCHEMA_VERSION
    made_by: str = f"lisard_ros {__version__}"


@dataclass(slots=True)
class _Score:
    """Hits among judged pictures or boxes."""

    hits: int = 0
    judged: int = 0


@dataclass(slots=True)
class _Tally:
    """What one camera under one injection has come to so far."""

    frames: int = 0
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    not_applicable: int = 0
    accuracy: _Score = field(default_factory=_Score)
    agreement: _Score = field(default_factory=_Score)
    times: list[StageTimes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Label:
    """A class that something has: picture `picture` of the frame, or for a detector the object at `box_xyxy_px`."""

    picture: int
    box_xyxy_px: BoxXyxyPx | None
    name: str


def evaluate(
    pipeline: Pipeline, bag: str, frames: Iterable[BagFrame], injections: Sequence[Injection],
    progress: Callable[[], object] = lambda: None,
) -> Replay:
    """Answer every frame clean and under each injection and score the answers.

    Frames with recorded boxes are judged by box (coarse labels by the bundle's `roi_groups`), others as a whole. A
    detector always looks at the whole frame. The injections have different names.
    """
    tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
    knowledge = {CLEAN: "none", **{i.name: i.knowledge for i in injections}}
    for item in frames:
        _score_frame(pipeline, item, injections, tallies)
        progress()
    labelled = {topic for (topic, _), tally in tallies.items() if tally.accuracy.judged}
    rows = [_row(topic, name, knowledge[name], tally, topic in labelled) for (topic, name), tally in tallies.items()]
    manifest = pipeline.bundle.manifest
    return Replay(bag, manifest.name, pipeline.bundle.sha256, pipeline.choice.backend.description, tuple(rows))


def _score_frame(
    pipeline: Pipeline, item: BagFrame, injections: Sequence[Injection], tallies: dict[tuple[str, str], _Tally]
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
    clean = _timed(pipeline.answer(prepared)[0], item.decode_ms)
    truth = _recorded(item, finds)
    looked_at = frozenset({0}) if finds else frozenset(look.region for look in prepared.looks)
    _count(tallies[item.topic, CLEAN], clean, truth, (), looked_at, pipeline)
    before = _answered(clean, finds) if isinstance(clean, Result) else ()
    for injection in injections:
        attacked = pipeline.answer_attacked(prepared, injection)[0]
        tally = tallies[item.topic, injection.name]
        if attacked.applied:
            outcome = _timed(attacked.outcome, item.decode_ms)
            _count(tally, outcome, truth, before, looked_at if finds else attacked.regions, pipeline)
        else:
            tally.not_applicable += 1


def _recorded(item: BagFrame, detector: bool) -> tuple[_Label, ...]:
    """Return what the recording says: the class of the whole frame, or of its boxes."""
    if item.regions is not None:
        boxes = enumerate(item.regions)
        return tuple(_Label(0 if detector else n, r.box_xyxy_px, r.label) for n, r in boxes if r.label is not None)
    return () if item.label is None or detector else (_Label(0, None, item.label),)


def _answered(result: Result, detector: bool) -> tuple[_Label, ...]:
    """Return what the first hypotheses of an answer say."""
    if result.detections is not None:
        items = enumerate(result.detections.items)
        return tuple(
            _Label(0 if detector else n, d.box_xyxy_px, d.hypotheses[0].label) for n, d in items if d.hypotheses
        )
    found = result.classification.hypotheses if result.classification else ()
    return (_Label(0, None, found[0].label),) if found else ()


def _count(
    tally: _Tally, outcome: Outcome, truth: Sequence[_Label], before: Sequence[_Label], pictures: frozenset[int],
    pipeline: Pipeline,
) -> None:
    """Add one answer; only `pictures`, those that were looked at and that the injection applied to, are judged."""
    if not isinstance(outcome, Result):
        tally.failed[_cause(outcome.error)] += 1
        return
    tally.answered += 1
    tally.times.append(outcome.times)
    answers = _answered(outcome, pipeline.finds_boxes)
    for score, references in ((tally.accuracy, truth), (tally.agreement, before)):
        judged = [label for label in references if label.picture in pictures]
        score.judged += len(judged)
        score.hits += _found(judged, answers, pipeline)


def _found(references: Sequence[_Label], answers: Sequence[_Label], pipeline: Pipeline) -> int:
    """Count the references that have an answer of their own."""
    manifest = pipeline.bundle.manifest
    left, hits = list(answers), 0
    for reference in references:
        names = (reference.name, *manifest.roi_groups.get(reference.name, ()))
        fits = (a for a in left if a.name in names and _same_object(reference, a, pipeline.finds_boxes))
        match = next(fits, None)
        if match is not None:
            left.remove(match)
            hits += 1
    return hits


def _same_object(reference: _Label, answer: _Label, by_overlap: bool) -> bool:
    if not by_overlap:
        return answer.picture == reference.picture
    if reference.box_xyxy_px is None or answer.box_xyxy_px is None:
        return False
    overlap = iou_with(np.array(reference.box_xyxy_px), np.array([answer.box_xyxy_px]))[0]
    return bool(overlap >= MATCH_IOU)


def _row(topic: str, name: str, knowledge: str, tally: _Tally, labelled: bool) -> Row:
    score = tally.accuracy if labelled else tally.agreement
    return Row(
        topic, name, knowledge, tally.frames, tally.answered, dict(tally.failed), tally.not_applicable,
        _judged_by(name, labelled), proportion(score.hits, score.judged),
        {stage: percentiles([getattr(t, f"{stage}_ms") for t in tally.times]) for stage in STAGES},
    )


def _judged_by(injection: str, labelled: bool) -> str:
    if labelled:
        return "accuracy"
    return "reference" if injection == CLEAN else "agreement"


def _timed(outcome: Outcome, decode_ms: float) -> Outcome:
    if isinstance(outcome, Result):
        return replace(outcome, times=replace(outcome.times, decode_ms=decode_ms))
    return outcome


def _cause(error: Exception | None) -> str:
    if isinstance(error, ImageError):
        return "image"
    return "output" if isinstance(error, OutputError) else "other"
