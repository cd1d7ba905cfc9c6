"""Limits of a self test: a margin below what the bundle reaches now, found by the self test itself."""

from __future__ import annotations

from collections.abc import Sequence

from lisard_ros import backends, self_test
from lisard_ros.bundle import Bundle
from lisard_ros.errors import LisardError
from lisard_ros.manifest import SelfTestCase
from lisard_ros.pipeline import Pipeline
from lisard_ros.self_test import CaseResult

from .exporting import SELF_TEST_MARGIN, limit

HALF_A_DIGIT = 0.0005  # by which rounding to three digits may raise a limit


def measure(bundle: Bundle, injections: Sequence[str]) -> tuple[SelfTestCase, ...]:
    """A case for each injection, with a limit that the bundle holds on this machine; LisardError if one cannot run."""
    pipeline = Pipeline(bundle, backends.choose(bundle))
    try:
        report = self_test.run(pipeline, suite=[f"{name}=0" for name in injections])
    finally:
        pipeline.close()
    return tuple(_case(result) for result in report.cases)


def _case(found: CaseResult) -> SelfTestCase:
    if found.reason:
        raise LisardError(f"self test, case {found.injection}", found=found.reason, expected="answers")
    margin = SELF_TEST_MARGIN
    if found.counted == "boxes":  # a few pictures hold few boxes: one of them may be lost
        margin = max(margin, 1 / found.accuracy.n) + HALF_A_DIGIT
    return SelfTestCase(injection=found.injection, min_accuracy=limit(found.accuracy.share, margin))
