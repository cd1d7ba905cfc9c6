"""Comparisons of two backends: scores, losses and what is not applicable, on real tiny networks and hand-made boxes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_engines import image_sets
from lisard_engines.verification.comparison import compare
from lisard_engines.verification.gate import Limits, judge
from lisard_ros import backends
from lisard_ros.errors import DataError, OutputError, UsageError
from lisard_ros.evaluation.agreement import f1
from lisard_ros.evaluation.average_precision import TrueBoxes
from lisard_ros.inference import postprocess
from lisard_ros.inference.postprocess import Boxes
from lisard_ros.inference.preprocess import prepare


@dataclass
class Altered:
    """A real backend whose outputs are changed for chosen images of the first batch."""

    inner: Any
    change: Any
    name: str = "altered"
    description: str = "altered"
    warnings: tuple[str, ...] = ()

    def infer(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.change(self.inner.infer(x).copy()))

    def close(self) -> None:
        self.inner.close()


def onnx(bundle: Any) -> Any:
    return backends.choose(bundle, "onnxruntime", 1).backend


def test_equal_backends_lose_nothing(small: Any) -> None:
    bundle = small.bundle()
    found = compare(bundle, onnx(bundle), onnx(bundle), image_sets.of_bundle(bundle))
    assert [row.injection for row in found.rows] == ["clean", "fgsm"] and found.labelled
    assert found.max_abs_difference == 0 and found.agreement == 1
    assert all(row.loss_points.value == 0 and row.n == 24 for row in found.rows)
    assert judge(found, Limits(0, 0)).passed


def test_a_quarter_of_wrong_answers_is_a_loss_of_25_points(small: Any) -> None:
    def wrong(outputs: np.ndarray) -> np.ndarray:
        outputs[: len(outputs) // 4] = np.roll(outputs[: len(outputs) // 4], 1, axis=1)
        return outputs

    bundle = small.bundle()
    found = compare(bundle, onnx(bundle), Altered(onnx(bundle), wrong), image_sets.of_bundle(bundle))
    clean = found.row("clean")
    assert clean.reference == 1.0 and clean.judged == 0.75 and clean.loss_points.value == 25
    assert clean.loss_points.low < 25 < clean.loss_points.high
    assert found.agreement == 0.75 and not judge(found, Limits()).passed
    assert judge(found, Limits(30, 30)).passed and judge(found, Limits(), forced=True).forced


def test_a_variant_that_only_loses_under_attack_is_refused(small: Any) -> None:
    bundle = small.bundle()
    calls: list[int] = []

    def wrong_when_attacked(outputs: np.ndarray) -> np.ndarray:
        calls.append(len(outputs))
        return np.roll(outputs, 1, axis=1) if len(calls) > 1 else outputs

    found = compare(bundle, onnx(bundle), Altered(onnx(bundle), wrong_when_attacked), image_sets.of_bundle(bundle))
    verdict = judge(found, Limits())
    assert verdict.clean_loss_points == 0 and verdict.robust_loss_points > 50 and not verdict.passed


def test_a_stored_perturbation_counts_only_for_its_images(small: Any) -> None:
    bundle = small.bundle()
    more = image_sets.read(small.images(), small.labels)
    found = compare(bundle, onnx(bundle), onnx(bundle), image_sets.joined([image_sets.of_bundle(bundle), more]))
    assert (found.row("clean").n, found.row("fgsm").n, found.row("fgsm").not_applicable) == (60, 24, 36)


def test_without_labels_the_references_answers_are_the_truth(small: Any) -> None:
    bundle = small.bundle()
    unlabelled = image_sets.read(small.images(), ("x", "y"))
    assert not unlabelled.labelled
    found = compare(bundle, onnx(bundle), onnx(bundle), unlabelled)
    assert not found.labelled and found.row("clean").reference == 1.0 and found.row("fgsm").n == 0


def test_a_detector_without_true_boxes_is_held_against_those_of_the_reference(small: Any) -> None:
    bundle = small.detector()
    real = image_sets.read(small.images(), small.labels)
    same = compare(bundle, onnx(bundle), onnx(bundle), real)
    assert same.row("clean").judged == 1.0 and same.agreement == 1.0
    assert same.metric == "AP50" and not same.labelled
    moved = compare(bundle, onnx(bundle), Altered(onnx(bundle), shifted), real)
    assert moved.row("clean").judged < 0.5 and moved.agreement < 0.5 and not judge(moved, Limits()).passed


def shifted(outputs: np.ndarray) -> np.ndarray:
    """Boxes 9 px off."""
    return outputs + [9, 9, 9, 9, 0, 0, 0, 0]


def test_true_boxes_decide_where_they_are_known(small: Any) -> None:
    bundle = small.detector()
    real = image_sets.read(small.images(count=6), small.labels)
    found = [
        postprocess.detect(out, bundle.manifest.decode, "sigmoid", 0.3)
        for out in onnx(bundle).infer(prepare([frame.rgb() for frame in real.frames], bundle.manifest.input))
    ]
    own = tuple(TrueBoxes(boxes.boxes_xyxy_px, boxes.classes.astype(int)) for boxes in found)
    as_found = compare(bundle, onnx(bundle), Altered(onnx(bundle), shifted), replace(real, boxes=own))
    assert as_found.labelled and as_found.row("clean").reference == 1.0 and as_found.row("clean").loss_points.value > 50
    elsewhere = tuple(TrueBoxes(boxes.boxes_xyxy_px + 9, boxes.classes) for boxes in own)
    mended = compare(bundle, onnx(bundle), Altered(onnx(bundle), shifted), replace(real, boxes=elsewhere))
    assert mended.row("clean").judged == 1.0 and mended.row("clean").loss_points.value < -50
    assert judge(mended, Limits()).passed, "the variant is the better one"
    unknown = compare(bundle, onnx(bundle), onnx(bundle), replace(real, boxes=(*own[:-1], None)))
    assert not unknown.labelled, "the truth of one image is not known"


def test_true_boxes_are_laid_on_the_input_as_the_image_is(small: Any) -> None:
    bundle = small.detector()
    real = image_sets.read(small.images(count=4), small.labels)
    larger = tuple(replace(frame, image=np.repeat(np.repeat(frame.image, 2, 0), 2, 1)) for frame in real.frames)
    found = [
        postprocess.detect(out, bundle.manifest.decode, "sigmoid", 0.3)
        for out in onnx(bundle).infer(prepare([frame.rgb() for frame in larger], bundle.manifest.input))
    ]
    own = tuple(TrueBoxes(2 * boxes.boxes_xyxy_px, boxes.classes.astype(int)) for boxes in found)
    assert compare(bundle, onnx(bundle), onnx(bundle), replace(real, frames=larger, boxes=own)).row("clean").judged == 1


def test_images_that_show_nothing_are_no_ground_to_compare_on(small: Any) -> None:
    bundle = small.detector()
    real = image_sets.read(small.images(count=6), small.labels)
    nothing = (TrueBoxes(np.empty((0, 4)), np.empty(0, int)),) * len(real)
    with pytest.raises(DataError, match=r"no boxes to compare on.*annotations\.json"):
        compare(bundle, onnx(bundle), onnx(bundle), replace(real, boxes=nothing))


def test_what_the_bundle_does_not_show_is_nobodys_truth(small: Any) -> None:
    bundle = small.detector()
    strict = msgspec.structs.replace(bundle.manifest.decode, score_threshold=1.0)
    silent = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, decode=strict))
    real = image_sets.read(small.images(count=6), small.labels)
    assert compare(bundle, onnx(bundle), onnx(bundle), real).row("clean").reference == 1.0
    with pytest.raises(DataError, match="no boxes to compare on"):
        compare(silent, onnx(bundle), onnx(bundle), real)


def test_nan_is_never_compared(small: Any) -> None:
    bundle = small.bundle()
    with pytest.raises(OutputError, match="not finite"):
        compare(bundle, onnx(bundle), Altered(onnx(bundle), lambda o: o * np.nan), image_sets.of_bundle(bundle))


def test_no_images_and_impossible_limits_are_refused(small: Any) -> None:
    bundle = small.bundle(self_test=None)
    with pytest.raises(DataError, match="no images to compare on.*--images FOLDER"):
        compare(bundle, onnx(bundle), onnx(bundle), image_sets.of_bundle(bundle))
    with pytest.raises(UsageError, match="limits of the gate"):
        Limits(float("nan"), 1)


def boxes(rows: list[tuple[float, float, float, float, int]]) -> Boxes:
    array = np.array([row[:4] for row in rows], np.float64).reshape(-1, 4)
    return Boxes(array, np.ones(len(rows), np.float32), np.array([row[4] for row in rows], np.intp))


def test_f1_of_boxes() -> None:
    one, two = (0, 0, 10, 10, 0), (20, 20, 30, 30, 1)
    assert f1(boxes([]), boxes([])) == 1 and f1(boxes([one]), boxes([])) == 0
    assert f1(boxes([one, two]), boxes([two, one])) == 1
    assert f1(boxes([one, one]), boxes([one])) == pytest.approx(2 / 3), "a true box is matched once"
    assert f1(boxes([(0, 0, 10, 10, 1)]), boxes([one])) == 0, "another class"


corner = st.tuples(*[st.floats(0, 40)] * 2, *[st.floats(1, 40)] * 2, st.integers(0, 2))


@given(st.lists(corner, max_size=6), st.lists(corner, max_size=6))
def test_f1_is_a_share_and_1_only_for_equal_counts(ours: list[Any], theirs: list[Any]) -> None:
    a, b = (boxes([(x, y, x + w, y + h, c) for x, y, w, h, c in rows]) for rows in (ours, theirs))
    assert 0 <= f1(a, b) <= 1
    assert f1(a, a) == 1
    assert f1(a, b) < 1 or len(a.scores) == len(b.scores)
