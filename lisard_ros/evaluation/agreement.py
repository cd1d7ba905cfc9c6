"""How alike two models answer the same images: the same class, or the same boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle import Bundle
from lisard_ros.evaluation.scoring import match, named
from lisard_ros.inference import postprocess
from lisard_ros.inference.postprocess import Boxes

SHOWN_SCORE = 0.3  # fainter boxes are seldom used, and there are many of them


def agreement(bundle: Bundle, reference: NDArray[np.float32], judged: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compare the outputs of two models of one bundle.

    Args:
        bundle: Says what the outputs mean.
        reference: Outputs of the one, float32 [N, ...].
        judged: Outputs of the other for the same images, float32 [N, ...].

    Returns:
        For each image, in [0, 1]: 1 for the same class, else 0; or the F1 of the boxes of at least SHOWN_SCORE.

    Raises:
        OutputError: Outputs are not finite, or cannot be decoded.
    """
    if not bundle.manifest.runtime_task.finds_boxes:
        return np.asarray(reference.argmax(axis=1) == judged.argmax(axis=1), np.float64)
    pairs = zip(shown_boxes(bundle, judged), shown_boxes(bundle, reference), strict=True)
    return np.array([f1(ours, theirs) for ours, theirs in pairs])


def shown_boxes(bundle: Bundle, outputs: NDArray[np.float32]) -> list[Boxes]:
    """Return the boxes of each image of at least SHOWN_SCORE, and of the bundle's own threshold."""
    manifest = bundle.manifest
    assert manifest.decode is not None  # a detection bundle without it is refused when it is read
    size_px = (manifest.input.width, manifest.input.height)
    activation, classes = manifest.output.activation, len(manifest.labels)
    return [
        postprocess.detect(output, manifest.decode, activation, SHOWN_SCORE, size_px=size_px, classes=classes)
        for output in outputs
    ]


def f1(answered: Boxes, truth: Boxes) -> float:
    """Return the harmonic mean of precision and recall; 1 when both are empty. Boxes are matched as in `scoring`."""
    if not len(answered.scores) and not len(truth.scores):
        return 1.0
    matched = sum(place is not None for place in match(named(answered), named(truth)))
    return 2 * matched / (len(answered.scores) + len(truth.scores))
