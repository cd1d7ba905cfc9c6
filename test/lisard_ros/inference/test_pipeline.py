"""The pipeline: one outcome for each frame in order, whatever the frames, the boxes and the network do."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros import injection
from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.errors import BackendError, OutputError, UsageError
from lisard_ros.frames import WHOLE_FRAME, Frame, Region, Result, pixels_sha256
from lisard_ros.inference import preprocess
from lisard_ros.inference.pipeline import MAX_BATCH, Failure, Pipeline, Settings


def plain(colour: int, level: int = 200, size: tuple[int, int] = (20, 30)) -> Frame:
    """A frame of one colour, height x width."""
    image = np.zeros((*size, 3), np.uint8)
    image[..., colour] = level
    return Frame(image, "rgb", colour, "", "front")


WHITE = Frame(np.full((20, 30, 3), 255, np.uint8), "rgb", 99, "", "front")


def tops(outcomes: list[Any]) -> list[str]:
    """First hypothesis of each classification, or the kind of error."""
    return [o.classification.hypotheses[0].label if isinstance(o, Result) else type(o.error).__name__ for o in outcomes]


@pytest.fixture
def pipeline(tiny: Any) -> Pipeline:
    """The plain classifier."""
    made: Pipeline = tiny.pipeline(tiny.classifier())
    return made


# --- classification -------------------------------------------------------------------------------------------------


def test_one_outcome_for_each_frame_in_order(pipeline: Pipeline) -> None:
    frames = [plain(c) for c in (2, 0, 1, 1, 0)]
    outcomes = pipeline.run(frames)
    assert tops(outcomes) == ["blue", "red", "green", "green", "red"]
    assert [o.frame for o in outcomes] == frames
    assert all(isinstance(o, Result) and o.detections is None for o in outcomes)


def test_the_answer_is_that_of_the_network_on_real_images(pipeline: Pipeline, road_frames: tuple[Frame, ...]) -> None:
    """An independent reckoning: mean of each channel, times the gain, softmax."""
    for outcome, frame in zip(pipeline.run(road_frames), road_frames, strict=True):
        x = preprocess.prepare([frame.rgb()], pipeline.bundle.manifest.input).astype(np.float64)
        powers = np.exp(20 * x.mean(axis=(2, 3))[0])
        expected = powers / powers.sum()
        assert isinstance(outcome, Result) and outcome.classification is not None
        found = {h.index: h.score for h in outcome.classification.hypotheses}
        assert np.allclose([found[i] for i in range(3)], expected, atol=1e-5)


def test_a_batch_answers_like_its_frames(pipeline: Pipeline, road_frames: tuple[Frame, ...]) -> None:
    together = pipeline.run(road_frames)
    alone = [pipeline.run([frame])[0] for frame in road_frames]
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, Result) and isinstance(other, Result)
        assert one.classification is not None and other.classification is not None
        pairs = zip(one.classification.hypotheses, other.classification.hypotheses, strict=True)
        assert all(a.label == b.label and abs(a.score - b.score) < 1e-5 for a, b in pairs)


def test_top_k_and_min_score_limit_the_hypotheses(tiny: Any) -> None:
    bundle = tiny.classifier()
    (one,) = tiny.pipeline(bundle, top_k=1).run([plain(0)])
    assert [h.label for h in one.classification.hypotheses] == ["red"]
    (none,) = tiny.pipeline(bundle, min_score=1.0).run([plain(0, level=5)])
    assert none.classification.hypotheses == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 0},
        {"top_k": -1},
        {"max_detections": 0},
        {"min_score": 1.1},
        {"min_score": -0.1},
        {"min_score": float("nan")},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    """Regression: top_k=-1 gave all classes but the last."""
    with pytest.raises(UsageError, match="out of range: found .*, expected top_k >= 1"):
        Settings(**wrong)


def test_an_empty_batch_is_an_empty_answer(pipeline: Pipeline) -> None:
    assert pipeline.run([]) == []
    assert pipeline.attack([], injection.NoiseInjection(8, 0)) == []


def test_more_frames_than_a_batch_holds(pipeline: Pipeline) -> None:
    frames = [plain(n % 3, size=(4, 4)) for n in range(2 * MAX_BATCH + 3)]
    assert tops(pipeline.run(frames)) == [("red", "green", "blue")[n % 3] for n in range(len(frames))]


def test_a_nan_answer_fails_only_its_frame(pipeline: Pipeline) -> None:
    outcomes = pipeline.run([plain(0), WHITE, plain(2)])
    assert tops(outcomes) == ["red", "OutputError", "blue"]
    failure = outcomes[1]
    assert isinstance(failure, Failure) and failure.frame is WHITE and "3 of 3 NaN or infinite" in str(failure.error)


def test_one_pixel_and_8k_frames(pipeline: Pipeline) -> None:
    frames = [plain(1, size=(1, 1)), plain(2, size=(4320, 7680)), plain(0, size=(1, 5000)), plain(0, size=(5000, 1))]
    assert tops(pipeline.run(frames)) == ["green", "blue", "red", "red"]


def test_regions_must_match_the_frames(pipeline: Pipeline) -> None:
    with pytest.raises(ValueError, match="zip"):
        pipeline.run([plain(0)], [])


def test_stage_times_are_measured(pipeline: Pipeline) -> None:
    (outcome,) = pipeline.run([plain(0)])
    (attacked,) = pipeline.attack([plain(0)], injection.NoiseInjection(8, 0))
    for result in (outcome, attacked.outcome):
        assert isinstance(result, Result)
        times = result.times
        parts = (times.preprocess_ms, times.inject_ms, times.infer_ms, times.postprocess_ms)
        assert min(parts) >= 0 and times.infer_ms > 0 and times.preprocess_ms > 0 and times.total_ms == sum(parts)
    assert outcome.times.inject_ms == 0 and attacked.outcome.times.inject_ms > 0


def test_closing_twice_is_harmless(pipeline: Pipeline) -> None:
    pipeline.close()
    pipeline.close()


def test_a_model_is_loaded_again_from_memory_beside_the_first(pipeline: Pipeline) -> None:
    again = pipeline.with_settings(Settings(top_k=1)).reopened("onnxruntime", 1)
    assert again.choice.backend is not pipeline.choice.backend and again.bundle is pipeline.bundle
    assert again.settings.top_k == 1
    pipeline.close()
    assert tops(again.run([plain(2)])) == ["blue"]


# --- regions --------------------------------------------------------------------------------------------------------


def two_signs() -> Frame:
    """A frame whose left half is red and whose right half is blue."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :30, 0] = image[:, 30:, 2] = 220
    return Frame(image, "rgb", 0, "", "front")


LEFT, RIGHT = (2.0, 5.0, 22.0, 30.0), (35.0, 5.0, 55.0, 30.0)


def test_the_finer_class_comes_first_and_the_detectors_second(pipeline: Pipeline) -> None:
    regions = [Region(LEFT, "sign", 0.7, "a"), Region(RIGHT, "green", None, "b"), Region(LEFT)]
    (outcome,) = pipeline.run([two_signs()], [regions])
    assert isinstance(outcome, Result) and outcome.classification is None and outcome.detections is not None
    first, second, third = outcome.detections.items
    assert [(h.label, h.index) for h in first.hypotheses[:2]] == [("red", 0), ("sign", -1)]
    assert first.hypotheses[1].score == 0.7 and first.id == "a" and first.box_xyxy_px == LEFT
    assert [(h.label, h.index, h.score) for h in second.hypotheses[1:2]] == [("green", 1, 1.0)]
    assert second.hypotheses[0].label == "blue" and len(third.hypotheses) == 3


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_detector_that_is_nan_sure_has_said_nothing(pipeline: Pipeline, score: float) -> None:
    """Regression: its NaN went out as a score of our answer."""
    (outcome,) = pipeline.run([two_signs()], [[Region(LEFT, "sign", score)]])
    assert isinstance(outcome, Result) and outcome.detections is not None
    assert [h.label for h in outcome.detections.items[0].hypotheses] == ["red", "green", "blue"]


def test_only_the_chosen_classes_get_a_second_look(tiny: Any) -> None:
    bundle = tiny.classifier(roi_classes=("sign",))
    regions = [Region(LEFT, "sign", 0.7), Region(RIGHT, "person", 0.9)]
    (as_bundle,) = tiny.pipeline(bundle).run([two_signs()], [regions])
    (everything,) = tiny.pipeline(bundle, roi_classes=()).run([two_signs()], [regions])
    (nothing,) = tiny.pipeline(bundle, roi_classes=("car",)).run([two_signs()], [regions])
    counts = [[len(d.hypotheses) for d in o.detections.items] for o in (as_bundle, everything, nothing)]
    assert counts == [[4, 1], [4, 4], [1, 1]]


def test_a_box_outside_the_frame_keeps_what_the_detector_said(pipeline: Pipeline) -> None:
    regions = [Region((500, 500, 600, 600), "sign", 0.4), Region((-1e308, 0, 1e308, 9), "sign"), Region((9, 9, 9, 9))]
    (outcome,) = pipeline.run([two_signs()], [regions])
    assert isinstance(outcome, Result) and outcome.detections is not None
    assert [len(d.hypotheses) for d in outcome.detections.items] == [1, 4, 0]


def test_no_regions_are_an_empty_answer(pipeline: Pipeline) -> None:
    (outcome,) = pipeline.run([two_signs()], [[]])
    assert isinstance(outcome, Result) and outcome.detections is not None and outcome.detections.items == ()


def test_whole_frame_and_boxes_together(pipeline: Pipeline) -> None:
    (outcome,) = pipeline.run([two_signs()], [[WHOLE_FRAME, Region(RIGHT)]])
    assert isinstance(outcome, Result) and outcome.classification is not None and outcome.detections is not None
    assert outcome.detections.items[0].hypotheses[0].label == "blue"


def test_the_margin_widens_the_crop(tiny: Any) -> None:
    bundle = tiny.classifier(roi_margin=0.5)
    crops = tiny.pipeline(bundle).prepare([two_signs()], [[Region((20, 10, 40, 20))]]).crops
    assert crops[0].rgb.shape == (20, 40, 3) and (crops[0].left_px, crops[0].top_px) == (10, 5)


def test_pixels_are_cut_out_as_views_and_hashed_as_rgb(pipeline: Pipeline) -> None:
    frame = Frame(two_signs().image[..., ::-1].copy(), "bgr", 0, "", "front")
    prepared = pipeline.prepare([frame], [[Region(LEFT)]])
    (crop,) = prepared.crops
    assert np.shares_memory(crop.pixels, frame.image) and crop.colour == "bgr"
    assert prepared.keys() == (pixels_sha256(two_signs().image[5:30, 2:22]),)


def test_a_flood_of_boxes_is_bounded(tiny: Any) -> None:
    """Regression: every box of a message was cut out and scaled, although only `max_detections` were answered."""
    made = tiny.pipeline(tiny.classifier(), max_detections=5)
    prepared = made.prepare([two_signs()], [[Region(LEFT)] * 1000])
    (outcome,) = made.answer(prepared)
    assert len(prepared.crops) == 5 and len(outcome.detections.items) == 5


@given(st.lists(st.lists(st.sampled_from([None, LEFT, RIGHT, (900.0, 900.0, 950.0, 950.0)]), max_size=4), max_size=5))
@settings(max_examples=60)
def test_every_frame_has_an_outcome_with_its_regions(tiny: Any, boxes: list[list[Any]]) -> None:
    made = tiny.pipeline(tiny.classifier())
    frames = [two_signs() for _ in boxes]
    outcomes = made.run(frames, [[Region(box) for box in of_frame] for of_frame in boxes])
    assert len(outcomes) == len(frames)
    for outcome, of_frame in zip(outcomes, boxes, strict=True):
        assert isinstance(outcome, Result)
        items = outcome.detections.items if outcome.detections else ()
        assert [d.box_xyxy_px for d in items] == [box for box in of_frame if box is not None]
        assert (outcome.classification is not None) == (None in of_frame)


# --- attacks --------------------------------------------------------------------------------------------------------


def test_an_attack_leaves_the_clean_answers_as_they_are(tiny: Any, coloured: tuple[Frame, ...]) -> None:
    bundle = tiny.armed()
    made = tiny.pipeline(bundle)
    prepared = made.prepare(coloured)
    pixels, before = prepared.x.copy(), made.answer(prepared)
    for name in injection.names(bundle):
        attacked = made.answer_attacked(prepared, injection.make(bundle, name))
        assert all(a.applied and a.injection == name for a in attacked)
        assert np.array_equal(prepared.x, pixels)
    after = made.answer(prepared)
    assert [o.classification for o in after] == [o.classification for o in before]


def test_an_attack_changes_scores(tiny: Any, coloured: tuple[Frame, ...]) -> None:
    bundle = tiny.armed()
    made = tiny.pipeline(bundle)
    clean, attacked = (
        made.run(coloured[:1])[0],
        made.attack(coloured[:1], injection.make(bundle, "universal"))[0].outcome,
    )
    assert clean.classification.hypotheses[0].score > attacked.classification.hypotheses[0].score


def test_only_the_regions_that_an_injection_knows_are_attacked(tiny: Any, coloured: tuple[Frame, ...]) -> None:
    """Regression: a frame with one known and one unknown box counted both as attacked, so as robust."""
    bundle = tiny.armed()
    made = tiny.pipeline(bundle)
    known, unknown = coloured[0], two_signs()
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :20] = known.image
    both = Frame(image, "rgb", 0, "", "front")
    regions = [[Region((30, 0, 50, 20)), Region((0, 0, 20, 20))], [Region(LEFT)]]
    first, second = made.attack([both, unknown], injection.make(bundle, "fgsm"), regions)
    assert first.regions == frozenset({1}) and first.applied
    assert second.regions == frozenset() and not second.applied


# --- detection ------------------------------------------------------------------------------------------------------

ROWS = np.array([[2, 4, 10, 12, 1.0, 0.9, 0.1, 0.0], [6, 8, 16, 16, 1.0, 0.1, 0.2, 0.8]], np.float32)


def test_boxes_come_back_in_source_pixels(tiny: Any) -> None:
    made = tiny.pipeline(tiny.detector(ROWS))
    frame = plain(0, size=(32, 64))
    (outcome,) = made.run([frame])
    assert [d.box_xyxy_px for d in outcome.detections.items] == [(8, 8, 40, 24), (24, 16, 64, 32)]
    assert [d.hypotheses[0].label for d in outcome.detections.items] == ["red", "blue"]


def test_letterboxed_boxes_come_back_and_padding_is_dropped(tiny: Any) -> None:
    """A 16x16 input shows a 64x32 frame in its rows 4..12; a box above them shows nothing."""
    rows = np.array([[0, 4, 16, 12, 1, 0.9, 0, 0], [0, 0, 16, 3, 1, 0, 0.9, 0]], np.float32)
    spec = tiny.manifest().input
    bundle = tiny.detector(rows, input=type(spec)(width=16, height=16, resize="letterbox"))
    (outcome,) = tiny.pipeline(bundle).run([plain(0, size=(32, 64))])
    assert [d.box_xyxy_px for d in outcome.detections.items] == [(0, 0, 64, 32)]


def test_boxes_found_in_a_region_are_placed_in_the_frame(tiny: Any) -> None:
    """Regression: they came out relative to the crop."""
    made = tiny.pipeline(tiny.detector(ROWS[:1]))
    (outcome,) = made.run([plain(0, size=(100, 100))], [[Region((50, 20, 82, 52))]])
    assert [d.box_xyxy_px for d in outcome.detections.items] == [(54, 28, 70, 44)]


def test_boxes_are_limited_and_sorted_over_all_regions(tiny: Any) -> None:
    made = tiny.pipeline(tiny.detector(ROWS), max_detections=3)
    (outcome,) = made.run([plain(0, size=(100, 100))], [[Region((0, 0, 16, 16)), Region((50, 50, 66, 66))]])
    scores = [d.hypotheses[0].score for d in outcome.detections.items]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)


def test_the_threshold_of_the_bundle_is_a_default_that_can_be_lowered(tiny: Any) -> None:
    row = np.array([[4, 4, 12, 12, 1, 0.04, 0, 0]], np.float32)
    bundle = tiny.detector(row)
    assert bundle.manifest.decode.score_threshold == 0.05
    (usual,), (lower,) = tiny.pipeline(bundle).run([plain(0)]), tiny.pipeline(bundle, min_score=0.03).run([plain(0)])
    assert usual.detections.items == () and len(lower.detections.items) == 1
    assert (tiny.pipeline(bundle).threshold, tiny.pipeline(bundle, min_score=0.03).threshold) == (0.05, 0.03)


def test_overlap_can_be_allowed_or_not(tiny: Any) -> None:
    rows = np.array([[0, 0, 16, 16, 1, 0.9, 0, 0], [0, 0, 16, 12, 1, 0.8, 0, 0]], np.float32)  # IoU 0.75
    bundle = tiny.detector(rows)
    counts = [len(tiny.pipeline(bundle, nms_iou=iou).run([plain(0)])[0].detections.items) for iou in (0.5, 0.8, 0.0)]
    assert counts == [1, 2, 1 if bundle.manifest.decode.nms_iou < 0.75 else 2]


def test_only_the_classes_that_are_asked_for_are_reported(tiny: Any) -> None:
    (everything,) = tiny.pipeline(tiny.detector(ROWS)).run([plain(0)])
    labels = {item.hypotheses[0].label for item in everything.detections.items}
    assert len(labels) > 1
    for label in labels:
        (outcome,) = tiny.pipeline(tiny.detector(ROWS), classes=(label,)).run([plain(0)])
        kept = [item for item in everything.detections.items if item.hypotheses[0].label == label]
        assert list(outcome.detections.items) == kept
    (whole,) = tiny.pipeline(tiny.classifier(), classes=("blue",), top_k=1).run([plain(0)])
    assert [h.label for h in whole.classification.hypotheses] == ["blue"], "looked for before top_k cuts off"
    with pytest.raises(UsageError, match="unknown class: found 'bleu', expected one of blue, green, red"):
        tiny.pipeline(tiny.classifier(), classes=("bleu",))


def test_a_detector_that_finds_nothing_answers(tiny: Any) -> None:
    (outcome,) = tiny.pipeline(tiny.detector(ROWS), min_score=1.0).run([plain(0)])
    assert outcome.detections.items == () and outcome.classification is None


# --- networks that do not keep their word ---------------------------------------------------------------------------


def test_too_many_classes_are_an_output_error(tiny: Any) -> None:
    """Regression: a class beyond the labels raised IndexError."""
    bundle = tiny.classifier(model=tiny.classifier_onnx(np.ones((3, 5), np.float32)))
    (outcome,) = tiny.pipeline(bundle).run([plain(0)])
    assert isinstance(outcome, Failure) and isinstance(outcome.error, OutputError)
    assert "found [5], expected [3]" in str(outcome.error)


def test_a_detector_of_other_classes_is_an_output_error(tiny: Any) -> None:
    (outcome,) = tiny.pipeline(tiny.detector(ROWS[:, :7])).run([plain(0)])
    assert isinstance(outcome, Failure) and "found [2, 7], expected ['boxes', 8]" in str(outcome.error)


class Broken:
    """A backend that fails, or answers with fewer rows than it was given."""

    name = description = "broken"
    warnings = ()

    def __init__(self, answer: Any) -> None:
        """answer: what `infer` returns or raises."""
        self._answer = answer

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Return or raise."""
        if isinstance(self._answer, Exception):
            raise self._answer
        return np.asarray(self._answer, np.float32)

    def close(self) -> None:
        """Nothing to free."""


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (BackendError("the device has gone"), BackendError),
        (np.ones((1, 3)), OutputError),
        (1.0, OutputError),
    ],
)
def test_a_batch_that_fails_fails_each_of_its_frames(tiny: Any, answer: Any, kind: type) -> None:
    bundle = tiny.classifier()
    choice = type(tiny.pipeline(bundle).choice)(Broken(answer), "test")
    outcomes = Pipeline(bundle, choice).run([plain(0), plain(1)])
    assert all(isinstance(o, Failure) and isinstance(o.error, kind) for o in outcomes) and len(outcomes) == 2


def test_the_bundle_says_how_images_are_shrunk(tiny: Any, road_frames: tuple[Frame, ...]) -> None:
    """Node, replay and self test all prepare here."""
    seen = {}
    for how in ("area", "linear"):
        spec = InputSpec(width=16, height=16, interpolation=how)  # type: ignore[arg-type]
        seen[how] = tiny.pipeline(tiny.classifier(how, input=spec)).prepare(road_frames[:1]).x[0]
        flag = cv2.INTER_LINEAR if how == "linear" else cv2.INTER_AREA
        expected = cv2.resize(road_frames[0].rgb(), (16, 16), interpolation=flag).transpose(2, 0, 1)
        assert np.abs(seen[how] * 255 - expected).max() <= (0.01 if how == "linear" else 2)
    assert np.abs(seen["area"] - seen["linear"]).max() > 0.05
