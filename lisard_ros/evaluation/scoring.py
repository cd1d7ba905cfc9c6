"""How right an answer is: the class of an image, or the share of its true boxes that are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lisard_ros.bundle.manifest import TrueBox
from lisard_ros.evaluation.references import Truth
from lisard_ros.frames import BoxXyxyPx, Detection, Result
from lisard_ros.inference.postprocess import Boxes, iou_with

MATCH_IOU = 0.5  # the usual threshold of PASCAL VOC (Everingham et al. 2010, section 4.2)


@dataclass(frozen=True, slots=True)
class Score:
    """found: whether the answer has right each thing that the image shows; false_boxes: boxes that meet no true one."""

    found: tuple[bool, ...]
    false_boxes: int = 0

    @property
    def hits(self) -> int:
        """How many are right."""
        return sum(self.found)

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.found)


@dataclass(frozen=True, slots=True)
class Named:
    """A box with what it is: a class by index or by name."""

    box_xyxy_px: BoxXyxyPx
    name: int | str
    score: float = 1.0


def score(outcome: object, truth: Truth) -> Score:
    """Compare an answer with the truth.

    Args:
        outcome: A Result; anything else (an error) counts as an answer without classes and boxes.
        truth: Index of the true class, a coarse class, or the true boxes.
    """
    result = outcome if isinstance(outcome, Result) else None
    if not isinstance(truth, tuple):
        right = frozenset({truth}) if isinstance(truth, int) else truth.classes
        classification = None if result is None else result.classification
        hypotheses = () if classification is None else classification.hypotheses
        return Score((bool(hypotheses) and hypotheses[0].index in right,))
    items = result.detections.items if result is not None and result.detections is not None else ()
    return found_boxes(items, truth)


def found_boxes(items: Sequence[Detection], truth: Sequence[TrueBox]) -> Score:
    """Match answers to true boxes of their class with an IoU of at least 0.5, each true box once.

    The best answer chooses first, the true box that it overlaps most (COCO's rule, without its ignored regions).
    """
    answers = [
        Named(item.box_xyxy_px, item.hypotheses[0].index, item.hypotheses[0].score) for item in items if item.hypotheses
    ]
    places = match(answers, [Named(box.box_xyxy_px, box.label) for box in truth])
    found = tuple(number in places for number in range(len(truth)))
    return Score(found, len(answers) - sum(found))


def match(answers: Sequence[Named], truths: Sequence[Named]) -> list[int | None]:
    """Match answers to true boxes; the rules are those of `found_boxes`.

    Returns:
        For each answer the number of the true box that it finds, None for a false one.
    """
    free = np.ones(len(truths), bool)
    corners = np.array([box.box_xyxy_px for box in truths], np.float64).reshape(-1, 4)
    places: list[int | None] = [None] * len(answers)
    for number in sorted(range(len(answers)), key=lambda n: -answers[n].score):
        box, name = np.array(answers[number].box_xyxy_px, np.float64), answers[number].name
        fits = free & np.array([truth.name == name for truth in truths], bool)
        overlap = np.where(fits, iou_with(box, corners), 0.0)
        if overlap.size and overlap.max() >= MATCH_IOU:
            places[number] = int(overlap.argmax())
            free[places[number]] = False
    return places


def named(boxes: Boxes) -> list[Named]:
    """What `match` compares, from an image's boxes."""
    rows = zip(boxes.boxes_xyxy_px.tolist(), boxes.classes.tolist(), boxes.scores.tolist(), strict=True)
    return [Named(tuple(box), name, score) for box, name, score in rows]
