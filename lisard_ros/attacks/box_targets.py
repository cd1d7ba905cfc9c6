"""What a box criterion asks of each row of a detector's output: how well it answers for the true boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros.attacks.gradient_file import GradientKey
from lisard_ros.bundle.manifest import Activation
from lisard_ros.inference.postprocess import LARGEST_LOG_SIZE, grid_cells, scores_of

Floats = NDArray[np.floating]
FOUND_SCORE, FOUND_IOU = 0.25, 0.5  # a true box is found by an answer of its class with so much score and overlap


@dataclass(frozen=True, slots=True, eq=False)
class DecodedRows:
    """All rows of a detector's output for N images, before any is dropped.

    corners: float32 [N, P, 4] in input pixels. scores: of each class, objectness included, float32 [N, P, C].
    """

    corners: Floats
    scores: Floats


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
