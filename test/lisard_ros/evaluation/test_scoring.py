"""True boxes are found once each, by an answer of their class that overlaps them; the best answer chooses first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.bundle.manifest import TrueBox
from lisard_ros.evaluation.scoring import Score, found_boxes, score
from lisard_ros.frames import Classification, Detection, Detections, Frame, Hypothesis, Result
from lisard_ros.inference.pipeline import Failure

FRAME = Frame(np.zeros((4, 4, 3), np.uint8), "rgb", 0, "", "eye")
Corners = tuple[float, float, float, float]
SIGN: Corners = (10.0, 10.0, 30.0, 30.0)


def answer(box: Corners, label: int = 0, value: float = 0.9) -> Detection:
    return Detection(box, (Hypothesis(f"class {label}", label, value),))


def truth(box: Corners = SIGN, label: int = 0) -> TrueBox:
    return TrueBox(label=label, box_xyxy_px=box)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], Score((False,))),
        ([answer(SIGN)], Score((True,))),
        ([answer(SIGN, label=1)], Score((False,), 1)),
        ([answer((10, 10, 30, 20))], Score((True,))),  # an IoU of exactly 0.5
        ([answer((10, 10, 30, 19.9))], Score((False,), 1)),
        ([answer(SIGN), answer(SIGN, value=0.8)], Score((True,), 1)),  # a duplicate is false
        ([Detection(SIGN, ())], Score((False,))),  # nothing was said of it
    ],
)
def test_one_true_box(items: list[Detection], expected: Score) -> None:
    assert found_boxes(items, (truth(),)) == expected


def test_the_best_answer_chooses_first() -> None:
    """The weaker answer overlaps both boxes; it must not take the one that the better answer needs."""
    left, right = truth((0, 0, 20, 20)), truth((4, 0, 24, 20))
    both = [answer((2, 0, 22, 20), value=0.5), answer((0, 0, 20, 20), value=0.9)]
    assert found_boxes(both, (left, right)) == Score((True, True))


def test_images_without_boxes_and_without_an_answer() -> None:
    assert found_boxes([], ()) == Score(()) and found_boxes([answer(SIGN)], ()) == Score((), 1)
    failure = Failure(FRAME, ValueError())  # type: ignore[arg-type]
    assert score(failure, (truth(),)) == Score((False,)) and score(failure, 3) == Score((False,))
    assert score(Result(FRAME, None, Detections((answer(SIGN),))), (truth(),)) == Score((True,))
    sure = Result(FRAME, Classification((Hypothesis("b", 3, 0.9), Hypothesis("a", 0, 0.1))), None)
    assert score(sure, 3) == Score((True,)) and score(sure, 0) == Score((False,))


side = st.floats(1, 50)
boxes = st.tuples(st.floats(0, 50), st.floats(0, 50), side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
truths = st.lists(st.builds(truth, boxes, st.integers(0, 2)), max_size=6).map(tuple)
answers = st.lists(st.builds(answer, boxes, st.integers(0, 2), st.floats(0, 1)), max_size=6)


@given(truths, answers)
def test_no_box_counts_twice(known: tuple[TrueBox, ...], items: list[Detection]) -> None:
    found = found_boxes(items, known)
    assert found.n == len(known) and 0 <= found.hits <= min(len(known), len(items))
    assert found.hits + found.false_boxes == len(items)


@given(truths, st.randoms(use_true_random=False))
def test_a_perfect_answer_finds_all_in_any_order(known: tuple[TrueBox, ...], random: object) -> None:
    items = [answer(box.box_xyxy_px, box.label) for box in known]
    random.shuffle(items)  # type: ignore[attr-defined]
    assert found_boxes(items, known) == Score((True,) * len(known))
