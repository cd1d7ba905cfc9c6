"""Exponential moving average of a network's weights: a smoother network than the last step's, for use."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..backbones import state_dict

WARM_UP_STEPS = 10


def decay_at(decay: float, step: int) -> float:
    """Decay after `step` updates (counted from 1): (1 + step) / (10 + step) until it reaches `decay`.

    Without this warm-up the random first weights would weigh decay^steps in the average of a short run. Source of the
    form: the documentation of TensorFlow's ExponentialMovingAverage (`num_updates`).
    """
    return min(decay, (1 + step) / (WARM_UP_STEPS + step))


class Average:
    """The averaged network. Running statistics of batch norm are averaged like weights; counters are copied."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begins as a copy of the network; 0 < decay < 1."""
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Moves towards the network after its step number `step` (from 1)."""
        share = 1 - decay_at(self.decay, step)
        own, new = self.network.state_dict(), network.state_dict()
        floating = [key for key, value in own.items() if value.is_floating_point()]
        torch._foreach_lerp_([own[key] for key in floating], [new[key] for key in floating], share)
        for key in own.keys() - set(floating):
            own[key].copy_(new[key])

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Goes on from saved weights; strict."""
        state_dict.load(self.network, weights, "averaged weights of the checkpoint", state_dict.OTHERS_WEIGHTS)
