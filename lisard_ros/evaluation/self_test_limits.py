"""Limits of a self test: a margin below what the bundle reaches now, found by the self test itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from lisard_ros import backends
from lisard_ros import bundle as bundles
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import Manifest, SelfTest, SelfTestCase
from lisard_ros.errors import LisardError
from lisard_ros.evaluation import self_test
from lisard_ros.evaluation.self_test_report import CaseResult, SelfTestReport
from lisard_ros.inference.pipeline import Pipeline

SELF_TEST_MARGIN = 0.05  # how far below the accuracy at export the self test may fall
HALF_A_DIGIT = 0.0005  # by which rounding to three digits may raise a limit


def limit(accuracy: float, margin: float = SELF_TEST_MARGIN) -> float:
    """Return the self test's limit for a case that had this accuracy at export."""
    return round(max(0.0, accuracy - margin), 3)


def with_limits(manifest: Manifest, test: SelfTest, contents: Mapping[str, bytes]) -> Manifest:
    """Return the manifest with the self test, its limits a margin below what these very files reach in the runtime."""
    provisional = msgspec.structs.replace(manifest, self_test=test)
    with tempfile.TemporaryDirectory() as passing:
        written = bundles.write(Path(passing) / "bundle", provisional, contents)
        suite = measure(written, [case.injection for case in test.suite])
    return msgspec.structs.replace(manifest, self_test=msgspec.structs.replace(test, suite=suite))


def measure(bundle: Bundle, injections: Sequence[str]) -> tuple[SelfTestCase, ...]:
    """A case for each injection, with a limit that the bundle holds on this machine; LisardError if one cannot run."""
    return cases(report(bundle, injections))


def report(bundle: Bundle, injections: Sequence[str]) -> SelfTestReport:
    """Run these injections over the bundle's reference images, without limits."""
    pipeline = Pipeline(bundle, backends.choose(bundle))
    try:
        return self_test.run(pipeline, suite=[f"{name}=0" for name in injections])
    finally:
        pipeline.close()


def cases(measured: SelfTestReport) -> tuple[SelfTestCase, ...]:
    """Turn a report without limits into cases with limits.

    Raises:
        LisardError: A case could not run.
    """
    return tuple(limited(result) for result in measured.cases)


def limited(result: CaseResult) -> SelfTestCase:
    """Return the case with a limit below its result; LisardError if it could not run."""
    if result.reason:
        raise LisardError(f"self test, case {result.injection}", found=result.reason, expected="answers")
    margin = SELF_TEST_MARGIN
    if result.counted == "boxes":  # a few images hold few boxes: one of them may be lost
        margin = max(margin, 1 / result.accuracy.n) + HALF_A_DIGIT
    return SelfTestCase(injection=result.injection, min_accuracy=limit(result.accuracy.share, margin))
