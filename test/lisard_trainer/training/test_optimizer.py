"""Learning rates over a run: one cycle, two, or the published schedule."""

from __future__ import annotations

import pytest
import torch

from lisard_ros.errors import DataError, UsageError
from lisard_trainer.tasks.classification import network as networks
from lisard_trainer.training import optimizer

PER_EPOCH = 10


def schedule(make_recipe, **changes):
    recipe = make_recipe(optimizer={"max_lr": 0.1, "warmup_fraction": 0.2, **changes})
    return [optimizer.rates(recipe, step, PER_EPOCH).weights for step in range(recipe.optimizer.epochs * PER_EPOCH)]


def test_the_second_cycle_repeats_the_first_over_its_own_length(make_recipe):
    """A run that stops before it is the first cycle alone; the second equals a run of its own."""
    both = schedule(make_recipe, epochs=9, restart_epochs=4)
    assert both[: 5 * PER_EPOCH] == schedule(make_recipe, epochs=5)
    assert both[5 * PER_EPOCH :] == schedule(make_recipe, epochs=4)
    assert max(both[5 * PER_EPOCH :]) == pytest.approx(0.1)
    assert both[5 * PER_EPOCH - 1] < 0.01


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_biases_and_batch_norms_decay_only_if_asked(make_recipe, kind):
    """Two groups: filters, then whatever has one dimension."""
    for decays in (False, True):
        recipe = make_recipe(optimizer={"kind": kind, "weight_decay": 0.01, "decay_norm_and_bias": decays})
        network = networks.training(recipe, 3)
        filters, one_dim = optimizer.make_optimizer(network, recipe).param_groups
        assert (filters["weight_decay"], one_dim["weight_decay"]) == (0.01, 0.01 if decays else 0.0)
        assert all(p.ndim == 1 for p in one_dim["params"]) and all(p.ndim != 1 for p in filters["params"])


def test_sgd_without_momentum_is_plain(make_recipe):
    recipe = make_recipe(optimizer={"momentum": 0})
    assert not optimizer.make_optimizer(networks.training(recipe, 3), recipe).param_groups[0]["nesterov"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: {}, "found none, expected a moment of each of the"),
        (lambda saved: saved | {"momentum_buffer/stem.nothing": torch.ones(2)}, "1 unfit momentum_buffer/stem.nothing"),
        (lambda saved: saved | {"momentum_buffer/head.bias": torch.ones(99)}, "1 unfit momentum_buffer/head.bias"),
        (lambda saved: saved | {"charm/head.bias": torch.ones(3)}, "found 1 unfit charm/head.bias"),
    ],
)
def test_memory_of_other_parameters_is_refused(make_recipe, change, message):
    recipe = make_recipe()
    network = networks.training(recipe, 3)
    made = optimizer.make_optimizer(network, recipe)
    saved = {f"momentum_buffer/{name}": torch.zeros_like(p) for name, p in network.named_parameters()}
    optimizer.load_optimizer_state(made, network, saved)
    with pytest.raises(DataError, match=message):
        optimizer.load_optimizer_state(made, network, change(saved))


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 4, "restart_epochs": 4},
        {"epochs": 4, "restart_epochs": -1},
        {"epochs": 4, "restart_epochs": 2, "schedule": "official"},
    ],
)
def test_a_cycle_that_cannot_be_is_refused(make_recipe, changes):
    with pytest.raises(UsageError, match=r"restart_epochs.*expected 0, or fewer epochs"):
        make_recipe(optimizer=changes)
