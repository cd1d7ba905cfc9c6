"""The self test: the bundle's reference pictures through the deployed pipeline, clean and attacked, against limits.

Pure: the node runs it behind `~/self_test`, `lisard doctor` runs it on the command line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros import __version__
from lisard_ros.bundle import Bundle
from lisard_ros.errors import AttackError, BundleError, LisardError, UsageError
from lisard_ros.frames import Frame, Result
from lisard_ros.injection import stage, store
from lisard_ros.manifest import SelfTest, SelfTestCase
from lisard_ros.pipeline import Attacked, Pipeline, Settings
from lisard_ros.statistics import Proportion, proportion

BATCH = 32
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One line of the test. accuracy: over the pictures that the injection applied to; reason: why it failed, or ''."""

    injection: str
    knowledge: str
    accuracy: Proportion
    not_applicable: int
    failed: int
    min_accuracy: float
    passed: bool
    reason: str

    def __str__(self) -> str:
        """One line for people."""
        limit = f"limit {100 * self.min_accuracy:.1f} %"
        verdict = "passed" if self.passed else f"FAILED: {self.reason}"
        return f"{self.injection} ({self.knowledge}): {self.accuracy}, {limit}: {verdict}"


@dataclass(frozen=True, slots=True)
class Report:
    """The whole self test; passed only if it ran to its end, every case was run and every limit holds."""

    bundle: str
    bundle_sha256: str
    backend: str
    seed: int
    cases: tuple[CaseResult, ...]
    cancelled: bool
    passed: bool
    schema_version: int = SCHEMA_VERSION
    made_by: str = f"lisard_ros {__version__}"


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """The reference pictures as frames, with their label indices, int [N]."""

    frames: tuple[Frame, ...]
    labels: NDArray[np.intp]


def load_references(bundle: Bundle, test: SelfTest) -> References:
    """Read the reference pictures of a bundle: uint8 [N, H, W, 3] RGB."""
    arrays = store.load_arrays(bundle.data(test.frames), test.frames)
    pictures = arrays.get("frames")
    fits = pictures is not None and pictures.dtype == np.uint8 and pictures.ndim == 4 and pictures.shape[3] == 3
    if pictures is None or not fits or len(pictures) != len(test.labels):
        found = None if pictures is None else f"{pictures.dtype} {pictures.shape}"
        raise BundleError(
            f"{test.frames} does not hold the reference pictures", found=found,
            expected=f"`frames` uint8 [{len(test.labels)}, H, W, 3]",
        )
    frames = tuple(
        Frame(np.asarray(picture, np.uint8), "rgb", number, "self_test", "self_test")
        for number, picture in enumerate(pictures)
    )
    return References(frames, np.array(test.labels, np.intp))


def run(
    pipeline: Pipeline,
    *,
    count: int = 0,
    suite: Sequence[str] = (),
    seed: int = 0,
    cancelled: Callable[[], bool] = lambda: False,
) -> Report:
    """Run the suite of the bundle's `self_test` and hold each accuracy against its limit.

    count: how many reference pictures, drawn by `seed` (0 means all). suite: which cases (empty means all); NAME=LIMIT
    gives a case its limit, which one that the bundle's suite lacks needs: corruption/fog/3=0.8 (0: only measure).
    cancelled: asked between batches. BundleError when the bundle has no self test, UsageError for an unknown case.
    The limits were set for the class that the network prefers, so the pipeline's own thresholds don't matter here.
    """
    bundle = pipeline.bundle
    test = bundle.manifest.self_test
    if test is None:
        raise BundleError(f"bundle {bundle.manifest.name} has no self test", found="none", expected="`self_test`",
                          cure="export it with reference pictures")
    chosen = _draw(load_references(bundle, test), count, seed)
    judged = Pipeline(bundle, pipeline.choice, Settings(top_k=1))
    results = []
    for case in _cases(test, suite):
        if cancelled():
            break
        results.append(_run_case(judged, case, chosen, seed, cancelled))
    ended_early = cancelled()
    passed = not ended_early and bool(results) and all(result.passed for result in results)
    return Report(
        bundle.manifest.name, bundle.sha256, pipeline.choice.backend.description, seed, tuple(results), ended_early,
        passed,
    )


def _draw(references: References, count: int, seed: int) -> References:
    if count < 0:
        raise UsageError("the self test cannot draw a negative number of pictures", found=count, expected=">= 0")
    if seed < 0:
        raise UsageError("the seed of the self test is negative", found=seed, expected=">= 0")
    order = np.random.default_rng(seed).permutation(len(references.frames))
    rows = np.sort(order[: count or len(order)])
    return References(tuple(references.frames[row] for row in rows), references.labels[rows])


def _cases(test: SelfTest, wanted: Sequence[str]) -> list[SelfTestCase]:
    known = {case.injection: case for case in test.suite}
    cases = {word: known.get(word) or _with_limit(word) for word in wanted}
    missing = [word for word, case in cases.items() if case is None]
    if missing:
        raise UsageError("the suite has no such case", found=", ".join(missing), expected="of " + ", ".join(known),
                         cure="another injection needs a limit: NAME=0.8, or NAME=0 to measure it only")
    return [case for case in cases.values() if case is not None] if wanted else list(test.suite)


def _with_limit(word: str) -> SelfTestCase | None:
    """Read NAME=LIMIT, limit 0 to 1; None for a word without a limit."""
    name, equals, number = word.rpartition("=")
    if not equals:
        return None
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not 0 <= limit <= 1:
        raise UsageError(f"the limit of case {name}", found=repr(number), expected="a share from 0 to 1")
    return SelfTestCase(injection=name, min_accuracy=limit)


def _run_case(
    pipeline: Pipeline, case: SelfTestCase, references: References, seed: int, cancelled: Callable[[], bool]
) -> CaseResult:
    try:
        injection = stage.make(pipeline.bundle, case.injection, seed=seed)
        answers = _answers(pipeline, injection, references.frames, cancelled)
    except LisardError as error:
        return CaseResult(case.injection, "none", proportion(0, 0), 0, 0, case.min_accuracy, False, str(error))
    return _judge(case, injection, answers, references.labels)


def _answers(
    pipeline: Pipeline, injection: stage.Injection, frames: Sequence[Frame], cancelled: Callable[[], bool]
) -> list[Attacked]:
    answers: list[Attacked] = []
    for start in range(0, len(frames), BATCH):
        if cancelled():
            raise AttackError("the self test was cancelled")
        answers += pipeline.attack(frames[start : start + BATCH], injection)
    return answers


def _judge(
    case: SelfTestCase, injection: stage.Injection, answers: Sequence[Attacked], labels: NDArray[np.intp]
) -> CaseResult:
    failed = [a for a in answers if not isinstance(a.outcome, Result)]
    applied = [(a, int(label)) for a, label in zip(answers, labels, strict=True) if a.applied]
    accuracy = proportion(sum(_top_index(a) == label for a, label in applied), len(applied))
    reason = _reason(case, accuracy, failed)
    return CaseResult(
        case.injection, injection.knowledge, accuracy, len(answers) - len(applied), len(failed), case.min_accuracy,
        not reason, reason,
    )


def _reason(case: SelfTestCase, accuracy: Proportion, failed: Sequence[Attacked]) -> str:
    if failed:
        return f"{len(failed)} pictures without an answer, the first: {getattr(failed[0].outcome, 'error', '')}"
    if not accuracy.n:
        return "the injection was not made for any of these pictures"
    if accuracy.share < case.min_accuracy:
        return f"accuracy {100 * accuracy.share:.1f} % is below the limit"
    return ""


def _top_index(answer: Attacked) -> int:
    outcome = answer.outcome
    if not isinstance(outcome, Result) or outcome.classification is None or not outcome.classification.hypotheses:
        return -1
    return outcome.classification.hypotheses[0].index
