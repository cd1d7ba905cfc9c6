"""An attack model that counts what an attack asks of it, for reports: gradients and queries, each for one image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lisard_ros.attacks.aims import AnsweringModel
from lisard_ros.attacks.model import Array, Criterion, ModelAnswer, Transform


class CountingModel:
    """Another model, counted. gradients, queries: how often it was differentiated and asked, image by image."""

    def __init__(self, model: AnsweringModel) -> None:
        """model: what answers."""
        self.bundle, self._model = model.bundle, model
        self.gradients = self.queries = 0

    def evaluate(
        self, x: Array, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Return the model's answer."""
        answer = self._model.evaluate(x, criterion, transform, gradient=gradient)
        if answer.gradient is None:
            self.queries += len(x)
        else:
            self.gradients += len(x)
        return answer

    def output(self, x: Array) -> NDArray[np.float32]:
        """Return the model's raw output."""
        self.queries += len(x)
        return self._model.output(x)
