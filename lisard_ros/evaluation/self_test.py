"""The self test: the bundle's reference images through the deployed pipeline, clean and attacked, against limits.

With a detector in front both bundles are tested, each on its own images; the cases of the detector are called
`detector/NAME`. Pure: the node runs it behind `~/self_test`, `lisard doctor` runs it on the command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lisard_ros import backends
from lisard_ros import injection as stage
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import ATTACK_PREFIX, DETECTOR_PREFIX, SelfTestCase
from lisard_ros.errors import BundleError, UsageError
from lisard_ros.evaluation import limits as limit_rules
from lisard_ros.evaluation import live_images, references
from lisard_ros.evaluation.case_run import EXPORT_AGAIN, CaseFollower, CaseImage, StageRun, StageUnderTest
from lisard_ros.evaluation.limits import FAILED, FIGURES, LATENCIES, Limit, Verdict
from lisard_ros.evaluation.live_images import LiveFrame
from lisard_ros.evaluation.references import ReferenceImages
from lisard_ros.evaluation.self_test_report import CaseResult, SelfTestProgress, SelfTestReport, Source, held_limits
from lisard_ros.evaluation.statistics import Percentiles, percentiles
from lisard_ros.frames import Result
from lisard_ros.inference.pipeline import Pipeline, Settings

NO_SELF_TEST = "self_test"  # the case of a bundle that has none


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
    source: Source = "live",
    origin: str = "",
    watch: Callable[[CaseImage], object] = lambda image: None,
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
        live: Frames to attack instead of the reference images; `count` then plays no part. What is counted is agreement
            with the clean answer, or accuracy where frames have a truth. The limits of the bundle are those of its own
            images and do not hold: a case has a limit only by NAME=LIMIT.
        source: Where the frames of `live` come from.
        origin: Their topic, recording or folder, for the report.
        watch: Called with every image under every case, after the case has run.
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
    limit_rules.require_known(limits, (*names, *FIGURES))
    asked = {limit.metric: limit for limit in limits}
    verdicts: list[Verdict] = []
    for under_test in stages:
        of_stage = StageRun(under_test, seed, sources, watch)
        total = len(under_test.images.frames) if under_test.images is not None else 0
        for case in under_test.cases:
            if cancelled():
                break
            name = under_test.prefix + case.injection
            begin = SelfTestProgress(len(results) + 1, len(names), name, 0, total)
            result, verdict = of_stage.run(case, asked.get(name), CaseFollower(begin, progress, cancelled))
            results.append(result)
            if verdict is not None:
                verdicts.append(verdict)
    verdicts += _judge_others(stages[-1], results, limits) if not cancelled() else []
    report = _report(pipeline, seed, results, verdicts, cancelled=cancelled())
    return report if live is None else replace(report, source=source, origin=origin)


def _report(
    pipeline: Pipeline, seed: int, results: Sequence[CaseResult], verdicts: Sequence[Verdict], *, cancelled: bool
) -> SelfTestReport:
    """Report what was found with the bundle's own images. It passes only if a limit was set, and all hold."""
    held = held_limits(results, verdicts)
    sound = not cancelled and all(one.verdict != "failed" for one in results)
    first = pipeline.detector
    return SelfTestReport(
        pipeline.bundle.manifest.name,
        pipeline.bundle.sha256,
        pipeline.choice.backend.description,
        seed,
        tuple(results),
        cancelled,
        sound and bool(held) and all(held),
        detector=first.bundle.manifest.name if first else "",
        detector_sha256=first.bundle.sha256 if first else "",
        verdicts=tuple(verdicts),
        engine_sha256=pipeline.choice.backend.model_sha256,
        detector_engine_sha256=first.choice.backend.model_sha256 if first else "",
        device=backends.device_of(pipeline.choice),
    )


def usual_suite(bundle: Bundle, *, live: bool = False) -> tuple[str, ...]:
    """Return the cases when nobody says which. live: of other images than the bundle's own, to which no stored
    perturbation applies.
    """
    test = bundle.manifest.self_test
    if test is None:
        return references.SUITE if live else ()
    stored = {p.name for p in bundle.manifest.perturbations if p.kind == "stored"} if live else set()
    return tuple(case.injection for case in test.suite if case.injection not in stored)


def with_limits(
    bundle: Bundle,
    suite: tuple[str, ...],
    limits: tuple[Limit, ...],
    *,
    detector: Bundle | None = None,
    live: bool = False,
) -> tuple[tuple[str, ...], tuple[Limit, ...]]:
    """Return the suite with the cases that limits name, and the limits with those of the suite, NAME=LIMIT.

    What a user asks for is judged by `evaluation.limits`; a case without a limit of the user's keeps the bundle's own.
    NAME=LIMIT of FIGURES, such as p95_ms=50, is a limit and no case: the suite keeps the cases that it has without it.

    Args:
        bundle: The bundle under test.
        suite: As the user names it; empty, or with limits of FIGURES alone: `usual_suite`.
        limits: As the user sets them.
        detector: The bundle in front.
        live: Whether other images than the bundle's own are attacked.
    """
    asked = {limit.metric: limit for limit in limits}
    figures = [word for word in suite if "=" in word and word.partition("=")[0].strip() in FIGURES]
    suite = tuple(word for word in suite if word not in figures)
    own = limit_rules.parse(",".join(figures)) if figures else ()
    limits = (*(limit for limit in own if limit.metric not in asked), *limits)
    cases = [limit for limit in limits if limit.metric not in FIGURES]
    if not suite and not cases:
        return (), limits
    of_detector = () if detector is None else usual_suite(detector, live=live)
    words = suite or (*(DETECTOR_PREFIX + name for name in of_detector), *usual_suite(bundle, live=live))
    named = [limit_rules.parse(word)[0] for word in words if "=" in word and word.partition("=")[0] not in asked]
    for limit in cases:
        name = limit.metric.removeprefix(DETECTOR_PREFIX)
        of_stage = bundle if name == limit.metric else detector
        if of_stage is not None and name.startswith(ATTACK_PREFIX):
            stage.require_known(of_stage, name)
        elif of_stage is not None:
            others = FIGURES if of_stage is bundle else ()
            prefix = "" if of_stage is bundle else DETECTOR_PREFIX
            known = (prefix + one for one in (*stage.names(of_stage), *stage.CORRUPTIONS))
            limit_rules.require_known([limit], (*known, *others))
    kept = [word for word in words if word.partition("=")[0] not in asked]
    return (*kept, *(f"{limit.metric}={limit.value}" for limit in cases)), (*named, *limits)


def _judge_others(under_test: StageUnderTest, results: Sequence[CaseResult], limits: Sequence[Limit]) -> list[Verdict]:
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
) -> list[StageUnderTest]:
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
                cure=EXPORT_AGAIN,
            )
        return [_stage("", pipeline, words, count, seed)]
    stages = [(DETECTOR_PREFIX, pipeline.detector, first), ("", pipeline, words)]
    if live is not None:
        return [_live_stage(prefix, p, pipeline, wanted, live) for prefix, p, wanted in stages if wanted or not suite]
    if not any(p.bundle.manifest.self_test for _, p, _ in stages):
        raise BundleError(
            "neither of the two bundles has a self test", found="none", expected="`self_test`", cure=EXPORT_AGAIN
        )
    return [_stage(prefix, p, wanted, count, seed) for prefix, p, wanted in stages if wanted or not suite]


def _stage(prefix: str, pipeline: Pipeline, words: Sequence[str], count: int, seed: int) -> StageUnderTest:
    bundle = pipeline.bundle
    alone = Pipeline(bundle, pipeline.choice, Settings(top_k=1))
    test = bundle.manifest.self_test
    if test is None:
        return StageUnderTest(prefix, alone, (SelfTestCase(injection=NO_SELF_TEST, min_accuracy=0.0),), None)
    images = references.load(bundle, test)
    order = np.random.default_rng(seed).permutation(len(images.frames))
    drawn = images.take(np.sort(order[: count or len(order)]))
    return StageUnderTest(prefix, alone, tuple(_cases(bundle, test.suite, words)), drawn)


def _live_stage(
    prefix: str, stage_pipeline: Pipeline, pipeline: Pipeline, words: Sequence[str], live: Sequence[LiveFrame]
) -> StageUnderTest:
    bundle = stage_pipeline.bundle
    alone = Pipeline(bundle, stage_pipeline.choice, Settings(top_k=1))
    measured = [SelfTestCase(injection=name, min_accuracy=0.0) for name in usual_suite(bundle, live=True)]
    images = live_images.whole(alone, live) if prefix else live_images.looked_at(alone, pipeline, live)
    return StageUnderTest(prefix, alone, tuple(_cases(bundle, measured, words)), images)


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
