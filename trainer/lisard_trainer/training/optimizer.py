"""The optimizer of a recipe and the learning rates of each step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lisard_ros.errors import DataError

from ..backbones import state_dict
from ..losses import lisard
from ..recipes import BaseRecipe

COUNT = "step"
QUANTITIES = ("momentum_buffer", "exp_avg", "exp_avg_sq", COUNT)  # of SGD, and of AdamW
SECOND_MOMENT = 0.999  # decay of AdamW's second moment, as its authors have it (arXiv 1711.05101)


def make_optimizer(network: nn.Module, recipe: BaseRecipe) -> torch.optim.Optimizer:
    """SGD or AdamW with two groups: parameters with ndim != 1, then biases and batch norm."""
    settings = recipe.optimizer
    filters = [p for p in network.parameters() if p.ndim != 1]
    one_dim = [p for p in network.parameters() if p.ndim == 1]
    groups = [
        {"params": filters, "weight_decay": settings.weight_decay},
        {"params": one_dim, "weight_decay": settings.weight_decay if settings.decay_norm_and_bias else 0.0},
    ]
    if settings.kind == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=(settings.momentum, SECOND_MOMENT))
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, nesterov=settings.momentum > 0)


def optimizer_state(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """What the optimizer keeps of each parameter: `<quantity>/<parameter>` -> tensor."""
    named = [(name, optimizer.state[p]) for name, p in network.named_parameters() if p in optimizer.state]
    return {f"{key}/{name}": value for name, own in named for key, value in own.items() if isinstance(value, Tensor)}


def load_optimizer_state(optimizer: torch.optim.Optimizer, network: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Gives an optimizer the state of an earlier one; DataError when it is of other parameters, or empty.

    A parameter that no loss reaches (of a dead projector) has none.
    """
    parameters = dict(network.named_parameters())
    wrong = [where for where, value in saved.items() if not _fits(where, value, parameters)]
    expects = any(group.get("momentum") or group.get("betas") for group in optimizer.param_groups)
    if wrong or (expects and not saved):
        raise DataError(
            "state of the optimizer in the checkpoint",
            found=state_dict.listed("unfit", wrong) or "none",
            expected=f"a moment of each of the {len(parameters)} parameters, of its shape",
            cure="the checkpoint was changed: train again, with another --out",
        )
    for where, value in saved.items():
        quantity, name = where.split("/", 1)
        # Counts of steps stay in float32 whatever the network's arithmetic is.
        own = value.clone() if value.ndim == 0 else value.to(parameters[name])
        optimizer.state[parameters[name]][quantity] = own


def _fits(where: str, value: Tensor, parameters: Mapping[str, Tensor]) -> bool:
    quantity, _, name = where.partition("/")
    known = quantity in QUANTITIES and name in parameters
    return known and (quantity == COUNT or value.shape == parameters[name].shape)


def rates(recipe: BaseRecipe, step: int, steps_per_epoch: int) -> lisard.Rates:
    """Learning rates of a step counted from 0."""
    settings = recipe.optimizer
    if settings.schedule == "official":
        return lisard.rates_official(
            step, steps_per_epoch, settings.batch_size, settings.epochs, settings.official_warmup_epochs
        )
    begun, epochs = 0, settings.epochs - settings.restart_epochs
    if settings.restart_epochs and step >= epochs * steps_per_epoch:
        begun, epochs = epochs * steps_per_epoch, settings.restart_epochs
    return lisard.rates_one_cycle(step - begun, epochs * steps_per_epoch, settings.max_lr, settings.warmup_fraction)


def set_rates(optimizer: torch.optim.Optimizer, rates: lisard.Rates) -> None:
    """Sets the learning rates of the two groups of `make_optimizer`."""
    for group, rate in zip(optimizer.param_groups, (rates.weights, rates.one_dim), strict=True):
        group["lr"] = rate
