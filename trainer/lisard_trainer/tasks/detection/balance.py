"""Weights of the terms by gradient ratio: a term with ratio r pulls r times as hard as the detection loss.

"Pulls" is the L2 norm of the gradient in the pyramid maps of both views. Weights are buffers of the training network,
so a checkpoint holds them and a resumed run goes on with the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LEAST_NORM = 1e-12
MOST_WEIGHT = 20.0  # a term that is nearly at its optimum is not driven there by any means


class Balance(nn.Module):
    """Holds a weight for each term; 0 until it was first measured."""

    weights: Tensor

    def __init__(self, ratios: Sequence[float], ema_decay: float) -> None:
        super().__init__()
        self.ratios, self.ema_decay = tuple(ratios), ema_decay
        self.register_buffer("weights", torch.zeros(len(self.ratios)))

    @property
    def active(self) -> tuple[int, ...]:
        """Numbers of the terms that are switched on."""
        return tuple(number for number, ratio in enumerate(self.ratios) if ratio)

    def measure(self, base: Tensor, parts: Sequence[Tensor], places: Sequence[Tensor]) -> None:
        """Moves the weights towards ratio x |gradient of base| / |gradient of the term|, both in `places`."""
        pull = norm(base, places)
        for number in self.active:
            own = norm(parts[number], places)
            if own > LEAST_NORM and pull > LEAST_NORM:
                self._move(number, min(self.ratios[number] * pull / own, MOST_WEIGHT))

    def _move(self, number: int, wanted: float) -> None:
        old = float(self.weights[number])
        self.weights[number] = wanted if old == 0 else old**self.ema_decay * wanted ** (1 - self.ema_decay)

    def total(self, parts: Sequence[Tensor]) -> Tensor | float:
        """Weighted sum of the terms that are switched on."""
        return sum((self.weights[number] * parts[number] for number in self.active), start=0.0)


def norm(loss: Tensor, places: Sequence[Tensor]) -> float:
    """L2 norm of the gradient of a loss in several tensors; 0 where it does not reach any."""
    if not loss.requires_grad:
        return 0.0
    found = torch.autograd.grad(loss, list(places), retain_graph=True, allow_unused=True)
    squares = [g.float().square().sum() for g in found if g is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
