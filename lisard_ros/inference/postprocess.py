"""From a model's raw output to hypotheses and boxes: activation, top-k, decoding and class-aware NMS, in NumPy.

Nothing here trusts the model: NaN and infinity raise OutputError instead of becoming an answer.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle.manifest import Activation, Decode
from lisard_ros.errors import OutputError
from lisard_ros.frames import Hypothesis

Scores = NDArray[np.float32]
MAX_NMS_CANDIDATES = 2000
CLASS_SLACK = 1e-3  # how far a class index may be from a whole number
SCORE_SLACK = 1e-3  # what rounding (half precision, int8) may add to a score
# Up to here plain Python is faster for one image: each NumPy routine costs some 20 us after a network has filled the
# caches, measured with the 43 classes of models/traffic_signs.
FEW_CLASSES = 256
GRID_STRIDES_PX = (8, 16, 32)  # of `yolox_grid`
LARGEST_LOG_SIZE = 20.0  # e^20 strides are wider than any image; keeps the size of an absurd box finite
# Of the quick look at logits: far more than rounding to float32 can add to a score between these two.
LOGIT_SLACK, LOWEST_QUICK, HIGHEST_QUICK = 0.01, 1e-30, 0.999


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Detections of one image in input pixels: boxes_xyxy_px float [M, 4], scores [M], classes int [M]."""

    boxes_xyxy_px: NDArray[np.float64]
    scores: Scores
    classes: NDArray[np.intp]


def scores_of(output: NDArray[np.floating], activation: Activation) -> Scores:
    """Turn class outputs [..., C] into scores in [0, 1].

    OutputError when any output is NaN or infinite, or is no score although `activation` is `none`.
    """
    require_finite(output)
    logits = np.asarray(output, np.float32)
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -80, 80))), np.float32)
    if activation == "softmax":
        wide = logits.astype(np.float64)  # so that the difference of two huge logits does not overflow
        powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)
    if logits.size and (logits.min() < -SCORE_SLACK or logits.max() > 1 + SCORE_SLACK):
        raise OutputError(
            "the model's outputs are no scores",
            found=f"{logits.min():.3g} to {logits.max():.3g}",
            expected="0..1 with activation `none`",
            cure="make the bundle with --activation softmax or sigmoid",
        )
    return np.clip(logits, 0, 1)


def row_scores(output: NDArray[np.float32], activation: Activation) -> list[float]:
    """Return what `scores_of` gives for the classes [C] of one image, as plain numbers."""
    values = output.tolist()
    if activation != "softmax" or len(values) > FEW_CLASSES or not math.isfinite(sum(values)):
        numbers: list[float] = scores_of(output, activation).tolist()
        return numbers
    highest = max(values)
    powers = [math.exp(value - highest) for value in values]
    total = sum(powers)
    return array("f", [power / total for power in powers]).tolist()  # "f": rounded to float32


def row_shape(classes: int, decode: Decode | None) -> tuple[int | str, ...]:
    """Return what a model of so many classes gives for one image; "boxes" stands for any number."""
    if decode is None:
        return (classes,)
    if decode.layout == "xyxy_score_class":
        return ("boxes", 6)
    return (4 + classes, "boxes") if decode.layout == "cxcywh_classes_first" else ("boxes", 5 + classes)


def require_shape(shape: Sequence[int], classes: int, decode: Decode | None) -> None:
    """Raise OutputError when one image's output cannot be what task and labels promise."""
    expected = row_shape(classes, decode)
    fits = len(shape) == len(expected) and all(b in (a, "boxes") for a, b in zip(shape, expected, strict=True))
    if not fits:
        raise OutputError(
            "the model's output does not fit task and labels",
            found=list(shape),
            expected=list(expected),
            cure="check the bundle's labels, task, output and layout",
        )


def require_finite(output: NDArray[np.floating]) -> None:
    """Raise OutputError when any number is NaN or infinite."""
    bad = int(np.size(output) - np.count_nonzero(np.isfinite(output)))
    if bad:
        raise OutputError(
            "the model answered with numbers that are not finite",
            found=f"{bad} of {np.size(output)} NaN or infinite",
            expected="finite numbers",
            cure="verify the bundle (lisard doctor BUNDLE) or go back to its fp32 model",
        )


def hypotheses(scores: Sequence[float], labels: Sequence[str], top_k: int, min_score: float) -> tuple[Hypothesis, ...]:
    """Return up to `top_k` classes with a score of at least `min_score`, best first. scores: [C] in [0, 1]."""
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[:top_k]
    return tuple(Hypothesis(labels[i], i, scores[i]) for i in order if scores[i] >= min_score)


def detect(
    output: NDArray[np.floating],
    decode: Decode,
    activation: Activation,
    min_score: float,
    *,
    size_px: tuple[int, int] | None = None,
    classes: int | None = None,
) -> Boxes:
    """Decode one image's output and suppress duplicates.

    output: one image of the layout that `decode` names. min_score raises the bundle's own threshold, never lowers it.
    Objectness multiplies the class score. Boxes of no area are dropped.

    Args:
        size_px: width and height of the model's input, which the layout `yolox_grid` needs.
        classes: how many labels there are; the layout `xyxy_score_class` may name a class beyond them.

    Raises:
        OutputError: numbers that are not finite or no scores, a grid of another size, a class without a label.
    """
    require_finite(output)
    threshold = max(decode.score_threshold, min_score)
    if decode.layout == "xyxy_score_class":
        corners, scores, kinds = _listed(np.asarray(output), activation, threshold, classes)
    else:
        corners, scores, kinds = _candidates(np.asarray(output), decode, activation, threshold, size_px)
    keep = scores >= threshold
    keep &= (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    corners, scores, kinds = corners[keep], scores[keep], kinds[keep]
    best = np.argsort(-scores, kind="stable")[:MAX_NMS_CANDIDATES]
    corners, scores, kinds = corners[best], scores[best], kinds[best]
    kept = nms(corners, scores, kinds, decode.nms_iou, decode.max_detections)
    return Boxes(corners[kept], scores[kept].astype(np.float32), kinds[kept])


def grid_rows(size_px: tuple[int, int]) -> int:
    """Return how many rows the layout `yolox_grid` has for an input of this width and height."""
    width, height = size_px
    return sum((width // stride) * (height // stride) for stride in GRID_STRIDES_PX)


@lru_cache(maxsize=8)
def grid_cells(size_px: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return column and row of each cell of `yolox_grid` [cells, 2] and its stride in pixels [cells, 1], read-only."""
    width, height = size_px
    places, strides = [], []
    for stride in GRID_STRIDES_PX:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        places.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((rows.size, 1), stride))
    cells, sides = np.concatenate(places).astype(np.float64), np.concatenate(strides).astype(np.float64)
    cells.flags.writeable = sides.flags.writeable = False
    return cells, sides


def nms(
    boxes_xyxy: NDArray[np.floating],
    scores: NDArray[np.floating],
    classes: NDArray[np.integer],
    iou: float,
    most: int | None = None,
) -> NDArray[np.intp]:
    """Greedy non-maximum suppression within each class; returns the kept rows, best score first, `most` at most.

    A box is dropped when its IoU with a better kept box of its class is above `iou`. boxes_xyxy: [M, 4].
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    boxes, kinds = np.asarray(boxes_xyxy)[order], np.asarray(classes)[order]
    alive = np.ones(len(order), bool)
    kept: list[int] = []
    for row, box in enumerate(boxes):
        if most is not None and len(kept) >= most:
            break
        if alive[row]:
            kept.append(row)
            rest = slice(row + 1, None)
            alive[rest] &= (kinds[rest] != kinds[row]) | (iou_with(box, boxes[rest]) <= iou)
    return np.asarray(order[kept], np.intp)


def iou_with(box_xyxy: NDArray[np.floating], boxes_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of one box with each of [M, 4]; 0 where both are empty."""
    (left, top, right, bottom), (lefts, tops, rights, bottoms) = box_xyxy, boxes_xyxy.T
    wide = np.minimum(right, rights) - np.maximum(left, lefts)
    high = np.minimum(bottom, bottoms) - np.maximum(top, tops)
    overlap = np.maximum(wide, 0) * np.maximum(high, 0)
    union = (right - left) * (bottom - top) + (rights - lefts) * (bottoms - tops) - overlap
    return np.asarray(np.divide(overlap, union, out=np.zeros_like(overlap, dtype=np.float64), where=union > 0))


def iou_matrix(boxes_xyxy: NDArray[np.floating], others_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union [N, M] of each of [N, 4] with each of [M, 4]."""
    return iou_with(boxes_xyxy.T[:, :, None], others_xyxy)


def _listed(
    rows: NDArray[np.floating], activation: Activation, threshold: float, classes: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Read rows [M, 6] of `xyxy_score_class`; rows below the threshold fill the list up and may hold any class."""
    kind: Activation = "none" if activation == "none" else "sigmoid"
    scores = scores_of(rows[:, 4].astype(np.float32), kind).astype(np.float64)
    chosen = np.asarray(rows[scores >= threshold], np.float64)
    kinds = np.rint(chosen[:, 5])
    odd = (np.abs(chosen[:, 5] - kinds) > CLASS_SLACK) | (kinds < 0) | (kinds >= (classes or np.inf))
    if odd.any():
        raise OutputError(
            "the model names a class that has no label",
            found=f"{chosen[odd, 5][0]:g} in the last column",
            expected="whole numbers from 0" + (f" to {classes - 1}" if classes else ""),
            cure="give every class a label, in the order of the model, and check the layout",
        )
    return chosen[:, :4], scores[scores >= threshold], kinds.astype(np.intp)


def _candidates(
    output: NDArray[np.floating],
    decode: Decode,
    activation: Activation,
    threshold: float,
    size_px: tuple[int, int] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    every = output.T if decode.layout == "cxcywh_classes_first" else output
    first_class = 4 if decode.layout == "cxcywh_classes_first" else 5
    chosen = _promising(every, first_class, activation, threshold)
    rows = np.asarray(every[chosen], np.float64)
    per_class = scores_of(rows[:, first_class:].astype(np.float32), activation).astype(np.float64)
    if first_class == 5:
        kind: Activation = "none" if activation == "none" else "sigmoid"
        per_class = per_class * scores_of(rows[:, 4:5].astype(np.float32), kind)
    classes = per_class.argmax(axis=1)
    scores = per_class[np.arange(len(rows)), classes]
    if decode.layout == "yolox_grid":
        rows = _decoded_grid(rows, len(every), chosen, size_px)
    corners = rows[:, :4] if decode.layout.startswith("xyxy") else _corners(rows[:, :4])
    return corners, scores, classes


def _decoded_grid(
    rows: NDArray[np.float64], found: int, chosen: NDArray[np.bool_] | slice, size_px: tuple[int, int] | None
) -> NDArray[np.float64]:
    """Centre and size in input pixels of the chosen ones of `found` raw rows."""
    expected = grid_rows(size_px) if size_px else 0
    if found != expected:
        raise OutputError(
            "the model's output is not the grid of strides 8, 16 and 32",
            found=f"{found} rows",
            expected=f"{expected} for an input of {size_px}",
            cure="check the bundle's input size and layout",
        )
    assert size_px is not None
    cells, strides = (part[chosen] for part in grid_cells(size_px))
    centres = (rows[:, :2] + cells) * strides
    sizes = np.exp(np.minimum(rows[:, 2:4], LARGEST_LOG_SIZE)) * strides
    return np.concatenate([centres, sizes], axis=1)


def _promising(
    rows: NDArray[np.floating], first_class: int, activation: Activation, threshold: float
) -> NDArray[np.bool_] | slice:
    """Which rows can reach the threshold at all, judged by one logit: no score is above its objectness.

    Of thousands of rows a few remain, so that exponentials and copies are made of those alone. All of them where the
    outputs are no logits, because each must then be looked at.
    """
    if activation == "none" or (first_class == 4 and activation == "softmax") or threshold < LOWEST_QUICK:
        return slice(None)
    highest = rows[:, 4] if first_class == 5 else rows[:, 4:].max(axis=1)
    share = min(threshold, HIGHEST_QUICK)
    return np.asarray(highest >= math.log(share / (1 - share)) - LOGIT_SLACK)


def _corners(cxcywh: NDArray[np.float64]) -> NDArray[np.float64]:
    half = cxcywh[:, 2:] / 2
    return np.concatenate([cxcywh[:, :2] - half, cxcywh[:, :2] + half], axis=1)
