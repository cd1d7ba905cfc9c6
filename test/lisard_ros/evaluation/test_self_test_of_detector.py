"""The self test of a detection bundle, alone and in front of a classifier."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from lisard_ros import cli
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import SelfTest, SelfTestCase, TrueBox
from lisard_ros.commands import doctor
from lisard_ros.errors import BundleError, UsageError
from lisard_ros.evaluation import references, self_test
from lisard_ros.inference.pipeline import Pipeline, open_pipeline

replace = msgspec.structs.replace
BOTH_SUITES = ["detector/clean", "detector/noise", "detector/pgd", "clean", "noise", "fgsm", "universal"]


def own_test(bundle: Bundle) -> SelfTest:
    """The self test of a bundle that has one."""
    assert bundle.manifest.self_test is not None
    return bundle.manifest.self_test


def with_test(tiny: Any, **changes: Any) -> Bundle:
    """The armed detector with another self test."""
    bundle: Bundle = tiny.armed_detector(self_test=replace(own_test(tiny.armed_detector()), **changes))
    return bundle


def test_a_sound_detector_passes_and_loses_what_the_attack_takes(tiny: Any) -> None:
    report = self_test.run(tiny.pipeline(tiny.armed_detector()))
    assert report.passed and report.detector == "" and [c.injection for c in report.cases] == ["clean", "noise", "pgd"]
    clean, noise, attacked = report.cases
    assert (clean.accuracy.hits, clean.accuracy.n) == (8, 8) == (noise.accuracy.hits, noise.accuracy.n)
    assert (attacked.accuracy.hits, attacked.accuracy.n, attacked.knowledge) == (4, 8, "gray-box")
    assert all(c.counted == "boxes" and c.false_boxes == 0 and c.failed == 0 for c in report.cases)
    assert "n=8 boxes found, 0 false, limit 100.0 %: passed" in str(clean)


def test_one_box_too_few_fails(tiny: Any) -> None:
    strict = with_test(tiny, suite=(SelfTestCase(injection="pgd", min_accuracy=0.51),))
    (case,) = self_test.run(tiny.pipeline(strict)).cases
    assert not case.passed and case.reason == "share of true boxes found, 50.0 % is below the limit"


@pytest.mark.parametrize(
    "boxes",
    [
        (
            TrueBox(label=1, box_xyxy_px=(2, 4, 14, 28)),
            TrueBox(label=0, box_xyxy_px=(18, 4, 30, 28)),
        ),  # classes swapped
        (TrueBox(label=0, box_xyxy_px=(2, 17, 14, 31)), TrueBox(label=1, box_xyxy_px=(18, 17, 30, 31))),  # elsewhere
    ],
)
def test_class_and_place_both_count(tiny: Any, boxes: tuple[TrueBox, ...]) -> None:
    report = self_test.run(tiny.pipeline(with_test(tiny, labels=(boxes,) * 4)))
    clean = report.cases[0]
    assert not report.passed and (clean.accuracy.hits, clean.accuracy.n, clean.false_boxes) == (0, 8, 8)


def test_images_without_boxes_only_bring_false_ones(tiny: Any) -> None:
    labels = (own_test(tiny.armed_detector()).boxes[0], (), (), ())
    clean = self_test.run(tiny.pipeline(with_test(tiny, labels=labels))).cases[0]
    assert (clean.accuracy.hits, clean.accuracy.n, clean.false_boxes) == (2, 2, 6) and clean.passed


def test_thresholds_of_the_deployment_do_not_matter(tiny: Any) -> None:
    bundle = tiny.armed_detector()
    assert self_test.run(tiny.pipeline(bundle, min_score=1.0)) == self_test.run(tiny.pipeline(bundle))


def test_a_detector_that_answers_nan_fails(tiny: Any) -> None:
    armed = tiny.armed_detector()
    broken = tiny.detector(
        np.full((2, 8), math.nan, np.float32),
        name="broken",
        self_test=own_test(armed),
        perturbations=armed.manifest.perturbations,
        files={name: armed.data(name) for name in ("references.npz", "stored.npz")},
    )
    report = self_test.run(tiny.pipeline(broken))
    assert not report.passed and all(case.failed == 4 and "NaN" in case.reason for case in report.cases)


def test_boxes_outside_their_images_are_refused(tiny: Any) -> None:
    labels = ((TrueBox(label=0, box_xyxy_px=(2, 4, 33, 28)),),) * 4
    with pytest.raises(BundleError, match=r"outside its images: found \(2.0, 4.0, 33.0, 28.0\).*inside 32x32 px"):
        self_test.run(tiny.pipeline(with_test(tiny, labels=labels)))


def test_reference_images_have_boxes_or_classes(tiny: Any) -> None:
    detector, classifier = tiny.armed_detector(), tiny.armed()
    assert references.load(detector, own_test(detector)).labels.tolist() == [references.NO_CLASS] * 4
    assert references.load(classifier, own_test(classifier)).labels.tolist() == [0, 1, 2] * 4


@pytest.fixture
def both(tiny: Any) -> Pipeline:
    return open_pipeline(tiny.armed().path, threads=1, detector=tiny.armed_detector().path)


def test_with_a_detector_in_front_both_bundles_are_tested(both: Pipeline) -> None:
    report = self_test.run(both)
    assert both.detector is not None and report.passed and [c.injection for c in report.cases] == BOTH_SUITES
    assert (report.detector, report.detector_sha256) == ("tiny", both.detector.bundle.sha256)
    assert [c.counted for c in report.cases] == ["boxes"] * 3 + ["images"] * 4


def test_one_failing_detector_fails_the_whole(tiny: Any) -> None:
    strict = with_test(tiny, suite=(SelfTestCase(injection="pgd", min_accuracy=0.9),))
    report = self_test.run(open_pipeline(tiny.armed().path, threads=1, detector=strict.path))
    assert not report.passed and [c.injection for c in report.cases if not c.passed] == ["detector/pgd"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["noise"], ["noise"]),
        (["detector/pgd"], ["detector/pgd"]),
        (["clean", "detector/clean"], ["detector/clean", "clean"]),
        (["detector/corruption/brightness/1=0"], ["detector/corruption/brightness/1"]),
    ],
)
def test_cases_of_either_can_be_chosen(both: Pipeline, words: list[str], names: list[str]) -> None:
    report = self_test.run(both, suite=words)
    assert [case.injection for case in report.cases] == names and not report.failed


def test_a_detector_without_a_self_test_proves_nothing(tiny: Any) -> None:
    silent = tiny.armed_detector(self_test=None)
    pipeline = open_pipeline(tiny.armed().path, threads=1, detector=silent.path)
    report = self_test.run(pipeline)
    (failed,) = [case for case in report.cases if not case.passed]
    assert not report.passed and failed.injection == "detector/self_test"
    assert (
        failed.reason
        == "bundle tiny has no self test: make it again with `lisard bundle --images FOLDER`, or export it with "
        "reference images"
    )
    assert self_test.run(pipeline, suite=["clean"]).passed


def test_wrong_use_is_refused(tiny: Any, both: Pipeline) -> None:
    with pytest.raises(UsageError, match="cases of a detector: found clean, expected one in front"):
        self_test.run(tiny.pipeline(tiny.armed()), suite=["detector/clean"])
    with pytest.raises(UsageError, match="no such case: found fgsm, expected of clean, noise, pgd"):
        self_test.run(both, suite=["detector/fgsm"])
    bare = open_pipeline(tiny.classifier().path, threads=1, detector=tiny.armed_detector(self_test=None).path)
    with pytest.raises(BundleError, match="neither of the two bundles has a self test"):
        self_test.run(bare)


@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_a_cancelled_test_has_not_passed(both: Pipeline, after: int) -> None:
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > after

    report = self_test.run(both, cancelled=cancelled)
    assert report.cancelled and not report.passed and len(report.cases) < len(BOTH_SUITES)


def test_commands_run_it(tiny: Any, capsys: pytest.CaptureFixture[str]) -> None:
    good = tiny.armed_detector()
    assert cli.main(["attack", "run", str(good.path)]) == 0
    out = capsys.readouterr().out
    assert "true boxes found" in out and "false boxes" in out and "self test passed" in out
    finding = doctor.bundle(good.path)[-1]
    assert finding.what == "self test" and finding.ok and "clean (none): 100.0 %" in finding.detail
    strict = with_test(tiny, suite=(SelfTestCase(injection="pgd", min_accuracy=0.9),))
    assert cli.main(["attack", "run", str(strict.path)]) == 1
    assert not doctor.bundle(strict.path)[-1].ok
