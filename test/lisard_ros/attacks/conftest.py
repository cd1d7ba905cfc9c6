"""A small network in closed form: tanh layer and softmax, gradients by hand in NumPy, by autograd in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lisard_ros.attacks.model import Criterion, ModelAnswer, Targeted
from lisard_ros.attacks.objective import objective

SHAPE = (3, 6, 5)
CLASSES = 5
HIDDEN = 12


class Reference:
    """What the tests of attacks stand on. Images are float64 on the 8-bit grid, [count, 3, 6, 5]."""

    shape, classes = SHAPE, CLASSES

    def numpy(self, seed: int = 0, **options: Any) -> NumpyNetwork:
        """A network of that seed."""
        return NumpyNetwork(seed, **options)

    def torch(self, network: NumpyNetwork) -> Any:
        """The same network in torch."""
        pytest.importorskip("torch")
        return TorchNetwork(network)

    def images(self, count: int, seed: int = 1) -> np.ndarray:
        """Random images; black and white among their pixels."""
        levels = np.random.default_rng(seed).integers(-40, 296, (count, *SHAPE))
        return np.clip(levels, 0, 255) / 255

    def answers(self, network: NumpyNetwork, x: np.ndarray) -> np.ndarray:
        """What the network says: labels under which nothing is fooled from the start."""
        return network.scores(x).argmax(axis=1)


class NumpyNetwork:
    """logits = tanh(x A) B. gradient False: it can only be queried. queries, gradients: images asked about."""

    def __init__(self, seed: int = 0, *, gradient: bool = True, classes: int = CLASSES, scale: float = 1.0) -> None:
        """scale: of the weights that see the image; small ones make a network that is hard to fool."""
        random = np.random.default_rng(seed)
        pixels = int(np.prod(SHAPE))
        self.A = scale * random.standard_normal((pixels, HIDDEN)) / np.sqrt(pixels)
        self.B = random.standard_normal((HIDDEN, classes))
        self._gradient, self.queries, self.gradients = gradient, 0, 0

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Softmax."""
        return softmax(np.tanh((x.reshape(len(x), -1) - 0.5) @ self.A) @ self.B)

    def evaluate(
        self, x: np.ndarray, criterion: Criterion, transform: Any = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Loss, scores, gradient."""
        seen = transform(x) if transform else x
        hidden = np.tanh((seen.reshape(len(x), -1) - 0.5) @ self.A)
        logits = hidden @ self.B
        loss, scores = objective(logits, criterion), softmax(logits)
        if not (gradient and self._gradient):
            self.queries += len(x)
            return ModelAnswer(loss, scores, None)
        self.gradients += len(x)
        slope = ((slope_of(logits, criterion) @ self.B.T) * (1 - hidden**2)) @ self.A.T
        slope = slope.reshape(seen.shape)
        return ModelAnswer(loss, scores, transform.adjoint(slope) if transform else slope)


class TorchNetwork:
    """The same weights in torch float64, with autograd."""

    def __init__(self, network: NumpyNetwork) -> None:
        """Take over the weights."""
        import torch

        self.A, self.B = torch.from_numpy(network.A), torch.from_numpy(network.B)

    def evaluate(self, x: Any, criterion: Criterion, transform: Any = None, *, gradient: bool = True) -> ModelAnswer:
        """Loss, scores, gradient."""
        import torch

        images = x.detach().clone().requires_grad_(True)
        seen = transform(images) if transform else images
        logits = torch.tanh((seen.flatten(1) - 0.5) @ self.A) @ self.B
        loss = objective(logits, criterion)
        (slope,) = torch.autograd.grad(loss.sum(), images)
        return ModelAnswer(loss.detach(), logits.detach().softmax(1), slope if gradient else None)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def slope_of(logits: np.ndarray, criterion: Criterion) -> np.ndarray:
    """d loss / d logits by hand, [N, K]."""
    slopes = [_slope(z, int(criterion.classes[row]), criterion, row) for row, z in enumerate(logits)]
    return np.array(slopes).reshape(logits.shape)


def _slope(z: np.ndarray, index: int, criterion: Criterion, row: int) -> np.ndarray:
    unit, order = np.eye(len(z)), np.argsort(-z)
    if criterion.loss == "dlr_targeted":
        own = int(criterion.labels[row])
        spread = z[order[0]] - (z[order[2]] + z[order[3]]) / 2
        d_spread = unit[order[0]] - (unit[order[2]] + unit[order[3]]) / 2
        return -(unit[own] - unit[index]) / spread + (z[own] - z[index]) / spread**2 * d_spread
    sign = -1.0 if isinstance(criterion, Targeted) else 1.0
    if criterion.loss == "cross_entropy":
        return sign * (softmax(z[None])[0] - unit[index])
    rival = next(j for j in order if j != index)
    d_margin = unit[rival] - unit[index]
    if criterion.loss == "margin":
        return sign * d_margin
    spread, d_spread = z[order[0]] - z[order[2]], unit[order[0]] - unit[order[2]]
    return sign * (d_margin / spread - (z[rival] - z[index]) / spread**2 * d_spread)


@pytest.fixture(scope="session")
def reference() -> Reference:
    """The small network and its images."""
    return Reference()
