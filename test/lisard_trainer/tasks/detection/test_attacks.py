"""Attacks on a detector through the one attack model: what each loss does, in the same loops as for classifiers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lisard_ros.attacks.gradient import PGD, fgsm, pgd
from lisard_ros.attacks.model import BoxCriterion, Untargeted, pick
from lisard_ros.attacks.objective import fooled, objective
from lisard_ros.attacks.torch_model import TorchAttackModel
from lisard_ros.errors import AttackError
from lisard_trainer.tasks.detection import attack_model, network
from lisard_trainer.tasks.detection.evaluation.crafting import mislabelled

BOXES = np.array([[[8.0, 8, 24, 24], [30, 34, 60, 60]], [[10, 10, 50, 40], [0, 0, 0, 0]]])
LABELS = np.array([[0, 1], [2, -1]])


@pytest.fixture
def target(tiny):
    """A detector whose answers depend on the image: its last layers are drawn wide."""
    torch.manual_seed(1)
    for head in tiny.heads:
        for layer in (head.classes, head.objectness, head.boxes):
            torch.nn.init.normal_(layer.weight, 0, 0.2)
            torch.nn.init.zeros_(layer.bias)
    return attack_model.DetectorAttackModel(tiny)


@pytest.fixture
def x():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def criterion(loss):
    return BoxCriterion(BOXES, LABELS, loss, mislabelled(LABELS, 3) if loss == "mislabel" else None)


@pytest.mark.parametrize("loss", ["class", "location", "joint", "vanish", "fabricate", "mislabel"])
def test_pgd_raises_every_loss_within_its_budget(target, x, loss):
    made = pgd(target, x, criterion(loss), PGD(8 / 255, 2 / 255, 4), np.random.default_rng(0))
    before, after = target.evaluate(x, criterion(loss)), target.evaluate(made, criterion(loss))
    assert float(after.loss.sum()) > float(before.loss.sum())
    assert float((made - x).abs().max()) <= 8 / 255 + 1e-6 and made.min() >= 0 and made.max() <= 1


def test_the_caller_goes_on_training_the_detector(tiny, x):
    """Regression: the detector was frozen and in eval mode after an attack."""
    tiny.train().requires_grad_(True)
    attack_model.DetectorAttackModel(tiny).evaluate(x, criterion("joint"))
    assert all(module.training for module in tiny.modules())
    assert all(parameter.requires_grad for parameter in tiny.parameters())


@torch.no_grad()
def _objectness(detector, x):
    return float(detector(x)[..., 4].sigmoid().mean())


def test_vanishing_and_fabrication_move_objectness_in_opposite_directions(target, x, tiny):
    scores = {}
    for loss in ("vanish", "fabricate"):
        made = pgd(target, x, criterion(loss), PGD(8 / 255, 2 / 255, 5), np.random.default_rng(0))
        scores[loss] = _objectness(tiny, made)
    clean = _objectness(tiny, x)
    assert scores["vanish"] < clean < scores["fabricate"]


def test_an_image_s_loss_and_gradient_do_not_depend_on_its_batch(target, x):
    whole = target.evaluate(x, criterion("joint"))
    alone = [target.evaluate(x[n : n + 1], pick(criterion("joint"), slice(n, n + 1))) for n in range(2)]
    assert torch.allclose(whole.loss, torch.cat([a.loss for a in alone]), rtol=1e-4)
    assert torch.allclose(whole.gradient, torch.cat([a.gradient for a in alone]), atol=1e-3, rtol=1e-2)
    chunked = attack_model.DetectorAttackModel(target._network, chunk=1).evaluate(x, criterion("joint"))
    assert torch.allclose(whole.loss, chunked.loss, rtol=1e-4)


def test_gradients_are_those_of_finite_differences(tiny, x):
    target = attack_model.DetectorAttackModel(tiny.double())
    x = x.double()
    found = target.evaluate(x, criterion("vanish"))
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h = 1e-6
    moved = [target.evaluate(x + s * h * direction, criterion("vanish"), gradient=False).loss for s in (1, -1)]
    slope = (moved[0] - moved[1]) / (2 * h)
    assert torch.allclose(slope, (found.gradient * direction).flatten(1).sum(1), rtol=1e-3)


def test_a_query_gives_no_gradient_and_a_transform_is_applied(target, x):
    asked = target.evaluate(x, criterion("class"), gradient=False)
    assert asked.gradient is None and asked.scores.shape == (2, 1)
    black = target.evaluate(torch.zeros_like(x), criterion("class"))
    assert torch.allclose(target.evaluate(x, criterion("class"), lambda y: y * 0).loss, black.loss)


def test_scores_are_the_share_of_true_boxes_that_are_found():
    output = torch.full((2, 3, 8), -9.0)
    output[..., :4] = torch.tensor([0.0, 0, 1, 1])
    output[0, 1] = torch.tensor([8, 8, 24, 23, 9, 9, -9, -9.0])  # the first box with its class
    output[0, 2] = torch.tensor([30, 34, 60, 60, 9, 9, -9, -9.0])  # the second with another class
    share = attack_model.found_share(output, torch.tensor(BOXES), torch.tensor(LABELS))
    assert share.tolist() == [0.5, 0.0]
    none = attack_model.found_share(output, torch.tensor(BOXES), torch.full((2, 2), -1))
    assert none.tolist() == [1.0, 1.0]
    assert fooled(share[:, None].numpy(), criterion("joint")).tolist() == [True, True]
    assert fooled(none[:, None].numpy(), criterion("joint")).tolist() == [False, False]


def test_criteria_that_do_not_fit(target, x, tiny):
    with pytest.raises(AttackError, match="a class criterion for a detector"):
        target.evaluate(x, Untargeted(np.array([0, 1])))
    with pytest.raises(AttackError, match="the boxes of each image"):
        fgsm(target, x, BoxCriterion(BOXES[:1], LABELS[:1]), 8 / 255)
    with pytest.raises(AttackError, match="with mislabel, and only then"):
        target.evaluate(x, BoxCriterion(BOXES, LABELS, "mislabel"))
    with pytest.raises(AttackError, match="a box criterion for a classifier"):
        objective(np.zeros((2, 3)), criterion("joint"))
    with pytest.raises(AttackError, match="a box criterion for a classifier"):
        TorchAttackModel(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12288, 3))).evaluate(
            x, criterion("joint")
        )


def test_images_without_boxes_can_be_attacked(target, x):
    empty = BoxCriterion(np.zeros((2, 0, 4)), np.zeros((2, 0), np.int64))
    found = target.evaluate(x, empty)
    assert torch.isfinite(found.gradient).all() and found.scores.tolist() == [[1.0], [1.0]]
    assert network.level_sizes(64, 64) == [(8, 8), (4, 4), (2, 2)]
