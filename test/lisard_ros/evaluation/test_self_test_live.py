"""The self test on live frames: agreement with the clean answer, of one stage and of two, never the bundle's limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lisard_ros.errors import UsageError
from lisard_ros.evaluation import case_run, self_test
from lisard_ros.evaluation.limits import Limit
from lisard_ros.evaluation.live_images import FrameSpread, LiveFrame, evidence_s, in_blocks
from lisard_ros.evaluation.references import TrueGroup
from lisard_ros.evaluation.self_test_report import SelfTestProgress
from lisard_ros.frames import Frame
from lisard_ros.inference.pipeline import Pipeline, open_pipeline


def live(pipeline: Pipeline, count: int = 6) -> list[LiveFrame]:
    """Frames as the node collects them."""
    random = np.random.default_rng(1)
    made = []
    for number in range(count):
        image = random.integers(0, 40, (40, 60, 3), np.uint8)
        image[..., number % 3] += 150
        frame = Frame(image, "bgr", number, "optical", "front")
        made.append(LiveFrame(frame, pipeline.prepare([frame]).regions[0]))
    return made


def test_agreement_is_measured_and_the_limits_of_the_bundle_do_not_hold(tiny: Any) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    report = self_test.run(pipeline, live=live(pipeline))
    assert report.source == "live" and not report.passed and not report.failed
    cases = {case.injection: case for case in report.cases}
    assert (cases["clean"].accuracy.hits, cases["clean"].accuracy.n, cases["clean"].verdict) == (6, 6, "measured")
    assert all(case.judged == "agreement" for case in report.cases)
    assert tuple(cases) == ("clean", "noise", "universal"), "fgsm is stored for the reference images alone"
    (asked,) = self_test.run(pipeline, suite=["fgsm"], live=live(pipeline)).cases
    assert asked.not_applicable == 6 and asked.verdict == "failed", "not made for live frames"
    assert "agreement with the clean answer, no limit: measured" in str(cases["clean"])


def test_a_limit_of_agreement_decides(tiny: Any) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    frames = live(pipeline)
    held = self_test.run(pipeline, suite=["clean=1.0", "universal"], live=frames)
    assert held.passed and [case.verdict for case in held.cases] == ["passed", "measured"]
    broken = self_test.run(pipeline, suite=["corruption/contrast/5=1.0", "clean"], live=frames)
    assert not broken.failed or "agreement with the clean answer" in broken.cases[0].reason


def test_a_bundle_without_a_self_test_can_be_measured_on_live_frames(tiny: Any) -> None:
    pipeline = tiny.pipeline(tiny.classifier())
    report = self_test.run(pipeline, live=live(pipeline))
    assert [case.injection for case in report.cases][:2] == ["clean", "noise"] and not report.failed


def test_frames_that_are_known_are_judged_by_accuracy_and_the_others_left_out(tiny: Any) -> None:
    """A coarse class is met by each of its finer ones; frames of one block are one piece of evidence."""
    pipeline = tiny.pipeline(tiny.armed())
    colours = [one.frame.rgb().mean(axis=(0, 1)).argmax() for one in live(pipeline)]
    warm = TrueGroup("warm", frozenset({0, 1}))
    truths = [int(colours[0]), int(colours[1] + 1) % 3, None, warm, warm, warm]
    frames = [replace(one, truth=truth, block=0) for one, truth in zip(live(pipeline), truths, strict=True)]
    case, _ = self_test.run(pipeline, suite=["clean", "noise"], live=frames, source="images").cases
    right = 1 + sum(colours[number] in warm.classes for number in (3, 4, 5))
    assert (case.accuracy.hits, case.accuracy.n, case.judged) == (right, 5, "accuracy")
    limits = (Limit("clean", 0.1),)
    suite, _ = self_test.with_limits(pipeline.bundle, ("clean",), limits, live=True)
    (case,) = self_test.run(pipeline, suite=suite, limits=limits, live=frames).cases
    assert "in 1 independent blocks" in case.reason


def test_an_attack_drives_a_labelled_image_away_from_its_label(tiny: Any) -> None:
    """Driven away from a wrong answer, images became right, and robust accuracy seemed higher than it is."""
    pipeline = tiny.pipeline(tiny.armed())
    colours = [int(one.frame.rgb().mean(axis=(0, 1)).argmax()) for one in live(pipeline)]
    frames = [replace(one, truth=(colour + 1) % 3) for one, colour in zip(live(pipeline), colours, strict=True)]
    case, attacked = self_test.run(pipeline, suite=["clean", "attack/square100/1"], live=frames, source="images").cases
    assert case.accuracy.hits == attacked.accuracy.hits == 0
    assert attacked.cost.queries == attacked.cost.images, "who is wrong already is asked no more"


def test_live_frames_of_one_stretch_of_time_are_one_block_of_evidence(tiny: Any) -> None:
    """Frames of one moment show the same scene: as independent images their interval was far too narrow."""
    pipeline = tiny.pipeline(tiny.armed())
    frames = [replace(one, frame=replace(one.frame, stamp_ns=n * 10**9)) for n, one in enumerate(live(pipeline))]
    assert [one.block for one in in_blocks(frames, 2.0)] == [0, 0, 1, 1, 2, 2]
    assert [one.block for one in in_blocks(frames, 0.0)] == [None] * 6, "each is one by itself"
    (alone,) = self_test.run(pipeline, suite=["clean"], live=frames).cases
    (together,) = self_test.run(pipeline, suite=["clean"], live=in_blocks(frames, 10.0)).cases
    assert together.accuracy.share == alone.accuracy.share and together.accuracy.low < alone.accuracy.low


def test_frames_are_spread_over_as_much_time_as_a_limit_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert evidence_s(["p95_ms", "failed"], 10.0) == 0 and evidence_s(["clean", "p95_ms"], 10.0) == 50
    now_s = 100.0
    monkeypatch.setattr("lisard_ros.evaluation.live_images.time.monotonic", lambda: now_s)
    spread, taken = FrameSpread(6, 50.0), []
    for tick in range(60):
        now_s = 100.0 + tick
        if spread.take():
            taken.append(tick)
    assert taken[:6] == [0, 10, 20, 30, 40, 50]
    at_once = FrameSpread(3, 0.0)
    assert [at_once.take() for _ in range(3)] == [True] * 3


def test_both_stages_are_attacked_on_what_they_see(tiny: Any) -> None:
    detector = tiny.armed_detector()
    both = open_pipeline(tiny.classifier(roi_classes=("red",)).path, threads=1, detector=detector.path)
    streets = [Frame(np.full((32, 32, 3), 110 + n, np.uint8), "rgb", n, "", "front") for n in range(4)]
    frames = [LiveFrame(street, both.prepare([street]).regions[0]) for street in streets]
    boxes = sum(len(one.regions) for one in frames)
    report = self_test.run(both, suite=["noise", "detector/noise", "detector/clean=1.0"], live=frames)
    cases = {case.injection: case for case in report.cases}
    assert report.passed, [str(case) for case in report.cases]
    assert cases["detector/clean"].accuracy.n == boxes > 0
    assert 0 < cases["noise"].accuracy.n < boxes, "one box of two is of a class that is classified"


def test_frames_that_show_nothing_are_no_pass(tiny: Any) -> None:
    rows = np.array([[1, 2, 7, 14, 0, 0.9, 0, 0]], np.float32)  # an objectness of zero
    pipeline = tiny.pipeline(tiny.detector(rows))
    report = self_test.run(pipeline, suite=["noise=0.5"], live=live(pipeline))
    assert not report.passed and "no image shows anything" in report.cases[0].reason


@pytest.mark.parametrize("suite", [["nose"], ["detector/noise"]])
def test_wrong_suites_are_refused(tiny: Any, suite: list[str]) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    with pytest.raises(UsageError):
        self_test.run(pipeline, suite=suite, live=live(pipeline))


def test_progress_moves_with_batches_that_large_images_make_small(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector's test under gradients showed nothing new for minutes, 32 images at a time."""
    pipeline = tiny.pipeline(tiny.armed())
    spec = pipeline.bundle.manifest.input
    monkeypatch.setattr(case_run, "MOST_PIXELS", 2 * spec.width * spec.height + 1)
    steps: list[SelfTestProgress] = []
    report = self_test.run(pipeline, suite=["noise"], live=live(pipeline), progress=steps.append)
    assert [step.done for step in steps] == [0, 0, 0, 0, 2, 4, 6], "the clean answers, which are no case, come first"
    assert report.cases[0].cost.images == 6
