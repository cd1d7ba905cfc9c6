"""Black box to a bundle: an attack model that knows the answers of the running engine and nothing else.

A classifier's loss is of its scores' logarithms, which differ from its logits by a number that no loss sees. A
detector's is minus the sum over the true boxes of the best score times overlap that an answer of its class has.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lisard_ros.attacks import box_targets, gradient_file
from lisard_ros.attacks.model import Array, BoxCriterion, Criterion, ModelAnswer, Transform, like, numbers
from lisard_ros.attacks.objective import objective, of_classes
from lisard_ros.bundle import Bundle
from lisard_ros.errors import AttackError
from lisard_ros.inference.postprocess import scores_of
from lisard_ros.inference.preprocess import normalise

SMALLEST_SCORE = 1e-12


class Engine(Protocol):
    """What answers: a backend, whatever its precision."""

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on normalised images [N, 3, H, W]."""


class QueryModel:
    """A bundle's running engine under attack."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        """engine: of that bundle."""
        self.bundle, self._engine, self._key = bundle, engine, gradient_file.key_of(bundle)

    def output(self, x: Array) -> NDArray[np.float32]:
        """Return what the engine gives for images [N, 3, H, W] in [0, 1]."""
        return self._engine.infer(normalise(np.ascontiguousarray(numbers(x), np.float32), self.bundle.manifest.input))

    def evaluate(
        self, x: Array, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Answer an attack: loss [N] and scores [N, K] (for boxes the share found, [N, 1]), never a gradient."""
        del gradient
        output = self.output(transform(x) if transform else x)
        if self._key.layout is None:
            scores = scores_of(output, self._key.activation)
            logits = np.log(np.maximum(scores.astype(np.float64), SMALLEST_SCORE))
            loss = objective(logits, of_classes(criterion))
        else:
            loss, scores = self._of_boxes(output, criterion)
        return ModelAnswer(like(np.asarray(loss), x), like(np.asarray(scores), x), None)

    def _of_boxes(
        self, output: NDArray[np.float32], criterion: Criterion
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        if not isinstance(criterion, BoxCriterion) or criterion.loss != "class":
            raise AttackError(
                "a query attack on a detector hides its true boxes",
                found=getattr(criterion, "loss", type(criterion).__name__),
                expected="a BoxCriterion of loss class",
            )
        decoded = box_targets.decode_rows(output, self._key)
        labels, boxes = criterion.labels, criterion.boxes_xyxy_px
        share = box_targets.found_share(decoded, boxes, labels)
        return -box_targets.best_answers(decoded, boxes, labels).sum(axis=1), share[:, None]
