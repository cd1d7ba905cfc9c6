"""The self test: the bundle's reference images through the deployed pipeline, clean and attacked, against limits.

With a detector in front both bundles are tested, each on its own images; the cases of the detector are called
`detector/NAME`. Pure: the node runs it behind `~/self_test`, `lisard doctor` runs it on the command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lisard_ros import __version__
from lisard_ros import injection as stage
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import ATTACK_PREFIX, DETECTOR_PREFIX, SelfTestCase
from lisard_ros.errors import AttackError, BundleError, LisardError, UsageError
from lisard_ros.evaluation import limits as limit_rules
from lisard_ros.evaluation import live_images, references, scoring
from lisard_ros.evaluation.limits import FAILED, LATENCIES, Limit, Verdict
from lisard_ros.evaluation.live_images import LiveFrame
from lisard_ros.evaluation.references import ReferenceImages
from lisard_ros.evaluation.statistics import Percentiles, Proportion, clustered_counts, percentiles, proportion
from lisard_ros.frames import Frame, Result
from lisard_ros.inference.pipeline import Attacked, Pipeline, Settings

BATCH = 32
SCHEMA_VERSION = 1
NO_SELF_TEST = "self_test"  # the case of a bundle that has none
_EXPORT_AGAIN = "make it again with `lisard bundle --images FOLDER`, or export it with reference images"
Counted = Literal["pictures", "boxes"]
CaseVerdict = Literal["passed", "failed", "measured"]
Source = Literal["references", "live"]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One line of the test. accuracy: over what the injection applied to; reason: of the failure, or ''.

    verdict: `passed` or `failed` by the limit; `measured` without a limit (`min_accuracy` 0). passed: a limit was set
    and holds. counted: what `accuracy` counts: images with the right class, or true boxes that were found.
    not_applicable, failed: images. false_boxes: boxes that meet no true one; they are shown, and have no limit.
    source: of `live` images the clean answer stands for the truth, and `accuracy` is agreement with it.
    """

    injection: str
    knowledge: str
    accuracy: Proportion
    not_applicable: int
    failed: int
    min_accuracy: float
    passed: bool
    reason: str
    counted: Counted = "pictures"
    false_boxes: int = 0
    verdict: CaseVerdict = "failed"
    source: Source = "references"

    def __str__(self) -> str:
        """One line for people."""
        limit = f"limit {100 * self.min_accuracy:.1f} %" if self.min_accuracy else "no limit"
        verdict = f"FAILED: {self.reason}" if self.verdict == "failed" else self.verdict
        boxes = f" boxes found, {self.false_boxes} false" if self.counted == "boxes" else ""
        what = " agreement with the clean answer" if self.source == "live" else ""
        return f"{self.injection} ({self.knowledge}): {self.accuracy}{boxes}{what}, {limit}: {verdict}"


@dataclass(frozen=True, slots=True)
class SelfTestProgress:
    """How far a test is: case number `case` of `cases`, called `name`, and `done` of its `images`."""

    case: int
    cases: int
    name: str
    done: int
    images: int

    def __str__(self) -> str:
        """In words."""
        return f"case {self.case} of {self.cases} ({self.name}), {self.done} of {self.images} images"


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """The whole self test; passed only if it ran to its end, at least one case has a limit, and no case failed.

    detector, detector_sha256: the bundle in front, '' if there is none.
    """

    bundle: str
    bundle_sha256: str
    backend: str
    seed: int
    cases: tuple[CaseResult, ...]
    cancelled: bool
    passed: bool
    schema_version: int = SCHEMA_VERSION
    made_by: str = f"lisard_ros {__version__}"
    detector: str = ""
    detector_sha256: str = ""
    verdicts: tuple[Verdict, ...] = ()
    source: Source = "references"

    @property
    def failed(self) -> bool:
        """Whether a case failed or the test did not run to its end; false for a test that only measured."""
        cases = any(case.verdict == "failed" for case in self.cases)
        return self.cancelled or cases or not all(verdict.passed for verdict in self.verdicts)

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        held = held_limits(self.cases, self.verdicts)
        if self.cancelled:
            return "cancelled"
        if not held and not self.failed:
            return f"measured: {len(self.cases)} without a limit"
        return f"{'passed' if self.passed else 'FAILED'}: {sum(held)} of {len(held)} limits hold"


def held_limits(cases: Sequence[CaseResult], verdicts: Sequence[Verdict]) -> list[bool]:
    """Return for each limit that was set whether it holds: of cases, of latencies, of failed images."""
    others = [verdict.passed for verdict in verdicts if verdict.metric in (*LATENCIES, FAILED)]
    return [case.passed for case in cases if case.min_accuracy] + others


@dataclass(frozen=True, slots=True, eq=False)
class _BundleUnderTest:
    """One bundle under test: its pipeline alone, its cases and images. prefix: of the names of its cases."""

    prefix: str
    pipeline: Pipeline
    cases: tuple[SelfTestCase, ...]
    images: ReferenceImages | None
    source: Source = "references"


@dataclass(frozen=True, slots=True, eq=False)
class _Watching:
    """Who follows a case, and may end it."""

    begin: SelfTestProgress
    progress: Callable[[SelfTestProgress], None]
    cancelled: Callable[[], bool]

    def reached(self, done: int) -> None:
        """Report how many images are done; AttackError where the test was cancelled."""
        if self.cancelled():
            raise AttackError("the self test was cancelled")
        self.progress(replace(self.begin, done=done))


def run(
    pipeline: Pipeline,
    *,
    count: int = 0,
    suite: Sequence[str] = (),
    seed: int = 0,
    cancelled: Callable[[], bool] = lambda: False,
    limits: Sequence[Limit] = (),
    sources: stage.AttackSources = stage.OWN,
    live: Sequence[LiveFrame] | None = None,
    progress: Callable[[SelfTestProgress], None] = lambda _: None,
) -> SelfTestReport:
    """Run the self test of the bundle, and of the detector in front, and compare each accuracy with its limit.

    With two bundles, one without a self test fails as a case of its own. The limits were set for the class that the
    network prefers and for the bundle's own thresholds, so those of the pipeline are not used here.

    Args:
        pipeline: The deployed pipeline.
        count: How many reference images of each bundle, drawn by `seed`; 0: all.
        suite: Which cases; empty: all. NAME=LIMIT gives a case its limit; a case outside the bundle's suite
            has none otherwise: corruption/fog/3=0.8. Without a limit it is measured. detector/NAME is a case of the
            detector.
        seed: Of the draw and of the noise, 0 or more.
        cancelled: Asked between batches; True ends the test.
        limits: Limits by the rule of `evaluation.limits`: of cases, which take the place of those in the suite, of
            latencies, and of failed images. The suite's own limits are a margin below what these very images reached
            at export, so they are compared with the share itself.
        sources: Where attacks of the registry get gradients; queries go to the pipeline's own engine, and a surrogate
            stands for the pipeline's bundle, not for a detector in front.
        live: Answered frames to attack instead of the reference images; `count` then plays no part. What is counted is
            agreement with the clean answer. The limits of the bundle are accuracies and do not hold: a case has a limit
            only by NAME=LIMIT.
        progress: Called before each batch of a case, and after its last one.

    Raises:
        BundleError: No bundle has a self test, without `live`.
        UsageError: A case is unknown, or a number is out of range.
    """
    if count < 0:
        raise UsageError("the self test cannot draw a negative number of images", found=count, expected=">= 0")
    if seed < 0:
        raise UsageError("the seed of the self test is negative", found=seed, expected=">= 0")
    results: list[CaseResult] = []
    stages = _stages(pipeline, suite, count, seed, live)
    names = [under_test.prefix + case.injection for under_test in stages for case in under_test.cases]
    limit_rules.require_known(limits, (*names, *LATENCIES, FAILED))
    asked = {limit.metric: limit for limit in limits}
    verdicts: list[Verdict] = []
    for under_test in stages:
        for case in under_test.cases:
            if cancelled():
                break
            name = under_test.prefix + case.injection
            total = len(under_test.images.frames) if under_test.images is not None else 0
            begin = SelfTestProgress(len(results) + 1, len(names), name, 0, total)
            watching = _Watching(begin, progress, cancelled)
            result, verdict = _run_case(under_test, case, seed, watching, asked.get(name), sources)
            results.append(result)
            if verdict is not None:
                verdicts.append(verdict)
    verdicts += _judge_others(stages[-1], results, limits) if not cancelled() else []
    ended_early = cancelled()
    sound = not ended_early and all(one.verdict != "failed" for one in results)
    held = held_limits(results, verdicts)
    passed = sound and bool(held) and all(held)
    first = pipeline.detector.bundle if pipeline.detector is not None else None
    return SelfTestReport(
        pipeline.bundle.manifest.name,
        pipeline.bundle.sha256,
        pipeline.choice.backend.description,
        seed,
        tuple(results),
        ended_early,
        passed,
        detector=first.manifest.name if first else "",
        detector_sha256=first.sha256 if first else "",
        verdicts=tuple(verdicts),
        source="references" if live is None else "live",
    )


def with_limits(
    bundle: Bundle, suite: tuple[str, ...], limits: tuple[Limit, ...]
) -> tuple[tuple[str, ...], tuple[Limit, ...]]:
    """Return the suite with the cases that limits name, and the limits with those of the suite, NAME=LIMIT.

    What a user asks for is judged by `evaluation.limits`; a case without a limit of the user's keeps the bundle's own.
    """
    test = bundle.manifest.self_test
    words = suite or tuple(case.injection for case in (test.suite if test is not None else ()))
    asked = {limit.metric: limit for limit in limits}
    named = [limit_rules.parse(word)[0] for word in words if "=" in word and word.partition("=")[0] not in asked]
    cases = [limit for limit in limits if limit.metric not in (*LATENCIES, FAILED)]
    attacks = [limit.metric for limit in cases if limit.metric.startswith(ATTACK_PREFIX)]
    for name in attacks:
        stage.require_known(bundle, name)
    known = (*stage.names(bundle), *stage.CORRUPTIONS, *attacks, *LATENCIES, FAILED)
    limit_rules.require_known(cases, known)
    kept = [word for word in words if word.partition("=")[0] not in asked]
    return (*kept, *(f"{limit.metric}={limit.value}" for limit in cases)), (*named, *limits)


def _judge_others(
    under_test: _BundleUnderTest, results: Sequence[CaseResult], limits: Sequence[Limit]
) -> list[Verdict]:
    """Judge the limits of latencies and of failed images."""
    verdicts = []
    timed = any(limit.metric in LATENCIES for limit in limits)
    times = latency(under_test.pipeline, under_test.images) if timed else percentiles([])
    for limit in limits:
        if limit.metric in LATENCIES:
            verdicts.append(limit_rules.judge_latency(limit, times))
        elif limit.metric == FAILED:
            images = len(under_test.images.frames) if under_test.images is not None else 0
            most = max((result.failed for result in results), default=0)
            verdicts.append(limit_rules.judge_most(limit, most / images if images else math.nan))
    return verdicts


def latency(pipeline: Pipeline, images: ReferenceImages | None) -> Percentiles:
    """Time reference images one at a time, after one to warm up: the whole pipeline without decoding."""
    times = []
    for frame in images.frames[:1] + images.frames if images is not None else ():
        (outcome,) = pipeline.run([frame])
        if isinstance(outcome, Result):
            times.append(outcome.times.total_ms)
    return percentiles(times[1:])


def _stages(
    pipeline: Pipeline, suite: Sequence[str], count: int, seed: int, live: Sequence[LiveFrame] | None
) -> list[_BundleUnderTest]:
    """Return what is to be tested; a stage of which no case is wanted is left out."""
    words = [word for word in suite if not word.startswith(DETECTOR_PREFIX)]
    first = [word.removeprefix(DETECTOR_PREFIX) for word in suite if word.startswith(DETECTOR_PREFIX)]
    if pipeline.detector is None:
        if first:
            raise UsageError(
                "the suite names cases of a detector",
                found=", ".join(first),
                expected="one in front",
                cure="run the node with `detector`, or test the detection bundle by itself",
            )
        if live is not None:
            return [_live_stage("", pipeline, pipeline, words, live)]
        if pipeline.bundle.manifest.self_test is None:
            raise BundleError(
                f"bundle {pipeline.bundle.manifest.name} has no self test",
                found="none",
                expected="`self_test`",
                cure=_EXPORT_AGAIN,
            )
        return [_stage("", pipeline, words, count, seed)]
    stages = [(DETECTOR_PREFIX, pipeline.detector, first), ("", pipeline, words)]
    if live is not None:
        return [_live_stage(prefix, p, pipeline, wanted, live) for prefix, p, wanted in stages if wanted or not suite]
    if not any(p.bundle.manifest.self_test for _, p, _ in stages):
        raise BundleError(
            "neither of the two bundles has a self test", found="none", expected="`self_test`", cure=_EXPORT_AGAIN
        )
    return [_stage(prefix, p, wanted, count, seed) for prefix, p, wanted in stages if wanted or not suite]


def _stage(prefix: str, pipeline: Pipeline, words: Sequence[str], count: int, seed: int) -> _BundleUnderTest:
    bundle = pipeline.bundle
    alone = Pipeline(bundle, pipeline.choice, Settings(top_k=1))
    test = bundle.manifest.self_test
    if test is None:
        return _BundleUnderTest(prefix, alone, (SelfTestCase(injection=NO_SELF_TEST, min_accuracy=0.0),), None)
    images = references.load(bundle, test)
    order = np.random.default_rng(seed).permutation(len(images.frames))
    drawn = images.take(np.sort(order[: count or len(order)]))
    return _BundleUnderTest(prefix, alone, tuple(_cases(bundle, test.suite, words)), drawn)


def _live_stage(
    prefix: str, stage_pipeline: Pipeline, pipeline: Pipeline, words: Sequence[str], live: Sequence[LiveFrame]
) -> _BundleUnderTest:
    bundle = stage_pipeline.bundle
    alone = Pipeline(bundle, stage_pipeline.choice, Settings(top_k=1))
    test = bundle.manifest.self_test
    names = references.SUITE if test is None else [case.injection for case in test.suite]
    measured = [SelfTestCase(injection=name, min_accuracy=0.0) for name in names]
    images = live_images.whole(alone, live) if prefix else live_images.looked_at(alone, pipeline, live)
    return _BundleUnderTest(prefix, alone, tuple(_cases(bundle, measured, words)), images, "live")


def _cases(bundle: Bundle, suite: Sequence[SelfTestCase], wanted: Sequence[str]) -> list[SelfTestCase]:
    known = {case.injection: case for case in suite}
    cases = {word: known.get(word) or _asked_for(bundle, word) for word in wanted}
    missing = [word for word, case in cases.items() if case is None]
    if missing:
        raise UsageError(
            "the suite has no such case",
            found=", ".join(missing),
            expected="of " + ", ".join(known),
            cure="another injection of the bundle is measured; NAME=0.8 gives it a limit",
        )
    return [case for case in cases.values() if case is not None] if wanted else list(suite)


def _asked_for(bundle: Bundle, word: str) -> SelfTestCase | None:
    """Read NAME=LIMIT, limit 0 to 1, or NAME, which is measured; None for a NAME that the bundle does not offer."""
    name, equals, number = word.rpartition("=")
    if not equals:
        if word.startswith(ATTACK_PREFIX):
            stage.require_known(bundle, word)  # lists the attacks
        offered = word in stage.names(bundle) or word in stage.CORRUPTIONS or word.startswith(ATTACK_PREFIX)
        return SelfTestCase(injection=word, min_accuracy=0.0) if offered else None
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not 0 <= limit <= 1:
        raise UsageError(f"the limit of case {name}", found=repr(number), expected="a share from 0 to 1")
    return SelfTestCase(injection=name, min_accuracy=limit)


def _run_case(
    under_test: _BundleUnderTest,
    case: SelfTestCase,
    seed: int,
    watching: _Watching,
    limit: Limit | None,
    sources: stage.AttackSources,
) -> tuple[CaseResult, Verdict | None]:
    bundle, images = under_test.pipeline.bundle, under_test.images
    boxes: Counted = "boxes" if bundle.manifest.task == "detection" else "pictures"
    blank = CaseResult(
        under_test.prefix + case.injection,
        "none",
        proportion(0, 0),
        0,
        0,
        case.min_accuracy,
        False,
        f"bundle {bundle.manifest.name} has no self test: {_EXPORT_AGAIN}",
        boxes,
        source=under_test.source,
    )
    if images is None:
        return blank, None
    try:
        surrogate = None if under_test.prefix else sources.surrogate
        own = replace(sources, engine=under_test.pipeline.choice.backend, surrogate=surrogate)
        injection = stage.make(bundle, case.injection, seed=seed, sources=own)
        answers = _answers(under_test.pipeline, injection, images.frames, watching)
    except LisardError as error:
        return replace(blank, reason=str(error)), None
    return _judge(replace(blank, knowledge=injection.knowledge), answers, images, limit)


def _answers(
    pipeline: Pipeline, injection: stage.Injection, frames: Sequence[Frame], watching: _Watching
) -> list[Attacked]:
    answers: list[Attacked] = []
    for start in range(0, len(frames), BATCH):
        watching.reached(start)
        answers += pipeline.attack(frames[start : start + BATCH], injection)
    watching.progress(replace(watching.begin, done=len(frames)))
    return answers


def _judge(
    blank: CaseResult, answers: Sequence[Attacked], images: ReferenceImages, limit: Limit | None
) -> tuple[CaseResult, Verdict | None]:
    failed = [a for a in answers if not isinstance(a.outcome, Result)]
    applied = [(a, truth) for a, truth in zip(answers, images.truths, strict=True) if a.applied]
    scores = [scoring.score(a.outcome, truth) for a, truth in applied]
    total = sum(scores, scoring.Score())
    accuracy = clustered_counts([one.hits for one in scores], [one.n for one in scores], range(len(scores)))
    verdict = None
    if limit is not None:
        blank = replace(blank, min_accuracy=limit.value)
        verdict = limit_rules.judge_share(limit, accuracy, sum(one.n > 0 for one in scores))
    reason = _reason(blank, accuracy, failed, verdict)
    result = replace(
        blank,
        accuracy=accuracy,
        not_applicable=len(answers) - len(applied),
        failed=len(failed),
        passed=not reason and blank.min_accuracy > 0,
        reason=reason,
        verdict="failed" if reason else "passed" if blank.min_accuracy > 0 else "measured",
        false_boxes=total.false_boxes,
    )
    return result, verdict


def _reason(case: CaseResult, accuracy: Proportion, failed: Sequence[Attacked], verdict: Verdict | None) -> str:
    if failed:
        return f"{len(failed)} images without an answer, the first: {getattr(failed[0].outcome, 'error', '')}"
    if not accuracy.n and case.source == "live" and not case.not_applicable:
        return "no live image shows anything that could be lost"
    if not accuracy.n:
        return f"the injection was not made for any of these {'boxes' if case.counted == 'boxes' else 'images'}"
    if verdict is not None:
        return verdict.reason
    if accuracy.share < case.min_accuracy:
        what = "accuracy" if case.counted == "pictures" else "share of true boxes found,"
        what = "agreement with the clean answer" if case.source == "live" else what
        return f"{what} {100 * accuracy.share:.1f} % is below the limit"
    return ""
