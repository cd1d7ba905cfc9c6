"""Score a recording: accuracy where labels exist, else agreement with the clean answer; latency by stage.

One pass over the bag: each frame is prepared once, answered clean, then answered under every injection.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from lisard_ros.bags.reader import BagFrame
from lisard_ros.errors import ImageError, OutputError
from lisard_ros.frames import WHOLE_FRAME, Result, StageTimes
from lisard_ros.injection.stage import CLEAN, Injection
from lisard_ros.manifest import Manifest
from lisard_ros.pipeline import Outcome, Pipeline, Prepared
from lisard_ros.statistics import Percentiles, Proportion, percentiles, proportion

STAGES = ("decode", "preprocess", "inject", "infer", "postprocess", "total")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the matrix: a camera under one injection.

    judged: `accuracy` against recorded labels, `agreement` with the clean answer of the same picture, or `reference`
    for clean answers that nothing can be held against.
    score: its share, over frames or boxes that have an answer and to which the injection applied.
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


@dataclass(slots=True)
class _Tally:
    """What one camera under one injection has come to so far."""

    frames: int = 0
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    not_applicable: int = 0
    hits: int = 0
    judged: int = 0
    times: list[StageTimes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Truth:
    """What counts as right for the pictures of one frame: a label for each judged picture, None where nobody knows."""

    labels: tuple[str | None, ...]


def evaluate(
    pipeline: Pipeline, bag: str, frames: Iterable[BagFrame], injections: Sequence[Injection],
    progress: Callable[[], None] = lambda: None,
) -> Replay:
    """Answer every frame clean and under each injection and score the answers.

    Frames with recorded boxes are judged by box (coarse labels by the bundle's `roi_groups`), others as a whole.
    """
    tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
    knowledge = {CLEAN: "none", **{i.name: i.knowledge for i in injections}}
    labelled: set[str] = set()
    for item in frames:
        _score_frame(pipeline, item, injections, tallies, labelled)
        progress()
    rows = [_row(topic, name, knowledge[name], tally, topic in labelled) for (topic, name), tally in tallies.items()]
    manifest = pipeline.bundle.manifest
    return Replay(bag, manifest.name, pipeline.bundle.sha256, pipeline.choice.backend.description, tuple(rows))


def _score_frame(
    pipeline: Pipeline, item: BagFrame, injections: Sequence[Injection],
    tallies: dict[tuple[str, str], _Tally], labelled: set[str],
) -> None:
    names = (CLEAN, *(i.name for i in injections))
    for name in names:
        tallies[item.topic, name].frames += 1
    if item.frame is None:
        for name in names:
            tallies[item.topic, name].failed[_cause(item.error)] += 1
        return
    regions = (WHOLE_FRAME,) if item.regions is None else item.regions
    prepared = pipeline.prepare([item.frame], [regions])
    clean = _timed(pipeline.answer(prepared)[0], item.decode_ms)
    truth = _truth(item, prepared)
    if any(label is not None for label in truth.labels):
        labelled.add(item.topic)
    _count(tallies[item.topic, CLEAN], clean, clean, truth, pipeline.bundle.manifest)
    for injection in injections:
        attacked = pipeline.answer_attacked(prepared, injection)[0]
        tally = tallies[item.topic, injection.name]
        if attacked.applied:
            _count(tally, _timed(attacked.outcome, item.decode_ms), clean, truth, pipeline.bundle.manifest)
        else:
            tally.not_applicable += 1


def _truth(item: BagFrame, prepared: Prepared) -> _Truth:
    if item.regions is None:
        return _Truth((item.label,))
    seen = {look.region for look in prepared.looks}
    return _Truth(tuple(region.label if index in seen else None for index, region in enumerate(item.regions)))


def _count(tally: _Tally, outcome: Outcome, clean: Outcome, truth: _Truth, manifest: Manifest) -> None:
    if not isinstance(outcome, Result):
        tally.failed[_cause(outcome.error)] += 1
        return
    tally.answered += 1
    tally.times.append(outcome.times)
    before = _top_labels(clean) if isinstance(clean, Result) else ()
    for index, label in enumerate(_top_labels(outcome)):
        known = truth.labels[index] if index < len(truth.labels) else None
        if known is not None:
            tally.judged += 1
            tally.hits += label == known or label in manifest.roi_groups.get(known, ())
        elif not any(truth.labels) and index < len(before) and outcome is not clean:
            tally.judged += 1
            tally.hits += label == before[index]


def _top_labels(result: Result) -> tuple[str | None, ...]:
    if result.detections is not None:
        return tuple(d.hypotheses[0].label if d.hypotheses else None for d in result.detections.items)
    if result.classification is None or not result.classification.hypotheses:
        return (None,)
    return (result.classification.hypotheses[0].label,)


def _row(topic: str, name: str, knowledge: str, tally: _Tally, labelled: bool) -> Row:
    return Row(
        topic, name, knowledge, tally.frames, tally.answered, dict(tally.failed), tally.not_applicable,
        _judged_by(name, labelled), proportion(tally.hits, tally.judged),
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
