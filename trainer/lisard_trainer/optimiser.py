"""The optimiser of a recipe and the learning rates of each step."""

from __future__ import annotations

import torch
from torch import nn

from . import losses
from .tasks import AnyRecipe


def make_optimiser(network: nn.Module, recipe: AnyRecipe) -> torch.optim.SGD:
    """SGD with two groups: parameters with ndim != 1, then biases and batch norm."""
    settings = recipe.optimiser
    filters = [p for p in network.parameters() if p.ndim != 1]
    one_dim = [p for p in network.parameters() if p.ndim == 1]
    groups = [
        {"params": filters, "weight_decay": settings.weight_decay},
        {"params": one_dim, "weight_decay": settings.weight_decay if settings.decay_one_dim else 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, nesterov=True)


def rates(recipe: AnyRecipe, step: int, steps_per_epoch: int) -> losses.Rates:
    """Learning rates of a step counted from 0."""
    settings = recipe.optimiser
    if settings.schedule == "official":
        return losses.rates_official(step, steps_per_epoch, settings.batch, settings.epochs, settings.official_warm_up)
    begun, epochs = 0, settings.epochs - settings.second_cycle
    if settings.second_cycle and step >= epochs * steps_per_epoch:
        begun, epochs = epochs * steps_per_epoch, settings.second_cycle
    return losses.rates_one_cycle(
        step - begun, epochs * steps_per_epoch, settings.peak_rate, settings.warm_up_share
    )


def set_rates(optimiser: torch.optim.Optimizer, rates: losses.Rates) -> None:
    """Sets the learning rates of the two groups of `make_optimiser`."""
    for group, rate in zip(optimiser.param_groups, (rates.weights, rates.one_dim), strict=True):
        group["lr"] = rate
