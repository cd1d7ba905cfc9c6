"""From outputs to answers: activations, top-k, the three box layouts, and NMS against a brute-force reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lisard_ros.bundle.manifest import Decode
from lisard_ros.errors import OutputError
from lisard_ros.inference import postprocess

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 6))
LOGITS = hnp.arrays(np.float32, SHAPES, elements=st.floats(-100, 100, width=32))
LABELS = tuple("abcdef")


# --- scores ---------------------------------------------------------------------------------------------------------


@given(LOGITS)
def test_softmax_is_a_distribution_in_the_order_of_the_logits(logits: np.ndarray) -> None:
    scores = postprocess.scores_of(logits, "softmax")
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5) and scores.min() >= 0 and scores.dtype == np.float32
    assert np.array_equal(scores.max(axis=1), scores[np.arange(len(scores)), logits.argmax(axis=1)])


@given(LOGITS, st.floats(-50, 50))
def test_softmax_does_not_see_a_common_shift(logits: np.ndarray, shift: float) -> None:
    shifted = postprocess.scores_of(logits + np.float32(shift), "softmax")
    assert np.allclose(shifted, postprocess.scores_of(logits, "softmax"), atol=1e-4)


@given(LOGITS)
def test_sigmoid_is_symmetric_and_within_0_and_1(logits: np.ndarray) -> None:
    scores = postprocess.scores_of(logits, "sigmoid")
    assert np.allclose(scores + postprocess.scores_of(-logits, "sigmoid"), 1, atol=1e-6)
    assert scores.min() >= 0 and scores.max() <= 1


def test_large_logits_do_not_overflow() -> None:
    huge = np.array([[3e38, -3e38]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        assert postprocess.scores_of(huge, "softmax").tolist() == [[1, 0]]
        assert np.allclose(postprocess.scores_of(huge, "sigmoid"), [[1, 0]])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_numbers_that_are_not_finite_raise(bad: float, activation: str) -> None:
    with pytest.raises(OutputError, match="found 1 of 6 NaN or infinite"):
        postprocess.scores_of(np.array([[0, 1, 0], [0, bad, 0]], np.float32), activation)  # type: ignore[arg-type]


def test_logits_declared_as_scores_are_refused() -> None:
    """Regression: with activation `none` raw logits such as 12.7 went out as scores."""
    with pytest.raises(OutputError, match=r"no scores: found -3 to 12.7, expected 0..1"):
        postprocess.scores_of(np.array([-3, 12.7], np.float32), "none")


def test_scores_of_half_precision_are_clipped() -> None:
    assert postprocess.scores_of(np.array([-0.0005, 1.0005], np.float32), "none").tolist() == [0, 1]


@pytest.mark.parametrize("classes", [1, 6, postprocess.FEW_CLASSES, postprocess.FEW_CLASSES + 1])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_the_scores_of_one_image_are_those_of_a_batch(classes: int, activation: str) -> None:
    random = np.random.default_rng(classes)
    for spread in (0.1, 5.0, 100.0):
        row = random.random(classes) if activation == "none" else random.normal(0, spread, classes)
        batch = postprocess.scores_of(row.astype(np.float32)[None], activation)[0]  # type: ignore[arg-type]
        found = postprocess.row_scores(row.astype(np.float32), activation)  # type: ignore[arg-type]
        assert all(type(score) is float for score in found)
        np.testing.assert_array_max_ulp(np.array(found, np.float32), batch, maxulp=1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_image_is_refused_like_a_batch(bad: float) -> None:
    with pytest.raises(OutputError, match="found 1 of 3 NaN or infinite"):
        postprocess.row_scores(np.array([0, bad, 1], np.float32), "softmax")
    with pytest.raises(OutputError, match="found 2 of 3 NaN or infinite"):
        postprocess.row_scores(np.array([-bad, bad, 1], np.float32), "softmax")


def test_huge_logits_of_one_image_do_not_overflow() -> None:
    assert postprocess.row_scores(np.array([3e38, 3e38, -3e38], np.float32), "softmax") == [0.5, 0.5, 0]


@given(hnp.arrays(np.float32, 6, elements=st.floats(0, 1, width=32)), st.integers(1, 8), st.floats(0, 1))
def test_hypotheses_are_the_best_in_order(scores: np.ndarray, top_k: int, min_score: float) -> None:
    found = postprocess.hypotheses(scores, LABELS, top_k, min_score)
    expected = sorted((float(s) for s in scores if s >= min_score), reverse=True)[:top_k]
    assert [h.score for h in found] == expected
    assert all(h.label == LABELS[h.index] and h.score == scores[h.index] for h in found)


# --- shapes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "decode"),
    [
        ((3,), None),
        ((7, 8), Decode(layout="xyxy_objectness_classes")),
        ((0, 8), Decode(layout="xyxy_objectness_classes")),
        ((7, 8), Decode(layout="cxcywh_objectness_classes")),
        ((7, 99), Decode(layout="cxcywh_classes_first")),
        ((7, 8), Decode(layout="yolox_grid")),
        ((7, 6), Decode(layout="xyxy_score_class")),
        ((0, 6), Decode(layout="xyxy_score_class")),
    ],
)
def test_shapes_that_fit(shape: tuple[int, ...], decode: Decode | None) -> None:
    postprocess.require_shape(shape, 3, decode)


@pytest.mark.parametrize(
    ("shape", "decode"),
    [
        ((4,), None),
        ((3, 1, 1), None),
        ((), None),
        ((7, 9), Decode(layout="xyxy_objectness_classes")),
        ((8,), Decode(layout="cxcywh_objectness_classes")),
        ((8, 99), Decode(layout="cxcywh_classes_first")),
        ((7, 9), Decode(layout="yolox_grid")),
        ((7, 8), Decode(layout="xyxy_score_class")),
    ],
)
def test_shapes_that_do_not_fit(shape: tuple[int, ...], decode: Decode | None) -> None:
    with pytest.raises(OutputError, match="does not fit task and labels: found .*, expected .*; check"):
        postprocess.require_shape(shape, 3, decode)


# --- boxes ----------------------------------------------------------------------------------------------------------

# Two objects of classes 1 and 0, as corners; the second is the better one.
CORNERS = np.array([[10, 20, 30, 60], [100, 100, 140, 120]], np.float64)
CLASSES = np.array([[0.1, 0.6], [0.9, 0.2]])


def centred(corners: np.ndarray) -> np.ndarray:
    """Corners to centre and size."""
    return np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)


@pytest.mark.parametrize(
    ("layout", "output"),
    [
        ("xyxy_objectness_classes", np.concatenate([CORNERS, np.full((2, 1), 0.5), CLASSES], axis=1)),
        ("cxcywh_objectness_classes", np.concatenate([centred(CORNERS), np.full((2, 1), 0.5), CLASSES], axis=1)),
        ("cxcywh_classes_first", np.concatenate([centred(CORNERS), CLASSES * 0.5], axis=1).T),
    ],
)
def test_the_three_layouts_say_the_same(layout: str, output: np.ndarray) -> None:
    found = postprocess.detect(output, Decode(layout=layout), "none", 0.0)  # type: ignore[arg-type]
    assert np.allclose(found.boxes_xyxy_px, CORNERS[::-1])
    assert found.classes.tolist() == [0, 1] and np.allclose(found.scores, [0.45, 0.3])


def test_sigmoid_applies_to_objectness_and_classes() -> None:
    row = np.array([[0, 0, 9, 9, 2.0, 1.0, -1.0]])
    found = postprocess.detect(row, Decode(layout="xyxy_objectness_classes"), "sigmoid", 0.0)
    assert np.isclose(found.scores[0], 1 / (1 + math.exp(-2)) / (1 + math.exp(-1)), atol=1e-6)


def test_min_score_raises_the_threshold_and_never_lowers_it() -> None:
    rows = np.array([[0, 0, 9, 9, 1, 0.3], [50, 50, 60, 60, 1, 0.6], [80, 80, 99, 99, 1, 0.1]], np.float64)
    decode = Decode(layout="xyxy_objectness_classes", score_threshold=0.2)
    assert len(postprocess.detect(rows, decode, "none", 0.0).scores) == 2
    assert len(postprocess.detect(rows, decode, "none", 0.5).scores) == 1


def test_boxes_without_area_are_dropped_and_the_count_is_limited() -> None:
    rows = np.array([[9, 0, 9, 9, 1, 0.9], [9, 9, 0, 0, 1, 0.9]] + [[i, 0, i + 1, 1, 1, 0.5] for i in range(20)], float)
    found = postprocess.detect(rows, Decode(layout="xyxy_objectness_classes", max_detections=7), "none", 0.0)
    assert len(found.scores) == 7 and np.allclose(found.scores, 0.5)


def test_no_boxes_are_an_answer() -> None:
    found = postprocess.detect(np.empty((0, 7)), Decode(layout="xyxy_objectness_classes"), "none", 0.0)
    assert found.boxes_xyxy_px.shape == (0, 4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("column", range(6))
def test_detect_refuses_what_is_not_finite_anywhere(bad: float, column: int) -> None:
    row = np.array([[0, 0, 9, 9, 1, 0.5]])
    row[0, column] = bad
    with pytest.raises(OutputError):
        postprocess.detect(row, Decode(layout="xyxy_objectness_classes"), "none", 0.0)


def whole(output: np.ndarray, decode: Decode, activation: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every row is scored, and only then compared with the threshold; the NMS is the brute force."""
    rows = output.T if decode.layout == "cxcywh_classes_first" else output
    scores = postprocess.scores_of(rows[:, 4 if rows is not output else 5 :], activation)  # type: ignore[arg-type]
    scores = scores.astype(np.float64)
    if rows is output:
        scores = scores * postprocess.scores_of(rows[:, 4:5], "none" if activation == "none" else "sigmoid")
    boxes = rows[:, :4].astype(np.float64)
    if not decode.layout.startswith("xyxy"):
        boxes = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    best, classes = scores.max(axis=1), scores.argmax(axis=1)
    seen = (best >= decode.score_threshold) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, best, classes = boxes[seen], best[seen], classes[seen]
    kept = brute_force(boxes, best, classes, decode.nms_iou)[: decode.max_detections]
    return boxes[kept], best[kept], classes[kept]


@pytest.mark.parametrize("threshold", [0.0, 1e-38, 1e-6, 0.05, 0.25, 0.9, 0.9995, 1.0])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("layout", ["xyxy_objectness_classes", "cxcywh_objectness_classes", "cxcywh_classes_first"])
def test_rows_that_are_left_out_early_would_not_have_passed(layout: str, activation: str, threshold: float) -> None:
    random = np.random.default_rng(7)
    numbers = random.random((60, 8)) if activation == "none" else random.normal(0, 6, (60, 8))
    numbers[0, 4:] = 1.0 if activation == "none" else 90.0  # a score of 1 exactly
    numbers[1, 4:] = 0.0 if activation == "none" else -95.0  # below what the sigmoid tells apart
    numbers[:, :4] = random.uniform(0, 40, (60, 4))
    numbers[:, 2:4] += numbers[:, :2] * layout.startswith("xyxy")
    if layout == "cxcywh_classes_first":
        numbers = np.delete(numbers, 4, axis=1).T
    output, decode = numbers.astype(np.float32), Decode(layout=layout, score_threshold=threshold)  # type: ignore[arg-type]
    found = postprocess.detect(output, decode, activation, 0.0)  # type: ignore[arg-type]
    boxes, scores, classes = whole(output, decode, activation)
    assert np.array_equal(found.boxes_xyxy_px, boxes) and np.array_equal(found.classes, classes)
    assert np.array_equal(found.scores, scores.astype(np.float32)) and (len(scores) > 0 or threshold >= 0.9)


def test_a_score_at_the_threshold_passes() -> None:
    """The quick look at logits has slack: what is kept is decided by scores alone."""
    row = np.array([[0, 0, 9, 9, 80, 1.3]], np.float32)
    at = float(postprocess.scores_of(row[:, 5], "sigmoid")[0])
    for threshold, count in ((at, 1), (np.nextafter(at, 1), 0)):
        decode = Decode(layout="xyxy_objectness_classes", score_threshold=float(threshold))
        assert len(postprocess.detect(row, decode, "sigmoid", 0.0).scores) == count


# --- NMS ------------------------------------------------------------------------------------------------------------


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union by the definition."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(wide, 0.0) * max(high, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return float(overlap / union) if union > 0 else 0.0


def brute_force(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, limit: float) -> list[int]:
    """Visit boxes by falling score; keep one unless a kept one of its class overlaps more than `limit`."""
    kept: list[int] = []
    for row in sorted(range(len(boxes)), key=lambda n: -scores[n]):
        if all(classes[row] != classes[k] or iou(boxes[row], boxes[k]) <= limit for k in kept):
            kept.append(row)
    return kept


@st.composite
def box_sets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Up to 12 boxes on a coarse grid, so that overlaps, ties and empty boxes occur."""
    count = draw(st.integers(0, 12))
    grid = hnp.arrays(np.int64, (count, 2), elements=st.integers(0, 6))
    low, size = draw(grid), draw(grid)
    boxes = np.concatenate([low, low + size], axis=1).astype(np.float64)
    scores = draw(hnp.arrays(np.float64, count, elements=st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9])))
    return boxes, scores, draw(hnp.arrays(np.int64, count, elements=st.integers(0, 2)))


@given(box_sets(), st.sampled_from([0.1, 0.3, 0.5, 0.65, 1.0]))
def test_nms_is_the_brute_force(boxes: tuple[np.ndarray, np.ndarray, np.ndarray], limit: float) -> None:
    assert postprocess.nms(*boxes, limit).tolist() == brute_force(*boxes, limit)


@given(box_sets(), st.integers(1, 5))
def test_nms_may_stop_early_without_another_answer(boxes: tuple[np.ndarray, np.ndarray, np.ndarray], most: int) -> None:
    assert postprocess.nms(*boxes, 0.5, most).tolist() == brute_force(*boxes, 0.5)[:most]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_nms_of_thousands_of_boxes_is_the_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    low = random.uniform(0, 300, (3000, 2))
    corners = np.concatenate([low, low + random.uniform(20, 150, (3000, 2))], axis=1)
    scores, classes = random.random(3000), random.integers(0, 4, 3000)
    best = np.argsort(-scores)[:400]  # the brute force is slow: compare the first that are kept
    found = postprocess.nms(corners, scores, classes, 0.4)
    expected = brute_force(corners[best], scores[best], classes[best], 0.4)
    assert [int(best[k]) for k in expected] == found[: len(expected)].tolist()


@given(box_sets())
def test_nms_applied_twice_changes_nothing(boxes: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    corners, scores, classes = boxes
    kept = postprocess.nms(corners, scores, classes, 0.5)
    again = postprocess.nms(corners[kept], scores[kept], classes[kept], 0.5)
    assert again.tolist() == list(range(len(kept)))


@given(box_sets())
def test_iou_is_symmetric_and_within_0_and_1(boxes: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    corners = boxes[0]
    table = np.array([postprocess.iou_with(box, corners) for box in corners]).reshape(len(corners), len(corners))
    assert np.array_equal(table, table.T) and (table >= 0).all() and (table <= 1).all()


def test_many_candidates_are_cut_to_the_best() -> None:
    count = postprocess.MAX_NMS_CANDIDATES + 500
    left = np.arange(count, dtype=np.float64) * 20
    scores = np.linspace(0.1, 0.9, count)
    rows = np.stack([left, left * 0, left + 10, left * 0 + 10, np.ones(count), scores], axis=1)
    decode = Decode(layout="xyxy_objectness_classes", max_detections=count)
    found = postprocess.detect(rows, decode, "none", 0.0)
    assert len(found.scores) == postprocess.MAX_NMS_CANDIDATES and np.isclose(found.scores[0], 0.9)


# --- layouts of other frameworks ------------------------------------------------------------------------------------


def test_a_raw_grid_is_decoded_cell_by_cell() -> None:
    """64x32 has grids of 8x4, 4x2 and 2x1 cells; one object lies in each."""
    size_px, decode = (64, 32), Decode(layout="yolox_grid", nms_iou=1.0)
    assert postprocess.grid_rows(size_px) == 42
    rows = np.zeros((42, 6), np.float32)
    log2 = float(np.log(2))
    rows[8 * 3 + 7] = [0.5, 0.25, 0, log2, 0.9, 1]  # stride 8, column 7, row 3
    rows[32 + 4 * 1 + 2] = [-0.5, 1.5, -log2, 0, 0.8, 1]  # stride 16, column 2, row 1
    rows[40 + 1] = [0, 0, log2, log2, 0.7, 1]  # stride 32, column 1, row 0
    found = postprocess.detect(rows, decode, "none", 0.0, size_px=size_px)
    assert np.allclose(found.scores, [0.9, 0.8, 0.7])
    assert np.allclose(found.boxes_xyxy_px, [[56, 18, 64, 34], [20, 32, 28, 48], [0, -32, 64, 32]], atol=1e-5)


def test_the_quick_look_at_a_grid_of_logits_changes_nothing() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(-2, 2, (84, 8)).astype(np.float32)
    decode = Decode(layout="yolox_grid", score_threshold=0.2)
    quick = postprocess.detect(rows, decode, "sigmoid", 0.0, size_px=(64, 64))
    scores = 1 / (1 + np.exp(-rows[:, 4:]))
    plain = np.concatenate([rows[:, :4], scores], axis=1)
    slow = postprocess.detect(plain, decode, "none", 0.0, size_px=(64, 64))
    assert len(quick.scores) and quick.classes.tolist() == slow.classes.tolist()
    assert np.allclose(quick.boxes_xyxy_px, slow.boxes_xyxy_px) and np.allclose(quick.scores, slow.scores)


def test_an_absurd_size_stays_finite() -> None:
    rows = np.zeros((84, 6), np.float32)
    rows[0] = [0, 0, 1e30, 1e30, 1, 1]
    found = postprocess.detect(rows, Decode(layout="yolox_grid"), "none", 0.0, size_px=(64, 64))
    assert len(found.scores) == 1 and np.isfinite(found.boxes_xyxy_px).all()


@pytest.mark.parametrize("size_px", [None, (64, 32)])
def test_a_grid_of_another_size_is_refused(size_px: tuple[int, int] | None) -> None:
    with pytest.raises(OutputError, match="not the grid of strides 8, 16 and 32: found 84 rows, expected"):
        postprocess.detect(np.zeros((84, 6)), Decode(layout="yolox_grid"), "none", 0.0, size_px=size_px)


def test_a_list_keeps_its_boxes_and_classes() -> None:
    """Rows below the threshold fill the list up, with any class; the file has suppressed duplicates itself."""
    rows = np.array([[1, 2, 9, 9, 0.9, 2], [1, 2, 9, 9, 0.8, 2], [0, 0, 5, 5, 0.7, 0], [0, 0, 0, 0, 0, -1]], np.float32)
    found = postprocess.detect(rows, Decode(layout="xyxy_score_class", nms_iou=1.0), "none", 0.0, classes=3)
    assert found.classes.tolist() == [2, 2, 0] and np.allclose(found.scores, [0.9, 0.8, 0.7])
    assert found.boxes_xyxy_px.tolist() == rows[:3, :4].tolist()
    nothing = postprocess.detect(np.empty((0, 6)), Decode(layout="xyxy_score_class"), "none", 0.0, classes=3)
    assert len(nothing.scores) == 0


@pytest.mark.parametrize("kind", [3, -1, 0.5])
def test_a_class_without_a_label_is_refused(kind: float) -> None:
    rows = np.array([[1, 2, 9, 9, 0.9, kind]], np.float32)
    with pytest.raises(
        OutputError, match="names a class that has no label: found .*, expected whole numbers from 0 to 2"
    ):
        postprocess.detect(rows, Decode(layout="xyxy_score_class"), "none", 0.0, classes=3)
