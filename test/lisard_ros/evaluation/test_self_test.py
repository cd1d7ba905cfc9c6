"""The self test passes on a sound bundle, and a broken one can never pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lisard_ros.attacks import store
from lisard_ros.bundle.arrays import dump_arrays
from lisard_ros.bundle.manifest import SelfTest, SelfTestCase
from lisard_ros.errors import BundleError, LisardError, UsageError
from lisard_ros.evaluation import limits as limit_rules
from lisard_ros.evaluation import self_test

SUITE = ("clean", "noise", "fgsm", "universal")


def suite(*cases: tuple[str, float], labels: int = 12) -> SelfTest:
    """A self test over the tiny reference images."""
    return SelfTest(
        frames="references.npz",
        labels=tuple(n % 3 for n in range(labels)),
        suite=tuple(SelfTestCase(injection=name, min_accuracy=limit) for name, limit in cases),
    )


def test_a_sound_bundle_passes(tiny: Any) -> None:
    bundle = tiny.armed()
    report = self_test.run(tiny.pipeline(bundle))
    assert report.passed and not report.cancelled and report.bundle_sha256 == bundle.sha256
    assert tuple(case.injection for case in report.cases) == SUITE
    for case in report.cases:
        assert case.passed and case.reason == "" and (case.accuracy.hits, case.accuracy.n) == (12, 12)
        assert (case.not_applicable, case.failed) == (0, 0)
    assert "ONNX Runtime" in report.backend
    assert [c.knowledge for c in report.cases] == ["none", "none", "gray-box", "gray-box"]


def test_shuffled_weights_fail(tiny: Any) -> None:
    """The classes are exchanged: the bundle is whole, its hashes fit, only the answers are wrong."""
    shuffled = np.roll(np.eye(3, dtype=np.float32), 1, axis=1) * 20
    report = self_test.run(tiny.pipeline(tiny.armed(weights=shuffled)))
    assert not report.passed and not any(case.passed for case in report.cases)
    assert all("is below the limit" in case.reason and "FAILED" in str(case) for case in report.cases)


def test_a_model_that_answers_nan_fails(tiny: Any) -> None:
    report = self_test.run(tiny.pipeline(tiny.armed(weights=np.full((3, 3), math.nan, np.float32))))
    assert not report.passed and all(case.failed == 12 and "NaN" in case.reason for case in report.cases)


def test_one_limit_that_does_not_hold_fails_the_whole(tiny: Any) -> None:
    shuffled = np.eye(3, dtype=np.float32)[[0, 2, 1]] * 20
    bundle = tiny.armed(weights=shuffled, self_test=suite(("clean", 0.3), ("noise", 0.9)))
    report = self_test.run(tiny.pipeline(bundle))
    assert [case.passed for case in report.cases] == [True, False] and not report.passed


def test_a_limit_that_is_just_met_holds(tiny: Any) -> None:
    half = suite(("clean", 1 / 3))
    shuffled = np.eye(3, dtype=np.float32)[[0, 2, 1]] * 20
    report = self_test.run(tiny.pipeline(tiny.armed(weights=shuffled, self_test=half)))
    assert report.cases[0].accuracy.hits == 4 and report.passed


def test_what_is_not_applicable_is_never_robust(tiny: Any) -> None:
    """Perturbations bound to other images leave nothing to judge: the case fails, even with a limit of 0."""
    bundle = tiny.armed()
    about = bundle.manifest.perturbations[0]
    deltas = np.zeros((12, 3, tiny.side_px, tiny.side_px), np.int16)
    files = {**bundle.contents, "stored.npz": store.dump(deltas, ["0" * 64] * 12)}
    other = tiny.armed(self_test=suite(("fgsm", 0.0)), perturbations=(about,))
    strange = tiny.classifier("strange", None, files, perturbations=(about,), self_test=other.manifest.self_test)
    report = self_test.run(tiny.pipeline(strange))
    (case,) = report.cases
    assert not report.passed and case.not_applicable == 12 and case.accuracy.n == 0
    assert "not made for any of these images" in case.reason


def test_a_case_that_the_bundle_cannot_inject_fails_and_says_so(tiny: Any) -> None:
    report = self_test.run(tiny.pipeline(tiny.armed(self_test=suite(("clean", 0.5), ("fgms", 0.5)))))
    assert [case.passed for case in report.cases] == [True, False] and not report.passed
    assert "did you mean 'fgsm'?" in report.cases[1].reason


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_cancelled_test_has_not_passed(tiny: Any, after: int) -> None:
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > after

    report = self_test.run(tiny.pipeline(tiny.armed()), cancelled=cancelled)
    assert report.cancelled and not report.passed and len(report.cases) < len(SUITE)


def test_cases_and_images_can_be_chosen(tiny: Any) -> None:
    made = tiny.pipeline(tiny.armed())
    report = self_test.run(made, count=5, suite=["noise", "clean"], seed=3)
    assert [(c.injection, c.accuracy.n) for c in report.cases] == [("noise", 5), ("clean", 5)] and report.seed == 3
    assert self_test.run(made, count=500).cases[0].accuracy.n == 12
    assert self_test.run(made, count=5, seed=3) == self_test.run(made, count=5, seed=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"suite": ["nose"]}, "no such case: found nose, expected of clean, noise, fgsm, universal"),
        ({"suite": ["corruption/fogg/3"]}, "no such case: .*NAME=0.8 gives it a limit"),
        ({"suite": ["clean=90"]}, "the limit of case clean: found '90', expected a share from 0 to 1"),
        ({"suite": ["clean=much"]}, "the limit of case clean: found 'much'"),
        ({"suite": ["clean=nan"]}, "the limit of case clean: found 'nan'"),
        ({"count": -1}, "negative number of images"),
        ({"seed": -1}, "seed of the self test is negative"),
    ],
)
def test_wrong_use_is_refused(tiny: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        self_test.run(tiny.pipeline(tiny.armed()), **arguments)


def test_a_case_may_bring_its_own_limit(tiny: Any) -> None:
    made = tiny.pipeline(tiny.armed())
    words = ["clean", "corruption/brightness/1=0.5", "noise=1.0", "corruption/contrast/5=0", "corruption/fog/1"]
    report = self_test.run(made, suite=words)
    assert [(c.injection, c.min_accuracy) for c in report.cases] == [
        ("clean", 0.9),
        ("corruption/brightness/1", 0.5),
        ("noise", 1.0),
        ("corruption/contrast/5", 0.0),
        ("corruption/fog/1", 0.0),
    ]
    assert [c.verdict for c in report.cases] == ["passed"] * 3 + ["measured"] * 2
    assert report.passed and all(c.knowledge == "none" and c.not_applicable == 0 for c in report.cases)
    assert "no limit: measured" in str(report.cases[-1]) and report.summary == "passed: 3 of 3 limits hold"
    unknown = self_test.run(made, suite=["corruption/fgo/3=0.5"])
    assert not unknown.passed and "did you mean 'corruption/fog/3'?" in unknown.cases[0].reason


def test_a_suite_may_have_limits_of_latencies_and_failed_images(tiny: Any) -> None:
    """They choose no case, and have their share in the outcome."""
    bundle = tiny.armed()
    made = tiny.pipeline(bundle)
    words, limits = self_test.with_limits(bundle, ("p95_ms=100000", "failed=0"), ())
    assert words == () and [str(limit) for limit in limits] == ["p95_ms<=100000", "failed<=0"]
    report = self_test.run(made, suite=words, limits=limits)
    assert tuple(case.injection for case in report.cases) == SUITE and report.passed
    assert report.summary == "passed: 6 of 6 limits hold"
    words, limits = self_test.with_limits(bundle, ("noise", "p99_ms=0.000001"), ())
    slow = self_test.run(made, suite=words, limits=limits)
    assert [case.injection for case in slow.cases] == ["noise"] and slow.cases[0].passed
    assert [(one.metric, one.passed) for one in slow.figures] == [("p99_ms", False)]
    assert slow.failed and not slow.passed and slow.summary == "FAILED: 1 of 2 limits hold"


def test_what_is_asked_for_apart_counts_before_the_suite(tiny: Any) -> None:
    words, limits = self_test.with_limits(tiny.armed(), ("clean", "p95_ms=1"), limit_rules.parse("p95_ms=50"))
    assert words == ("clean",) and [str(limit) for limit in limits] == ["p95_ms<=50"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("p95=50", "did you mean 'p95_ms'"),
        ("p95_ms=0", "the limit of p95_ms: found '0', expected milliseconds above 0"),
        ("failed=2", "the limit of failed: found '2', expected a share from 0 to 1"),
    ],
)
def test_limits_of_a_suite_that_mean_nothing_are_refused(tiny: Any, word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        self_test.with_limits(tiny.armed(), (word,), ())


def test_a_test_without_a_limit_has_measured_and_not_passed(tiny: Any) -> None:
    report = self_test.run(tiny.pipeline(tiny.armed()), suite=["noise=0", "corruption/fog/1"])
    assert not report.passed and not report.failed and report.summary == "measured: 2 without a limit"
    inapplicable = self_test.run(tiny.pipeline(tiny.armed()), suite=["noise=0", "corruption/fgo/1=0"])
    assert inapplicable.failed and not inapplicable.passed, "a case that could not run is never measured"


def test_thresholds_of_the_deployment_do_not_matter(tiny: Any) -> None:
    """Regression: with min_score 1 the node's self test found no answer and failed a sound bundle."""
    bundle = tiny.armed()
    strict = tiny.pipeline(bundle, min_score=1.0)
    assert self_test.run(strict) == self_test.run(tiny.pipeline(bundle)) and strict.settings.min_score == 1.0


def test_a_bundle_without_a_self_test_says_so(tiny: Any) -> None:
    with pytest.raises(BundleError, match="has no self test: .*; make it again with `lisard bundle --images FOLDER`"):
        self_test.run(tiny.pipeline(tiny.classifier()))


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((11, 8, 8, 3), np.uint8),
        np.zeros((12, 8, 8, 3), np.float32),
        np.zeros((12, 8, 8), np.uint8),
        np.zeros((12, 0, 0, 3), np.uint8),
        np.zeros((12, 8, 8, 4), np.uint8),
    ],
)
def test_references_that_do_not_fit_are_refused(tiny: Any, frames: np.ndarray) -> None:
    test = suite(("clean", 0.5))
    files = {"references.npz": dump_arrays({"frames": frames})}
    with pytest.raises(LisardError, match="expected"):
        self_test.run(tiny.pipeline(tiny.classifier(files=files, self_test=test)))


def test_references_may_have_any_size(tiny: Any) -> None:
    images = np.zeros((3, 50, 9, 3), np.uint8)
    for n in range(3):
        images[n, ..., n] = 200
    files = {"references.npz": dump_arrays({"frames": images})}
    bundle = tiny.classifier(files=files, self_test=suite(("clean", 1.0), labels=3))
    assert self_test.run(tiny.pipeline(bundle)).passed
