"""The optimiser of a recipe and the learning rates of each step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lisard_ros.errors import DataError

from .. import losses
from ..backbones import state_dict
from .task import AnyRecipe

COUNT = "step"
QUANTITIES = ("momentum_buffer", "exp_avg", "exp_avg_sq", COUNT)  # of SGD, and of AdamW
SECOND_MOMENT = 0.999  # memory of AdamW's second moment, as its authors have it (arXiv 1711.05101)


def make_optimiser(network: nn.Module, recipe: AnyRecipe) -> torch.optim.Optimizer:
    """SGD or AdamW with two groups: parameters with ndim != 1, then biases and batch norm."""
    settings = recipe.optimiser
    filters = [p for p in network.parameters() if p.ndim != 1]
    one_dim = [p for p in network.parameters() if p.ndim == 1]
    groups = [
        {"params": filters, "weight_decay": settings.weight_decay},
        {"params": one_dim, "weight_decay": settings.weight_decay if settings.decay_one_dim else 0.0},
    ]
    if settings.kind == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=(settings.momentum, SECOND_MOMENT))
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, nesterov=settings.momentum > 0)


def memory(optimiser: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """What the optimiser remembers of each parameter: `<quantity>/<parameter>` -> tensor."""
    named = [(name, optimiser.state[p]) for name, p in network.named_parameters() if p in optimiser.state]
    return {f"{key}/{name}": value for name, own in named for key, value in own.items() if isinstance(value, Tensor)}


def remember(optimiser: torch.optim.Optimizer, network: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Gives an optimiser the memory of an earlier one; DataError when it is of other parameters, or empty.

    A parameter that no loss reaches (of a dead projector) has none.
    """
    parameters = dict(network.named_parameters())
    _check_memory(optimiser, parameters, saved)
    for where, value in saved.items():
        quantity, name = where.split("/", 1)
        # Counts of steps stay in float32 whatever the network's arithmetic is.
        own = value.clone() if value.ndim == 0 else value.to(parameters[name])
        optimiser.state[parameters[name]][quantity] = own


def _check_memory(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor], saved: Mapping[str, Tensor]
) -> None:
    wrong = [where for where, value in saved.items() if not _fits(where, value, parameters)]
    expects = any(group.get("momentum") or group.get("betas") for group in optimiser.param_groups)
    if wrong or (expects and not saved):
        raise DataError(
            "memory of the optimiser in the checkpoint",
            found=state_dict.listed("unfit", wrong) or "none",
            expected=f"a moment of each of the {len(parameters)} parameters, of its shape",
            cure="the checkpoint was changed: train again, with another --out",
        )


def _fits(where: str, value: Tensor, parameters: Mapping[str, Tensor]) -> bool:
    quantity, _, name = where.partition("/")
    known = quantity in QUANTITIES and name in parameters
    return known and (quantity == COUNT or value.shape == parameters[name].shape)


def rates(recipe: AnyRecipe, step: int, steps_per_epoch: int) -> losses.Rates:
    """Learning rates of a step counted from 0."""
    settings = recipe.optimiser
    if settings.schedule == "official":
        return losses.rates_official(step, steps_per_epoch, settings.batch, settings.epochs, settings.official_warm_up)
    begun, epochs = 0, settings.epochs - settings.second_cycle
    if settings.second_cycle and step >= epochs * steps_per_epoch:
        begun, epochs = epochs * steps_per_epoch, settings.second_cycle
    return losses.rates_one_cycle(step - begun, epochs * steps_per_epoch, settings.peak_rate, settings.warm_up_share)


def set_rates(optimiser: torch.optim.Optimizer, rates: losses.Rates) -> None:
    """Sets the learning rates of the two groups of `make_optimiser`."""
    for group, rate in zip(optimiser.param_groups, (rates.weights, rates.one_dim), strict=True):
        group["lr"] = rate
