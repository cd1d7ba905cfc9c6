"""Scoring a recording: only what was looked at and attacked counts, and each figure names its reference."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lisard_ros import injection as stage
from lisard_ros.bags import evaluation
from lisard_ros.bags.evaluation import MatrixModel
from lisard_ros.bags.reader import BagFrame
from lisard_ros.bags.report import NO_EFFECT, NOT_APPLIED, STAGES, CameraResult, Replay
from lisard_ros.bags.results import replay_of
from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.errors import ImageError
from lisard_ros.frames import Frame, Region
from lisard_ros.injection import Injected


def plain(colour: int | None, size: tuple[int, int] = (20, 20)) -> Frame:
    """A frame of one colour; None is white, for which the tiny network answers NaN."""
    image = np.zeros((*size, 3), np.uint8) if colour is not None else np.full((*size, 3), 255, np.uint8)
    if colour is not None:
        image[..., colour] = 200
    return Frame(image, "rgb", 0, "", "front")


def item(frame: Frame | None, label: str | None = None, regions: Any = None, topic: str = "/front") -> BagFrame:
    """One image of a recording."""
    error = None if frame is not None else ImageError("short")
    return BagFrame(topic, 0, frame, error, 0.25, label, regions)


class Swap:
    """An injection that exchanges red and blue, in the images whose number is in `rows` (None: in all)."""

    name, knowledge, needs_keys = "swap", "white-box", False

    def __init__(self, rows: Any = None) -> None:
        """rows: which images of each batch."""
        self._rows = rows

    def apply(self, x: np.ndarray, keys: Any) -> Injected:
        """Exchange the channels."""
        applied = np.array([self._rows is None or n in self._rows for n in range(len(x))], bool)
        return Injected(np.where(applied[:, None, None, None], x[:, ::-1], x), applied)


def evaluate(pipeline: Any, frames: list[BagFrame], injections: Any, **options: Any) -> Replay:
    """The report of one model."""
    return replay_of(evaluation.evaluate([MatrixModel(pipeline, injections)], frames, **options), "bag")


def rows_of(pipeline: Any, frames: list[BagFrame], *injections: Any) -> dict[str, CameraResult]:
    """Rows by injection."""
    return {row.injection: row for row in evaluate(pipeline, frames, injections).rows}


@pytest.fixture
def pipeline(tiny: Any) -> Any:
    """The plain classifier."""
    return tiny.pipeline(tiny.classifier())


def score(row: CameraResult) -> tuple[int, int]:
    """Hits and judged."""
    return row.score.hits, row.score.n


def test_whole_frames_are_held_against_their_labels(pipeline: Any) -> None:
    frames = [item(plain(0), "red"), item(plain(1), "green"), item(plain(2), "red"), item(plain(2), "blue")]
    rows = rows_of(pipeline, frames, Swap())
    assert score(rows["clean"]) == (3, 4) and rows["clean"].judged == "accuracy"
    assert score(rows["swap"]) == (2, 4) and rows["swap"].knowledge == "white-box"  # green, and blue that looks red


def test_without_labels_an_attack_is_held_against_the_clean_answer(pipeline: Any) -> None:
    rows = rows_of(pipeline, [item(plain(n)) for n in (0, 1, 2, 1)], Swap())
    assert score(rows["swap"]) == (2, 4) and rows["swap"].judged == "agreement"
    assert rows["clean"].judged == "reference" and rows["clean"].score.n == 0 and math.isnan(rows["clean"].score.share)


def test_frames_without_a_label_do_not_dilute_the_accuracy(pipeline: Any) -> None:
    """Regression: on a camera with some labels, agreement on the other frames was counted as accuracy."""
    rows = rows_of(pipeline, [item(plain(0), "red"), item(plain(1)), item(plain(1))], Swap())
    assert score(rows["clean"]) == (1, 1) and score(rows["swap"]) == (0, 1) and rows["swap"].judged == "accuracy"


def test_each_camera_is_judged_by_what_it_has(pipeline: Any) -> None:
    frames = [item(plain(0), "red"), item(plain(0), topic="/rear")]
    found = {(r.topic, r.injection): r.judged for r in evaluate(pipeline, frames, [Swap()]).rows}
    assert found == {
        ("/front", "clean"): "accuracy",
        ("/front", "swap"): "accuracy",
        ("/rear", "clean"): "reference",
        ("/rear", "swap"): "agreement",
    }


def test_failures_are_counted_by_cause(pipeline: Any) -> None:
    rows = rows_of(pipeline, [item(None, "red"), item(plain(None), "red"), item(plain(0), "red")], Swap())
    for name in ("clean", "swap"):
        assert (rows[name].frames, rows[name].answered) == (3, 1)
        assert rows[name].failed == {"image": 1, "output": 1}
        assert rows[name].frames == rows[name].answered + sum(rows[name].failed.values()) + rows[name].not_applicable
        assert rows[name].score.n == 1


def test_what_is_not_applicable_is_counted_and_not_judged(tiny: Any, coloured: tuple[Frame, ...]) -> None:
    bundle = tiny.armed()
    frames = [item(coloured[0], "red"), item(plain(0), "red")]
    row = rows_of(tiny.pipeline(bundle), frames, stage.make(bundle, "fgsm"))["fgsm"]
    assert (row.frames, row.answered, row.not_applicable, row.score.n) == (2, 1, 1, 1)


def test_latency_holds_every_stage(pipeline: Any) -> None:
    rows = rows_of(pipeline, [item(plain(0))] * 3, stage.NoiseInjection(8, 0))
    for row in rows.values():
        assert set(row.latency) == set(STAGES) and row.latency["total"].n == 3
        assert row.latency["decode"].p50_ms == 0.25 and row.latency["total"].p50_ms >= 0.25
    assert rows["clean"].latency["inject"].max_ms == 0 < rows["noise"].latency["inject"].p50_ms


def test_no_frames_are_no_rows(pipeline: Any) -> None:
    assert evaluate(pipeline, [], []).rows == ()


def test_progress_is_told_of_every_frame(pipeline: Any) -> None:
    calls: list[int] = []
    evaluate(pipeline, [item(plain(0)), item(None)], [], progress=lambda: calls.append(1))
    assert len(calls) == 2


# --- boxes ----------------------------------------------------------------------------------------------------------


def street() -> Frame:
    """Left red, right blue."""
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :20, 0] = image[:, 20:, 2] = 200
    return Frame(image, "rgb", 0, "", "front")


LEFT, RIGHT, OUTSIDE = (0.0, 0.0, 20.0, 20.0), (20.0, 0.0, 40.0, 20.0), (90.0, 0.0, 99.0, 9.0)


def test_boxes_are_held_against_their_fine_or_coarse_labels(tiny: Any) -> None:
    made = tiny.pipeline(tiny.classifier(roi_groups={"warm": ("red", "green")}))
    regions = (Region(LEFT, "warm"), Region(RIGHT, "blue"), Region(RIGHT, "warm"))
    assert score(rows_of(made, [item(street(), regions=regions)])["clean"]) == (2, 3)


def test_only_boxes_that_got_a_second_look_are_judged(tiny: Any) -> None:
    """Regression: the detector's own word for the other boxes was compared with itself."""
    made = tiny.pipeline(tiny.classifier(roi_classes=("red",)))
    regions = (Region(LEFT, "red"), Region(RIGHT, "person"), Region(OUTSIDE, "red"))
    rows = rows_of(made, [item(street(), regions=regions)], Swap())
    assert score(rows["clean"]) == (1, 1) and score(rows["swap"]) == (0, 1)


def test_unlabelled_boxes_that_an_attack_did_not_touch_are_not_robust(pipeline: Any) -> None:
    """Regression: with one of two boxes attacked, the other counted as an attack survived."""
    regions = (Region(LEFT), Region(RIGHT))
    row = rows_of(pipeline, [item(street(), regions=regions)], Swap(rows={1}))["swap"]
    assert score(row) == (0, 1) and row.judged == "agreement"


def test_labelled_boxes_that_an_attack_did_not_touch_are_not_robust(pipeline: Any) -> None:
    regions = (Region(LEFT, "red"), Region(RIGHT, "blue"))
    row = rows_of(pipeline, [item(street(), regions=regions)], Swap(rows={1}))["swap"]
    assert score(row) == (0, 1) and row.judged == "accuracy"


def test_a_frame_without_boxes_is_answered_and_judges_nothing(pipeline: Any) -> None:
    rows = rows_of(pipeline, [item(street(), regions=())], Swap())
    assert (rows["clean"].answered, rows["clean"].score.n) == (1, 0)
    assert (rows["swap"].answered, rows["swap"].not_applicable, rows["swap"].no_regions) == (0, 0, 1)


# --- detectors ------------------------------------------------------------------------------------------------------

TWO = np.array([[0, 0, 8, 16, 1, 0.9, 0, 0], [8, 0, 16, 16, 1, 0, 0, 0.8]], np.float32)


def test_a_detector_is_scored_by_the_boxes_that_it_finds(tiny: Any) -> None:
    """Regression: detections were compared with boxes by rank, and the recorded boxes were cut out for the detector."""
    made = tiny.pipeline(tiny.detector(TWO))
    regions = (Region(RIGHT, "blue"), Region(LEFT, "red"), Region(LEFT, "green"), Region((0, 0, 5, 5), "red"))
    row = rows_of(made, [item(street(), regions=regions)])["clean"]
    assert score(row) == (2, 4) and row.judged == "accuracy"


def test_one_detection_answers_for_one_box(tiny: Any) -> None:
    made = tiny.pipeline(tiny.detector(TWO[:1]))
    regions = (Region(LEFT, "red"), Region((0, 0, 19, 20), "red"))
    assert score(rows_of(made, [item(street(), regions=regions)])["clean"]) == (1, 2)


def test_an_attack_that_hides_objects_is_seen(tiny: Any) -> None:
    """Regression: with no detections left nothing was compared, so an attack that hides all had no effect."""
    made = tiny.pipeline(tiny.detector(TWO, input=InputSpec(width=16, height=16)))
    clean_detect = made.answer

    def hide(prepared: Any, injection: Any) -> Any:
        found = type(made).answer_attacked(made, prepared, injection)
        empty = type(found[0].outcome.detections)(())
        outcome = type(found[0].outcome)(found[0].outcome.frame, None, empty, found[0].outcome.times)
        return [replace(found[0], outcome=outcome)]

    made.answer_attacked = hide
    row = rows_of(made, [item(street())], Swap())["swap"]
    assert clean_detect is not None and score(row) == (0, 2) and row.judged == "agreement"


def test_boxes_that_meet_nothing_are_counted_as_false(tiny: Any) -> None:
    made = tiny.pipeline(tiny.detector(TWO))
    one = evaluate(made, [item(street(), regions=(Region(LEFT, "red"),))], []).rows[0]
    assert score(one) == (1, 1) and one.false_boxes == 1
    nothing_there = evaluate(made, [item(street(), regions=())], []).rows[0]
    assert nothing_there.false_boxes is None, "no box was recorded in the whole recording: it has no labels"
    frames = [item(street(), regions=(Region(LEFT, "red"),)), item(street(), regions=())]
    both = evaluate(made, frames, []).rows[0]
    assert both.false_boxes == 3, "a frame without a box is a label too, where others have some"


def test_without_labels_new_boxes_under_an_attack_are_false(tiny: Any) -> None:
    """An attack that makes objects up leaves all that was there in its place."""
    made = tiny.pipeline(tiny.detector(TWO, input=InputSpec(width=16, height=16)))

    def invent(prepared: Any, injection: Any) -> Any:
        (found,) = type(made).answer_attacked(made, prepared, injection)
        items = found.outcome.detections.items
        elsewhere = replace(items[0], box_xyxy_px=(0.0, 12.0, 3.0, 20.0))
        more = replace(found.outcome.detections, items=(*items, elsewhere))
        return [replace(found, outcome=replace(found.outcome, detections=more))]

    made.answer_attacked = invent
    rows = rows_of(made, [item(street())], Swap())
    assert score(rows["swap"]) == (2, 2) and rows["swap"].false_boxes == 1 and rows["clean"].false_boxes is None


class WithBlue(Swap):
    """An injection that was made for images with blue alone, and changes nothing."""

    def apply(self, x: np.ndarray, keys: Any) -> Injected:
        """Apply to those images."""
        return Injected(x, x[:, 2].max(axis=(1, 2)) > 0.5)


def test_average_precision_stands_beside_that_of_the_clean_answers_to_the_same_frames(tiny: Any) -> None:
    """Regression: the clean line held all frames, and that of a stored perturbation those that it was made for."""
    made = tiny.pipeline(tiny.detector(TWO))
    found = item(street(), regions=(Region(LEFT, "red"), Region(RIGHT, "blue")))
    missed = item(plain(0, (20, 40)), regions=(Region((0, 0, 5, 5), "red"), Region((35, 0, 40, 5), "blue")))
    rows = rows_of(made, [found, missed], WithBlue())
    clean, attacked = rows["clean"].precision, rows["swap"].precision
    assert clean is not None and attacked is not None
    assert clean.ap50.value < 0.6 and clean.clean_ap50.value == clean.ap50.value
    assert attacked.ap50.value == attacked.clean_ap50.value == pytest.approx(1.0) == attacked.clean_ap.value


def test_a_classifier_has_no_false_boxes(pipeline: Any) -> None:
    rows = rows_of(pipeline, [item(street(), regions=(Region(LEFT, "red"), Region(RIGHT)))], Swap())
    assert rows["clean"].false_boxes is None and rows["swap"].false_boxes is None


def test_a_finer_class_finds_the_box_of_its_group(tiny: Any) -> None:
    made = tiny.pipeline(tiny.detector(TWO, roi_groups={"warm": ("red",)}))
    row = rows_of(made, [item(street(), regions=(Region(LEFT, "warm"), Region(RIGHT, "warm")))])["clean"]
    assert score(row) == (1, 2) and row.false_boxes == 1


def test_every_answer_is_watched_with_what_the_network_saw(pipeline: Any) -> None:
    seen: list[Any] = []
    evaluate(pipeline, [item(plain(0), "red"), item(None)], [Swap()], watch=seen.append)
    assert [one.condition for one in seen] == ["clean", "swap"] and seen[0].view is None
    view = seen[1].view()
    assert view.image[..., 2].max() == 200 and view.image[..., 0].max() == 0, "red became blue"
    assert view.change[0, 0].tolist() == [-200, 0, 200]
    assert [[pair.right for pair in one.pairs] for one in seen] == [[True], [False]]


def test_an_attack_on_some_frames_is_compared_with_the_clean_answers_to_those(tiny: Any, coloured: Any) -> None:
    """Regression: an attack made for the easy frames alone looked better than no attack."""
    bundle = tiny.armed()
    frames = [item(coloured[0], "red"), item(plain(0), "green"), item(plain(1), "red")]
    rows = rows_of(tiny.pipeline(bundle), frames, stage.make(bundle, "fgsm"))
    assert score(rows["clean"]) == (1, 3) and rows["clean"].clean == rows["clean"].score
    assert rows["fgsm"].score.n == rows["fgsm"].clean.n == 1 and rows["fgsm"].clean.hits == 1


def test_without_labels_there_is_no_clean_share(pipeline: Any) -> None:
    rows = rows_of(pipeline, [item(plain(0))], Swap())
    assert rows["clean"].clean.n == rows["swap"].clean.n == 0


def test_an_attack_that_applied_to_no_frame_says_so(tiny: Any, coloured: Any) -> None:
    """Regression: the row had no score and nothing else, and a reader took the attack for withstood."""
    bundle = tiny.armed()
    made, attack = tiny.pipeline(bundle), stage.make(bundle, "fgsm")
    foreign = [item(plain(0), "red"), item(None)]
    assert rows_of(made, foreign, attack)["fgsm"].effect == NOT_APPLIED
    assert rows_of(made, [*foreign, item(coloured[0], "red")], attack)["fgsm"].effect == NO_EFFECT
    assert rows_of(made, [item(None)], attack)["fgsm"].effect == "", "the frame was broken, not the attack unfit"


class Grey(Swap):
    """An injection that changes no answer."""

    name = "grey"

    def apply(self, x: np.ndarray, keys: Any) -> Injected:
        """Take a little of the contrast."""
        return Injected(np.asarray(0.9 * x + 0.05, np.float32), np.ones(len(x), bool))


@pytest.mark.parametrize("label", ["red", None])
def test_an_attack_without_a_measurable_effect_says_so(pipeline: Any, label: str | None) -> None:
    rows = rows_of(pipeline, [item(plain(0), label), item(plain(0), label)], Swap(), Grey())
    assert {name: row.effect for name, row in rows.items()} == {"clean": "", "swap": "", "grey": NO_EFFECT}


def test_an_attack_that_only_adds_false_boxes_has_an_effect(tiny: Any) -> None:
    made = tiny.pipeline(tiny.detector(TWO, input=InputSpec(width=16, height=16)))
    for regions in (None, (Region(LEFT, "red"),)):
        assert rows_of(made, [item(street(), regions=regions)], Grey())["grey"].effect == NO_EFFECT

    def invent(prepared: Any, injection: Any) -> Any:
        (found,) = type(made).answer_attacked(made, prepared, injection)
        items = found.outcome.detections.items
        more = replace(found.outcome.detections, items=(*items, replace(items[0], box_xyxy_px=(0.0, 12.0, 3.0, 20.0))))
        return [replace(found, outcome=replace(found.outcome, detections=more))]

    made.answer_attacked = invent
    for regions in (None, (Region(LEFT, "red"),)):
        assert rows_of(made, [item(street(), regions=regions)], Grey())["grey"].effect == ""
