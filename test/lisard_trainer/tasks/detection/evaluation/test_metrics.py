"""Average precision: our resampled AP50 against pycocotools, perfect and useless answers, sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lisard_ros.evaluation import average_precision
from lisard_ros.inference.postprocess import Boxes
from lisard_trainer.data.detection import IGNORED, NOTHING, Scenes
from lisard_trainer.tasks.detection.evaluation import metrics

SIZE = 128


def scenes_of(boxes, labels, classes=("a", "b", "c")):
    count = len(boxes)
    content = torch.tensor([[0.0, 0, SIZE, SIZE]]).expand(count, 4)
    sizes = torch.full((count, 2), SIZE)
    images = torch.zeros(count, 3, SIZE, SIZE, dtype=torch.uint8)
    names, corners = tuple(map(str, range(count))), torch.tensor(boxes, dtype=torch.float32)
    return Scenes(images, corners, torch.tensor(labels), content, sizes, names, classes)


def random_case(seed, ignored=False):
    random = np.random.default_rng(seed)
    count, most = 5, 4
    low = random.integers(0, 80, (count, most, 2))
    boxes = np.concatenate([low, low + random.integers(8, 48, (count, most, 2))], 2).astype(float)
    labels = random.integers(0, 3, (count, most))
    labels[random.random((count, most)) < 0.25] = NOTHING
    if ignored:
        labels[random.random((count, most)) < 0.2] = IGNORED
    found = []
    for row in range(count):
        own = boxes[row][labels[row] != NOTHING]
        moved = own + random.normal(0, 4, own.shape)
        low = random.uniform(0, 80, (3, 2))
        corners = np.concatenate([moved, np.concatenate([low, low + random.uniform(8, 40, (3, 2))], 1)])
        corners = np.clip(np.concatenate([corners[:, :2], np.maximum(corners[:, 2:], corners[:, :2] + 2)], 1), 0, SIZE)
        guess = np.concatenate([np.maximum(labels[row][labels[row] != NOTHING], 0), random.integers(0, 3, 3)])
        guess = np.where(random.random(len(guess)) < 0.8, guess, random.integers(0, 3, len(guess)))
        scores = random.permutation(np.linspace(0.05, 0.95, len(guess))).astype(np.float32) + np.float32(row * 1e-3)
        found.append(Boxes(corners, scores, guess.astype(np.intp)))
    return found, scenes_of(boxes, labels)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
@example(6995, True)
def test_ap50_is_that_of_pycocotools(seed, ignored):
    """Exactly that with its rounded points of recall; without, never lower."""
    found, scenes = random_case(seed, ignored)
    matches, theirs = metrics.match(found, scenes, 0.25), metrics.precision_of(found, scenes).ap50
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(average_precision, "RECALL_TOLERANCE", 0.0)
        assert average_precision.ap50(matches) == pytest.approx(theirs, abs=1e-9)
    assert average_precision.ap50(matches) >= theirs - 1e-9


def test_a_recall_that_is_reached_counts_although_its_point_is_rounded_up():
    """Regression: 7 of 10 boxes found are a recall of 0.7; pycocotools asks for 0.7000000000000001."""
    boxes = [[[12.0 * n, 0, 12.0 * n + 10, 10] for n in range(10)]]
    scenes = scenes_of(boxes, [[0] * 10], ("a",))
    found = [Boxes(np.array(boxes[0][:7]), np.linspace(0.9, 0.3, 7, dtype=np.float32), np.zeros(7, np.intp))]
    assert average_precision.ap50(metrics.match(found, scenes, 0.25)) == pytest.approx(71 / 101)
    assert metrics.precision_of(found, scenes).ap50 == pytest.approx(70 / 101)


def test_weights_are_repetitions_of_images():
    found, scenes = random_case(3)
    weights = np.array([[2.0, 0, 1, 0, 3], [1, 1, 1, 1, 1], [0, 0, 0, 5, 0]])
    drawn = [np.repeat(np.arange(5), own.astype(int)) for own in weights]
    repeated = [metrics.precision_of([found[row] for row in rows], scenes.take(rows)).ap50 for rows in drawn]
    assert average_precision.ap50s(metrics.match(found, scenes, 0.25), weights) == pytest.approx(repeated, abs=1e-6)


def truth_as_answer(scenes, score=0.9):
    rows = []
    for boxes, labels in zip(scenes.boxes.numpy(), scenes.labels.numpy(), strict=True):
        own = labels >= 0
        rows.append(Boxes(boxes[own].astype(float), np.full(own.sum(), score, np.float32), labels[own].astype(np.intp)))
    return rows


def test_perfect_and_useless_answers():
    _, scenes = random_case(1)
    assert metrics.precision_of(truth_as_answer(scenes), scenes).ap == pytest.approx(1)
    nothing = [Boxes(np.zeros((0, 4)), np.zeros(0, np.float32), np.zeros(0, np.intp))] * len(scenes)
    found = metrics.precision_of(nothing, scenes)
    assert found.ap == 0 and average_precision.ap50(metrics.match(nothing, scenes, 0.25)) == 0


def test_sizes_are_those_of_the_source_image():
    boxes = [[[0, 0, 20, 20], [30, 30, 120, 120]]]
    scenes = scenes_of(boxes, [[0, 1]], ("a", "b"))
    small = metrics.precision_of(truth_as_answer(scenes), scenes)
    assert (small.small, small.medium, small.large) == (pytest.approx(1), pytest.approx(1), None)
    larger = Scenes(**{**vars(scenes), "sizes_px": torch.tensor([[SIZE * 4, SIZE * 4]])})
    assert metrics.precision_of(truth_as_answer(larger), larger).large == pytest.approx(1)


def test_scenes_without_boxes_have_no_precision():
    scenes = scenes_of(np.zeros((2, 0, 4)), np.zeros((2, 0), int))
    found = [Boxes(np.array([[1.0, 1, 9, 9]]), np.array([0.9], np.float32), np.array([0]))] * 2
    assert metrics.precision_of(found, scenes).ap == 0
    assert average_precision.ap50(metrics.match(found, scenes, 0.2)) == 0


def test_the_lost_share_counts_boxes_met_before():
    _, scenes = random_case(2)
    clean = metrics.match(truth_as_answer(scenes), scenes, 0.25)
    faint = metrics.match(truth_as_answer(scenes, 0.1), scenes, 0.25)
    lost_share = average_precision.lost_share
    assert lost_share(clean, clean) == 0 and lost_share(clean, faint) == 1 and np.isnan(lost_share(faint, clean))


def test_engines_rank_answers_as_faint_as_the_trainer_does():
    assert metrics.MEASURED.score_threshold == average_precision.FAINTEST_SCORE
