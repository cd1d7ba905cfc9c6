"""AP50 and AP of a detector: which answers meet which true boxes, once per image, so that any resample costs little.

The rule is COCO's: by falling score, each answer takes the true box of its class that it overlaps most and that is
still free; answers in ignored regions count neither way. A test compares the result with pycocotools, whose points of
recall are rounded (RECALL_TOLERANCE).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lisard_ros.evaluation.scoring import MATCH_IOU, Named, named
from lisard_ros.evaluation.scoring import match as match_boxes
from lisard_ros.growing import extend
from lisard_ros.inference.postprocess import Boxes, iou_matrix

FAINTEST_SCORE = 0.01  # how faint an answer may be to be ranked: AP looks at all of them, not at those that are shown
AP_IOUS = tuple(MATCH_IOU + 0.05 * step for step in range(10))  # AP is the mean over these, AP50 that at the first
RECALLS = np.linspace(0, 1, 101)  # points of COCO's precision-recall curve
# Some points are rounded up: 7 found of 10 reach 0.7, which stands there as 0.7000000000000001. pycocotools compares
# exactly and leaves such a point out, so its AP50 can be lower by one point of one class.
RECALL_TOLERANCE = 1e-12


@dataclass(frozen=True, eq=False)
class TrueBoxes:
    """What one image shows: corners [M, 4] in its pixels and their classes [M]; ignored [K, 4]: regions that count
    neither way.
    """

    boxes_xyxy_px: NDArray[np.float64]
    classes: NDArray[np.int64]
    ignored_xyxy_px: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 4)))


@dataclass(frozen=True, eq=False)
class Matches:
    """All answers to N images, of all classes.

    scores, classes, images [D]; right: bool [D]; counted: bool [D], not in an ignored region. truths: int [N, C],
    true boxes of each image and class. met: per image, a bool for each of its boxes: whether an answer met it whose
    score is at least the bundle's threshold.
    """

    scores: NDArray[np.float64]
    classes: NDArray[np.int64]
    images: NDArray[np.int64]
    right: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    truths: NDArray[np.int64]
    met: tuple[NDArray[np.bool_], ...]


@dataclass(frozen=True, eq=False)
class _Image:
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]
    right: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    met: NDArray[np.bool_]


def match(found: Sequence[Boxes], truths: Sequence[TrueBoxes], classes: int, threshold: float = 0.0) -> Matches:
    """Match the answers to one image or more with the true boxes.

    Args:
        found: The boxes that a detector found in each image.
        truths: What each of these images shows.
        classes: How many classes there are.
        threshold: Score from which an answer counts towards `Matches.met`, 0 to 1.
    """
    rows = [_match_one(boxes, truth, threshold) for boxes, truth in zip(found, truths, strict=True)]
    images = np.repeat(np.arange(len(rows)), [len(row.scores) for row in rows])
    counts = np.stack([np.bincount(truth.classes, minlength=classes) for truth in truths])
    scores, kinds = (np.concatenate([getattr(row, name) for row in rows]) for name in ("scores", "classes"))
    right, counted = (np.concatenate([getattr(row, name) for row in rows]) for name in ("right", "counted"))
    return Matches(scores, kinds, images, right, counted, counts, tuple(row.met for row in rows))


def _match_one(found: Boxes, truth: TrueBoxes, threshold: float) -> _Image:
    corners = zip(truth.boxes_xyxy_px.tolist(), truth.classes.tolist(), strict=True)
    places = match_boxes(named(found), [Named(tuple(box), kind) for box, kind in corners])
    right = np.array([place is not None for place in places], bool)
    shown = [place for place, strong in zip(places, found.scores >= threshold, strict=True) if strong]
    met = np.array([number in shown for number in range(len(truth.classes))], bool)
    counted = right | ~_mostly_inside(np.asarray(found.boxes_xyxy_px, np.float64), truth.ignored_xyxy_px)
    return _Image(found.scores.astype(np.float64), found.classes.astype(np.int64), right, counted, met)


def _mostly_inside(boxes: NDArray[np.float64], regions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether at least half of each box [D, 4] lies in one of the regions [K, 4]."""
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    covered = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1e-9)
    return np.asarray((covered / areas[:, None] >= MATCH_IOU).any(axis=1))


def ap50(matches: Matches) -> float:
    """AP50 in [0, 1]: mean over the classes that occur; 0 where none does."""
    return float(ap50s(matches, np.ones((1, len(matches.truths))))[0])


def ap50s(matches: Matches, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return AP50 of each resample of the images.

    Args:
        matches: Of N images.
        weights: [K, N], how often each image counts in each of K bootstrap samples.

    Returns:
        AP50 in [0, 1], float64 [K].
    """
    return mean_over_classes(ap50s_of_classes(matches, weights))


def ap50s_of_classes(matches: Matches, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `ap50s` of each class, float64 [C, K]; NaN where a class does not occur."""
    return np.stack([_one_class(matches, number, weights) for number in range(matches.truths.shape[1])])


def mean_over_classes(each: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean [K] over the classes [C, K] that occur; 0 where none does."""
    known = np.isfinite(each)
    return np.asarray(np.where(known, each, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _one_class(matches: Matches, number: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """AP50 of one class [K]; NaN where it does not occur. Recall grows, and precision peaks, at right answers alone: so
    it is enough to know, of each image, how many answers and right answers come up to each right one.
    """
    total = weights @ matches.truths[:, number]
    rows = np.flatnonzero((matches.classes == number) & matches.counted)
    rows = rows[np.argsort(-matches.scores[rows], kind="stable")]
    right = np.flatnonzero(matches.right[rows])
    if not len(right):
        return np.where(total > 0, 0.0, np.nan)
    every = weights @ _up_to(right, matches.images[rows], np.arange(len(rows)), len(matches.truths))
    hits = weights @ _up_to(right, matches.images[rows[right]], right, len(matches.truths))
    precision = hits / np.maximum(every, 1e-12)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / np.maximum(total, 1e-12)[:, None]
    places = np.stack([np.searchsorted(row, RECALLS - RECALL_TOLERANCE) for row in recall])
    reached = np.take_along_axis(envelope, np.minimum(places, len(right) - 1), axis=1)
    return np.where(total > 0, np.where(places < len(right), reached, 0.0).mean(axis=1), np.nan)


def _up_to(
    marks: NDArray[np.intp], images: NDArray[np.int64], ranks: NDArray[np.intp], count: int
) -> NDArray[np.float64]:
    """For each of `count` images, how many of its `ranks` are at most each of the rising `marks` [count, M]."""
    before = np.zeros((count, len(marks) + 1))
    np.add.at(before, (images, np.searchsorted(marks, ranks)), 1)
    return before[:, :-1].cumsum(axis=1)


def lost_share(clean: Matches, attacked: Matches) -> float:
    """Share of the true boxes met in the clean images that are no longer met; NaN where none was met."""
    before, after = np.concatenate(clean.met), np.concatenate(attacked.met)
    return float((before & ~after).sum() / before.sum()) if before.any() else float("nan")


@dataclass(slots=True, eq=False)
class Ranked:
    """The boxes that a detector found in some frames, of whatever score, matched at each of AP_IOUS; it grows.

    frames: numbers of the frames that were ranked; counts: boxes in each. scores, classes: of each box, one frame
    after the other; hits: bit n is set where the box finds a true one at AP_IOUS[n].
    """

    frames: array[int] = field(default_factory=lambda: array("I"))
    counts: array[int] = field(default_factory=lambda: array("H"))
    scores: array[float] = field(default_factory=lambda: array("f"))
    classes: array[int] = field(default_factory=lambda: array("H"))
    hits: array[int] = field(default_factory=lambda: array("H"))

    def add(self, frame: int, scores: Sequence[float], classes: Sequence[int], hits: Sequence[int]) -> None:
        """Take the boxes of a frame."""
        self.frames.append(frame)
        self.counts.append(len(scores))
        self.scores.extend(scores)
        self.classes.extend(classes)
        self.hits.extend(hits)

    def append(self, later: Ranked, frames: int, classes: NDArray[np.int64]) -> None:
        """Take the next frames. frames: how many were before, ranked or not; classes: of each number its new one."""
        extend(self.frames, np.array(later.frames, np.int64) + frames)
        extend(self.classes, classes[np.array(later.classes, np.intp)])
        for name in ("counts", "scores", "hits"):
            getattr(self, name).extend(getattr(later, name))


def hits_by_iou(answers: Sequence[Named], truths: Sequence[Named]) -> list[int]:
    """Match answers to true boxes as `scoring.match` does, at each of AP_IOUS.

    Returns:
        For each answer a number whose bit n is set where it finds a true box at AP_IOUS[n].
    """
    hits = [0] * len(answers)
    if not answers or not truths:
        return hits
    found, wanted = (np.array([one.box_xyxy_px for one in boxes], np.float64) for boxes in (answers, truths))
    same = np.array([[answer.name == truth.name for truth in truths] for answer in answers], bool)
    overlaps = np.where(same, iou_matrix(found, wanted), 0.0)
    order = [n for n in sorted(range(len(answers)), key=lambda n: -answers[n].score) if overlaps[n].max() >= MATCH_IOU]
    for bit, least in enumerate(AP_IOUS):
        free = np.ones(len(truths), bool)
        for number in order:
            overlap = np.where(free, overlaps[number], 0.0)
            if overlap.max() >= least:
                free[overlap.argmax()] = False
                hits[number] |= 1 << bit
    return hits
