"""A detector in front of a classifier: its boxes are classified, its failures and times are the frame's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lisard_ros import cli
from lisard_ros import injection as stage
from lisard_ros.bags.evaluation import MatrixModel, evaluate
from lisard_ros.bags.matrix import names_for
from lisard_ros.bags.reader import BagFrame
from lisard_ros.bags.results import replay_of
from lisard_ros.bundle.manifest import Decode
from lisard_ros.errors import AttackError, OutputError, UsageError
from lisard_ros.frames import Frame, Region, Result
from lisard_ros.inference.pipeline import Failure, Pipeline, Settings, open_pipeline

LABELS = ("sign", "person", "crosswalk")
# In a 16x16 input: a sign on the left half, a person on the right, and a faint sign that the threshold drops.
ROWS = np.array([[1, 2, 7, 14, 1, 0.9, 0, 0], [9, 2, 15, 14, 1, 0, 0.8, 0], [1, 1, 3, 3, 1, 0.01, 0, 0]], np.float32)
LEFT_PX, RIGHT_PX = (3.75, 5.0, 26.25, 35.0), (33.75, 5.0, 56.25, 35.0)


def street() -> Frame:
    """60x40 px, red on the left, blue on the right."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :30, 0] = image[:, 30:, 2] = 220
    return Frame(image, "rgb", 0, "", "front")


@pytest.fixture
def bundles(tiny: Any) -> tuple[Path, Path]:
    """Classifier of signs, and the detector before it."""
    first = tiny.detector(ROWS, labels=LABELS)
    return tiny.classifier(roi_classes=("sign",), roi_groups={"sign": ("red", "blue")}).path, first.path


@pytest.fixture
def both(bundles: tuple[Path, Path]) -> Pipeline:
    return open_pipeline(bundles[0], threads=1, detector=bundles[1])


def test_boxes_that_it_finds_are_classified_and_others_keep_their_class(both: Pipeline) -> None:
    (outcome,) = both.run([street()])
    assert isinstance(outcome, Result) and outcome.classification is None and outcome.detections is not None
    sign, person = outcome.detections.items
    assert sign.box_xyxy_px == pytest.approx(LEFT_PX) and person.box_xyxy_px == pytest.approx(RIGHT_PX)
    assert [h.label for h in sign.hypotheses[:2]] == ["red", "sign"] and sign.hypotheses[1].score > 0.89
    assert [(h.label, h.index) for h in person.hypotheses] == [("person", 4)]


def test_given_regions_are_left_alone(both: Pipeline) -> None:
    (outcome,) = both.run([street()], [[Region(RIGHT_PX)]])
    assert isinstance(outcome, Result) and outcome.detections is not None
    assert [d.hypotheses[0].label for d in outcome.detections.items] == ["blue"]


def test_both_models_are_loaded_again_from_memory(both: Pipeline) -> None:
    again = both.reopened("onnxruntime", 1)
    assert again.detector is not None and both.detector is not None
    assert again.detector.choice.backend is not both.detector.choice.backend
    both.close()
    (outcome,) = again.run([street()])
    assert isinstance(outcome, Result) and outcome.detections is not None and len(outcome.detections.items) == 2


def test_nothing_found_is_an_empty_answer(tiny: Any, bundles: tuple[Path, Path]) -> None:
    silent = tiny.detector(ROWS * np.array([1, 1, 1, 1, 0, 1, 1, 1], np.float32), labels=LABELS, name="silent")
    pipeline = open_pipeline(bundles[0], threads=1, detector=silent.path)
    (outcome,) = pipeline.run([street()])
    assert isinstance(outcome, Result) and outcome.detections is not None and outcome.detections.items == ()


def test_a_frame_that_the_detector_cannot_answer_fails(tiny: Any, bundles: tuple[Path, Path]) -> None:
    broken = tiny.detector(ROWS * np.float32("nan"), labels=LABELS, name="broken")
    pipeline = open_pipeline(bundles[0], threads=1, detector=broken.path)
    outcomes = pipeline.run([street(), street()])
    assert all(isinstance(o, Failure) and isinstance(o.error, OutputError) for o in outcomes)


def test_times_hold_both_stages(both: Pipeline, bundles: tuple[Path, Path]) -> None:
    assert both.detector is not None
    prepared = both.prepare([street()])
    assert prepared.times.infer_ms > 0 and prepared.times.postprocess_ms > 0
    (outcome,) = both.answer(prepared)
    assert isinstance(outcome, Result) and outcome.times.infer_ms > prepared.times.infer_ms
    assert outcome.times.preprocess_ms == prepared.preprocess_ms


def test_an_injection_changes_the_crops_and_not_the_boxes(both: Pipeline) -> None:
    prepared = both.prepare([street()])
    (attacked,) = both.answer_attacked(prepared, stage.NoiseInjection(60.0, seed=0))
    assert attacked.regions == frozenset({0}) and isinstance(attacked.outcome, Result)
    assert attacked.outcome.detections is not None and len(attacked.outcome.detections.items) == 2


def dark_street() -> Frame:
    """32x32 px of the brightness at which the armed detector loses its second box under its stored perturbation."""
    return Frame(np.full((32, 32, 3), 100, np.uint8), "rgb", 0, "", "front")


@pytest.fixture
def armed(tiny: Any) -> Pipeline:
    """A classifier behind a detector that has a stored perturbation for `dark_street`."""
    return open_pipeline(tiny.classifier(roi_classes=("red",)).path, threads=1, detector=tiny.armed_detector().path)


def test_an_injection_at_the_detector_changes_what_it_finds(armed: Pipeline) -> None:
    assert armed.detector is not None
    injection = stage.make_staged(armed.bundle, armed.detector.bundle, "detector/pgd")
    assert (injection.name, injection.knowledge, injection.needs_keys) == ("detector/pgd", "gray-box", True)
    prepared = armed.prepare([dark_street(), street()])
    clean, _ = armed.answer(prepared)
    known, unknown = armed.answer_attacked(prepared, injection)
    assert isinstance(clean, Result) and isinstance(known.outcome, Result)
    assert clean.detections is not None and len(clean.detections.items) == 2
    assert known.applied and known.outcome.detections is not None and len(known.outcome.detections.items) == 1
    assert len(known.outcome.detections.items[0].hypotheses) > 1, "what is still found is classified as before"
    assert not unknown.applied, "a stored perturbation was not made for this frame"
    assert known.outcome.times.infer_ms > 0


def test_a_frame_on_which_nothing_is_left_was_attacked_all_the_same(tiny: Any) -> None:
    """An attack that makes everything vanish is applied, with an empty answer."""
    decode = Decode(layout="xyxy_objectness_classes", score_threshold=0.34)
    blind = tiny.armed_detector(decode=decode)
    pipeline = open_pipeline(tiny.classifier(roi_classes=("red",)).path, threads=1, detector=blind.path)
    injection = stage.make_staged(pipeline.bundle, blind, "detector/pgd")
    (attacked,) = pipeline.answer_attacked(pipeline.prepare([dark_street()]), injection)
    assert attacked.applied and isinstance(attacked.outcome, Result)
    assert attacked.outcome.detections is not None and attacked.outcome.detections.items == ()


def test_injections_of_either_stage_are_named(armed: Pipeline) -> None:
    with pytest.raises(AttackError, match="unknown injection of bundle tiny: found 'fgsm', expected one of clean, noi"):
        stage.make_staged(armed.bundle, armed.detector and armed.detector.bundle, "detector/fgsm")
    with pytest.raises(AttackError, match="no detector in front; did you mean 'noise'"):
        stage.make_staged(armed.bundle, None, "detector/noise")
    assert names_for("all", armed) == ("noise", "detector/noise", "detector/pgd")


def test_bundles_that_do_not_belong_together(tiny: Any, bundles: tuple[Path, Path]) -> None:
    classifier, detector = bundles
    with pytest.raises(UsageError, match="found classification before classification"):
        open_pipeline(classifier, detector=classifier)
    with pytest.raises(UsageError, match="found detection before detection"):
        open_pipeline(detector, detector=detector)
    other = tiny.detector(ROWS, labels=("cat", "dog", "cow"), name="other")
    with pytest.raises(UsageError, match="finds nothing that tiny classifies: found cat, dog, cow"):
        open_pipeline(classifier, detector=other.path)


def test_a_bag_is_scored_by_the_boxes_that_are_found(both: Pipeline) -> None:
    boxes = (Region(LEFT_PX, "sign"), Region(RIGHT_PX, "person"), Region((0.0, 0.0, 3.0, 3.0), "sign"))
    frame = BagFrame("/front", 0, street(), None, 1.0, None, boxes)
    clean, noisy = replay_of(evaluate([MatrixModel(both, [stage.NoiseInjection(1.0, seed=0)])], [frame]), "bag").rows
    assert (clean.score.hits, clean.score.n) == (2, 3) == (noisy.score.hits, noisy.score.n)


def test_the_command_runs_both(bundles: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), street().image[:, :, ::-1])
    assert cli.main(["run", str(bundles[0]), str(tmp_path / "street.png"), "--detector", str(bundles[1])]) == 0
    out = capsys.readouterr().out
    assert "[4,5,26,35] red" in out and "sign 0.9" in out and "person 0.8" in out


def test_settings_act_on_both_stages(bundles: tuple[Path, Path]) -> None:
    def answer(**changes: Any) -> tuple[Any, ...]:
        made = open_pipeline(bundles[0], detector=bundles[1], threads=1, settings=Settings(**changes))
        (outcome,) = made.run([street()])
        return outcome.detections.items

    everything = answer()
    assert len(everything) == 2 and len(answer(min_score=0.001)) == 3, "the detector's threshold is lowered"
    assert len(answer(min_score=0.85)) == 1 and answer(min_score=0.99) == ()
    assert all(h.score >= 0.85 for item in answer(min_score=0.85) for h in item.hypotheses)
    assert answer(classes=("person",)) == tuple(i for i in everything if i.hypotheses[0].label == "person")
    assert answer(classes=("sign",)) == tuple(i for i in everything if i.hypotheses[-1].label != "person")[:1]
    assert len(answer(max_detections=1)) == 1


def test_labels_of_both_stages_are_known_by_index(bundles: tuple[Path, Path]) -> None:
    made = open_pipeline(bundles[0], detector=bundles[1], threads=1)
    assert made.labels == ("red", "green", "blue", *LABELS)
    (outcome,) = made.run([street()])
    assert {h.label: h.index for item in outcome.detections.items for h in item.hypotheses}["person"] == 4
