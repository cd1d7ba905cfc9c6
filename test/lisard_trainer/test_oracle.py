"""The torch oracle: gradients per picture, independent of the batch, and the attacks that run on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lisard_ros.injection.gradient import Pgd, fgsm, pgd
from lisard_ros.injection.oracle import Label, Target
from lisard_ros.injection.universal import Universal, universal
from lisard_trainer import backbones
from lisard_trainer.oracle import TorchOracle

EPS = 8 / 255


@pytest.fixture
def network():
    torch.manual_seed(0)
    return backbones.Classifier(backbones.create("resnet14n", 5)).eval()


@pytest.fixture
def x():
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


OWN = np.array([0, 1, 2, 3, 4, 0])


def test_gradient_is_that_of_each_picture_alone(network, x):
    together = TorchOracle(network).evaluate(x, Label(OWN))
    for row in range(len(x)):
        alone = TorchOracle(network).evaluate(x[row : row + 1], Label(OWN[row : row + 1]))
        assert torch.allclose(alone.gradient[0], together.gradient[row], atol=1e-6)
        assert torch.allclose(alone.loss[0], together.loss[row], atol=1e-5)
    assert together.scores.shape == (6, 5) and torch.allclose(together.scores.sum(1), torch.ones(6))


def test_chunks_do_not_matter(network, x):
    whole, parts = (TorchOracle(network, chunk).evaluate(x, Label(OWN)) for chunk in (6, 2))
    assert torch.allclose(whole.gradient, parts.gradient, atol=1e-6) and torch.allclose(
        whole.loss, parts.loss, atol=1e-5
    )


def test_gradient_agrees_with_finite_differences(x):
    torch.manual_seed(0)
    network = backbones.Classifier(backbones.create("resnet14n", 5)).double().eval()
    oracle, x = TorchOracle(network), x.double()
    direction = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradient = oracle.evaluate(x, Label(OWN)).gradient
    step = 1e-6
    up, down = (oracle.evaluate(x + sign * step * direction, Label(OWN)).loss for sign in (1, -1))
    assert torch.allclose((up - down) / (2 * step), (gradient * direction).sum((1, 2, 3)), rtol=1e-4, atol=1e-7)


def test_target_is_the_other_way_round(network, x):
    away, towards = (TorchOracle(network).evaluate(x, kind(OWN)) for kind in (Label, Target))
    assert torch.equal(away.loss, -towards.loss) and torch.equal(away.gradient, -towards.gradient)


def test_transform_is_part_of_the_gradient(network, x):
    plain = TorchOracle(network).evaluate(x, Label(OWN)).gradient
    halved = TorchOracle(network).evaluate(2 * x, Label(OWN), transform=lambda pictures: pictures / 2).gradient
    assert torch.allclose(halved, plain / 2, atol=1e-6)


def test_leaves_no_gradient_on_the_network_and_the_input_alone(network, x):
    before = x.clone()
    TorchOracle(network).evaluate(x, Label(OWN))
    assert torch.equal(x, before) and not x.requires_grad
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.parameters())


def test_attacks_raise_the_loss_within_the_budget(network, x):
    oracle = TorchOracle(network)
    before = oracle.evaluate(x, Label(OWN)).loss
    one = fgsm(oracle, x, Label(OWN), EPS)
    many = pgd(oracle, x, Label(OWN), Pgd(), np.random.default_rng(0))
    for attacked in (one, many):
        assert (attacked - x).abs().max() <= EPS + 1e-6 and attacked.min() >= 0 and attacked.max() <= 1
        assert (oracle.evaluate(attacked, Label(OWN)).loss > before).all()
    assert oracle.evaluate(many, Label(OWN)).loss.mean() > before.mean()


def test_universal_raises_the_mean_loss(network, x):
    oracle = TorchOracle(network)
    delta = universal(oracle, x, Label(OWN), Universal(batch=3), np.random.default_rng(0))
    assert delta.shape == (1, 3, 16, 16) and delta.abs().max() <= EPS + 1e-6
    moved = oracle.evaluate((x + delta).clamp(0, 1), Label(OWN)).loss.mean()
    assert moved > oracle.evaluate(x, Label(OWN)).loss.mean()
