"""What a box criterion asks of each row of a detector's output: which rows answer for which true box.

The assignment is the trainer's (SimOTA, Ge et al. 2021, arXiv 2107.08430 section 2.3), in NumPy and for every layout: a
test compares the two. Rows that are not cells of the grids of strides 8, 16 and 32 stand where their box stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros.attacks.gradient_file import GradientKey
from lisard_ros.bundle.manifest import Activation
from lisard_ros.inference.postprocess import LARGEST_LOG_SIZE, grid_cells, grid_rows, scores_of

Floats = NDArray[np.floating]
RADIUS = 2.5  # a cell may answer for a box whose centre lies within so many strides of its own, per axis
MOST_ROWS = 10  # per box
OVERLAP_WEIGHT = 3.0
FAR = 1e5  # cost of a row that may not answer
SMALLEST_SCORE, SMALLEST_OVERLAP = 1e-6, 1e-8
FOUND_SCORE, FOUND_IOU = 0.25, 0.5  # a true box is found by an answer of its class with so much score and overlap
NOBODY = -1


@dataclass(frozen=True, slots=True, eq=False)
class DecodedRows:
    """All rows of a detector's output for N images, before any is dropped.

    corners: float32 [N, P, 4] in input pixels. scores: of each class, objectness included, float32 [N, P, C].
    """

    corners: Floats
    scores: Floats


@dataclass(frozen=True, slots=True, eq=False)
class AssignedRows:
    """Which rows answer for a true box. classes: int64 [N, P], -1 where none. boxes: its corners, float32 [N, P, 4]."""

    classes: NDArray[np.int64]
    boxes: Floats


def nobody(images: int, rows: int) -> AssignedRows:
    """Return the assignment in which no row answers for a box."""
    return AssignedRows(np.full((images, rows), NOBODY, np.int64), np.zeros((images, rows, 4), np.float32))


def decode_rows(output: Floats, key: GradientKey) -> DecodedRows:
    """Read every row of a detector's output [N, ...]; OutputError when numbers are not finite."""
    rows = output.transpose(0, 2, 1) if key.layout == "cxcywh_classes_first" else output
    if key.layout == "xyxy_score_class":
        kind: Activation = "none" if key.activation == "none" else "sigmoid"
        named = np.rint(rows[..., 5:6]) == np.arange(key.classes)
        return DecodedRows(rows[..., :4], scores_of(rows[..., 4:5], kind) * named)
    first = 4 if key.layout == "cxcywh_classes_first" else 5
    scores = scores_of(rows[..., first:], key.activation)
    if first == 5:
        scores = scores * scores_of(rows[..., 4:5], "none" if key.activation == "none" else "sigmoid")
    if str(key.layout).startswith("xyxy"):
        return DecodedRows(rows[..., :4], scores)
    centre, size = rows[..., :2], rows[..., 2:4]
    if key.layout == "yolox_grid":
        cells, strides = grid_cells(key.size_px)
        centre, size = (centre + cells) * strides, np.exp(np.minimum(size, LARGEST_LOG_SIZE)) * strides
    return DecodedRows(np.concatenate([centre - size / 2, centre + size / 2], axis=2).astype(np.float32), scores)


def assign(decoded: DecodedRows, boxes: Floats, labels: NDArray[np.int64], size_px: tuple[int, int]) -> AssignedRows:
    """Decide which rows answer for which box.

    Args:
        decoded: Rows of N images.
        boxes: True boxes [N, M, 4] in input pixels.
        labels: Their classes [N, M]; negative where there is no box.
        size_px: Width and height of the input.
    """
    assigned = nobody(*decoded.corners.shape[:2])
    for image in range(len(labels)):
        real = np.flatnonzero(labels[image] >= 0)
        if len(real):
            true, classes = boxes[image, real].astype(np.float32), labels[image, real]
            taken, owner = _of_image(decoded.corners[image], decoded.scores[image], true, classes, size_px)
            assigned.classes[image, taken] = classes[owner]
            assigned.boxes[image, taken] = true[owner]
    return assigned


def found_share(decoded: DecodedRows, boxes: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return the share of each image's true boxes that some row finds, [N]; 1 where there are none."""
    shares = np.ones(len(labels), np.float32)
    for image, classes in enumerate(labels):
        real = np.flatnonzero(classes >= 0)
        if len(real):
            best, guess = decoded.scores[image].max(axis=1), decoded.scores[image].argmax(axis=1)
            fits = (guess[None] == classes[real, None]) & (best[None] >= FOUND_SCORE)
            overlap = overlaps(boxes[image, real].astype(np.float32), decoded.corners[image])
            shares[image] = (fits & (overlap >= FOUND_IOU)).any(axis=1).mean()
    return shares


def best_answers(decoded: DecodedRows, boxes: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return the best score times overlap that a row has for the class of each true box, [N, M]; 0 where none is."""
    best = np.zeros(labels.shape, np.float64)
    for image, classes in enumerate(labels):
        real = np.flatnonzero(classes >= 0)
        if len(real):
            overlap = overlaps(boxes[image, real].astype(np.float32), decoded.corners[image])
            best[image, real] = (decoded.scores[image][:, classes[real]].T * overlap).max(axis=1)
    return best


def overlaps(boxes: Floats, corners: Floats) -> Floats:
    """Return the IoU [M, P] of M boxes with P; a box without area overlaps nothing."""
    low = np.maximum(boxes[:, None, :2], corners[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], corners[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    areas = [np.maximum(each[:, 2:] - each[:, :2], 0).prod(axis=1) for each in (boxes, corners)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(shared / np.maximum(union, 1e-7))


def _of_image(
    corners: Floats, scores: Floats, boxes: Floats, labels: NDArray[np.int64], size_px: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows that answer for a box, and for which of the M boxes each does."""
    candidate = _near(corners, boxes, size_px)
    overlap = overlaps(boxes, corners) * candidate
    score = np.clip(np.sqrt(scores), SMALLEST_SCORE, 1 - SMALLEST_SCORE)
    against = -np.log(1 - score)
    own = (-np.log(score) - against)[:, labels].T
    cost = against.sum(axis=1)[None] + own - OVERLAP_WEIGHT * np.log(np.maximum(overlap, SMALLEST_OVERLAP))
    cost = cost + FAR * ~candidate
    most = min(MOST_ROWS, cost.shape[1])
    wanted = np.maximum(1, np.sort(overlap, axis=1)[:, -most:].sum(axis=1).astype(np.int64))
    cheapest = np.argsort(cost, axis=1, kind="stable")[:, :most]
    taken = np.zeros_like(candidate)
    np.put_along_axis(taken, cheapest, np.arange(most)[None] < wanted[:, None], axis=1)
    taken &= candidate
    # A row that several boxes want goes to the one that it costs least.
    owner = np.where(taken, cost, np.inf).argmin(axis=0)
    rows = np.flatnonzero(taken.any(axis=0))
    return rows, owner[rows]


def _near(corners: Floats, boxes: Floats, size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether a row may answer for a box, [M, P]."""
    if len(corners) == grid_rows(size_px):
        cells, strides = grid_cells(size_px)
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        away = np.abs((cells + 0.5) * strides - middles[:, None]).max(axis=2)
        return np.asarray(away < RADIUS * strides[:, 0])
    centres = ((corners[:, :2] + corners[:, 2:]) / 2)[None]
    return np.asarray(((centres >= boxes[:, None, :2]) & (centres < boxes[:, None, 2:])).all(axis=2))
