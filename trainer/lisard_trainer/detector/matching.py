"""Which answers meet which true boxes, once per picture, so that AP50 of any resample of the pictures costs little.

The rule is COCO's: by falling score, each answer takes the true box of its class that it overlaps most and that is
still free; answers in ignored regions count neither way. A test compares the result with pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros.postprocess import Boxes, iou_with

from ..data.detection import IGNORED, Scenes

IOU = 0.5
RECALLS = np.linspace(0, 1, 101)  # points of COCO's precision-recall curve


@dataclass(frozen=True, eq=False)
class Matches:
    """All answers to N pictures, of all classes.

    scores, classes, pictures [D]; right: bool [D]; counted: bool [D], not in an ignored region. truths: int [N, C],
    true boxes of each picture and class. met: per picture, a bool for each of its boxes: whether an answer met it whose
    score is at least the bundle's threshold.
    """

    scores: NDArray[np.float64]
    classes: NDArray[np.int64]
    pictures: NDArray[np.int64]
    right: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    truths: NDArray[np.int64]
    met: tuple[NDArray[np.bool_], ...]


def match(found: Sequence[Boxes], scenes: Scenes, threshold: float) -> Matches:
    """Matches what was found in the scenes; threshold: score from which a box counts as met."""
    rows = [_match_one(one, scenes, row, threshold) for row, one in enumerate(found)]
    scores, classes, right, counted = (np.concatenate([row[n] for row in rows]) for n in range(4))
    pictures = np.repeat(np.arange(len(rows)), [len(row[0]) for row in rows])
    truths = np.stack([np.bincount(_own(scenes, n), minlength=len(scenes.classes)) for n in range(len(rows))])
    return Matches(scores, classes, pictures, right, counted, truths, tuple(row[4] for row in rows))


def _own(scenes: Scenes, row: int) -> NDArray[np.int64]:
    labels = scenes.labels[row].cpu().numpy()
    return np.asarray(labels[labels >= 0], np.int64)


def _match_one(
    found: Boxes, scenes: Scenes, row: int, threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    labels = scenes.labels[row].cpu().numpy()
    boxes = scenes.boxes[row].cpu().numpy().astype(np.float64)
    truth, names = boxes[labels >= 0], labels[labels >= 0]
    regions = boxes[labels == IGNORED]
    free, met = np.ones(len(truth), bool), np.zeros(len(truth), bool)
    right, counted = np.zeros(len(found.scores), bool), np.ones(len(found.scores), bool)
    for place in np.argsort(-found.scores, kind="stable"):
        box = np.asarray(found.boxes_xyxy_px[place], np.float64)
        overlap = np.where(free & (names == found.classes[place]), iou_with(box, truth), 0.0)
        if len(overlap) and overlap.max() >= IOU:
            best = int(overlap.argmax())
            free[best], right[place] = False, True
            met[best] = found.scores[place] >= threshold
        elif len(regions):
            counted[place] = _inside(box, regions).max() < IOU
    return found.scores.astype(np.float64), found.classes.astype(np.int64), right, counted, met


def _inside(box: NDArray[np.float64], regions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a box that lies in each region."""
    low, high = np.maximum(box[:2], regions[:, :2]), np.minimum(box[2:], regions[:, 2:])
    return np.asarray(np.prod(np.clip(high - low, 0, None), axis=1) / max(float(np.prod(box[2:] - box[:2])), 1e-9))


def ap50(matches: Matches) -> float:
    """AP50 in [0,1]: mean over the classes that occur; 0 where none does."""
    return float(ap50s(matches, np.ones((1, len(matches.truths))))[0])


def ap50s(matches: Matches, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """AP50 of each resample, float64 [K]; weights [K, N]: how often each picture counts in it (bootstrap)."""
    each = np.stack([_one_class(matches, number, weights) for number in range(matches.truths.shape[1])])
    known = np.isfinite(each)
    return np.asarray(np.where(known, each, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _one_class(matches: Matches, number: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """AP50 of one class [K]; NaN where it does not occur. Recall grows, and precision peaks, at right answers alone: so
    it is enough to know, of each picture, how many answers and right answers come up to each right one."""
    total = weights @ matches.truths[:, number]
    rows = np.flatnonzero((matches.classes == number) & matches.counted)
    rows = rows[np.argsort(-matches.scores[rows], kind="stable")]
    right = np.flatnonzero(matches.right[rows])
    if not len(right):
        return np.where(total > 0, 0.0, np.nan)
    every = weights @ _up_to(right, matches.pictures[rows], np.arange(len(rows)), len(matches.truths))
    hits = weights @ _up_to(right, matches.pictures[rows[right]], right, len(matches.truths))
    precision = hits / np.maximum(every, 1e-12)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / np.maximum(total, 1e-12)[:, None]
    places = np.stack([np.searchsorted(row, RECALLS - 1e-12) for row in recall])
    reached = np.take_along_axis(envelope, np.minimum(places, len(right) - 1), axis=1)
    return np.where(total > 0, np.where(places < len(right), reached, 0.0).mean(axis=1), np.nan)


def _up_to(
    marks: NDArray[np.intp], pictures: NDArray[np.int64], ranks: NDArray[np.intp], count: int
) -> NDArray[np.float64]:
    """For each of `count` pictures, how many of its `ranks` are at most each of the rising `marks` [count, M]."""
    before = np.zeros((count, len(marks) + 1))
    np.add.at(before, (pictures, np.searchsorted(marks, ranks)), 1)
    return before[:, :-1].cumsum(axis=1)


def lost_share(clean: Matches, attacked: Matches) -> float:
    """Share of the true boxes met in the clean pictures that are no longer met; NaN where none was met."""
    before, after = np.concatenate(clean.met), np.concatenate(attacked.met)
    return float((before & ~after).sum() / before.sum()) if before.any() else float("nan")


def resamples(count: int, draws: int, seed: int) -> NDArray[np.float64]:
    """Weights [draws, count] of bootstrap samples of pictures."""
    random = np.random.default_rng(seed)
    return random.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
