"""AP50 without a trainer: what it rewards, what ignored regions do, and resamples of whole groups. (The trainer's tests
hold it against pycocotools.)"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.evaluation.average_precision import TrueBoxes, ap50, ap50s, match
from lisard_ros.evaluation.statistics import resamples
from lisard_ros.inference.postprocess import Boxes

Rows = list[tuple[float, float, float, float, int]]


def truth(rows: Rows, ignored: Rows | None = None) -> TrueBoxes:
    corners, regions = (np.array([row[:4] for row in own], float).reshape(-1, 4) for own in (rows, ignored or []))
    return TrueBoxes(corners, np.array([row[4] for row in rows], int), regions)


def answers(rows: Rows, scores: list[float]) -> Boxes:
    own = truth(rows)
    return Boxes(own.boxes_xyxy_px, np.array(scores, np.float32), own.classes.astype(np.intp))


ONE, TWO, FAR = (0, 0, 10, 10, 0), (20, 20, 40, 40, 1), (60, 60, 80, 80, 0)


def test_a_false_answer_costs_only_what_is_ranked_below_it() -> None:
    own = [truth([ONE, TWO])]
    assert ap50(match([answers([ONE, TWO, FAR], [0.9, 0.8, 0.1])], own, 2)) == 1
    assert ap50(match([answers([ONE, TWO, FAR], [0.5, 0.8, 0.9])], own, 2)) == pytest.approx(0.75)
    assert ap50(match([answers([ONE, ONE, TWO], [0.9, 0.8, 0.7])], own, 2)) == 1, "a second answer to one box is false"
    assert ap50(match([answers([(*ONE[:4], 1)], [0.9])], own, 2)) == 0, "another class"
    assert ap50(match([answers([], [])], own, 2)) == 0


def test_an_ignored_region_counts_neither_way() -> None:
    false_first = answers([FAR, ONE], [0.9, 0.5])
    assert ap50(match([false_first], [truth([ONE])], 1)) == pytest.approx(0.5)
    assert ap50(match([false_first], [truth([ONE], [(55, 55, 75, 90, 0)])], 1)) == 1
    assert ap50(match([false_first], [truth([ONE], [(75, 75, 90, 90, 0)])], 1)) == pytest.approx(0.5), "hardly inside"


def test_what_is_met_depends_on_the_score() -> None:
    found = match([answers([ONE, TWO], [0.9, 0.2])], [truth([ONE, TWO])], 2, threshold=0.3)
    assert found.right.all() and [list(met) for met in found.met] == [[True, False]]


box = st.tuples(*[st.floats(0, 60)] * 2, *[st.floats(2, 30)] * 2, st.integers(0, 2))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.lists(box, max_size=5)] * 2), min_size=1, max_size=4), st.integers(0, 99))
def test_it_is_a_share_and_repetition_changes_nothing(images: list[tuple[Rows, Rows]], seed: int) -> None:
    random = np.random.default_rng(seed)
    corners = [[[(x, y, x + w, y + h, c) for x, y, w, h, c in rows] for rows in pair] for pair in images]
    truths = [truth(shown) for _, shown in corners]
    found = match([answers(said, random.random(len(said)).tolist()) for said, _ in corners], truths, 3)
    once, twice = ap50s(found, np.stack([np.ones(len(corners)), np.full(len(corners), 2.0)]))
    assert 0 <= once <= 1 and once == pytest.approx(twice)
    perfect = match([answers(shown, random.random(len(shown)).tolist()) for _, shown in corners], truths, 3)
    assert ap50(perfect) == pytest.approx(1.0 if any(shown for _, shown in corners) else 0.0)


def test_resamples_take_whole_groups() -> None:
    weights = resamples(["a", "b", "a", "c"], 50, 0)
    assert weights.shape == (50, 4) and (weights[:, 0] == weights[:, 2]).all() and (weights >= 0).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all(), "as many groups as there are"
    assert (resamples(np.arange(7), 20, 0).sum(axis=1) == 7).all()
