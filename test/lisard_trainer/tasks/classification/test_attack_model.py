"""The torch attack model: gradients per image, independent of the batch, and the attacks that run on it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from lisard_ros.attacks.apgd import APGD, apgd
from lisard_ros.attacks.attack_suite import run_suite, standard_suite
from lisard_ros.attacks.gradient import PGD, fgsm, pgd
from lisard_ros.attacks.mifgsm import MIFGSM, GradientSmoothing, InputDiversity, mifgsm
from lisard_ros.attacks.model import Targeted, Untargeted
from lisard_ros.attacks.objective import objective
from lisard_ros.attacks.square import Square, square
from lisard_ros.attacks.torch_model import channels_last
from lisard_ros.attacks.universal import UniversalSettings, universal
from lisard_ros.errors import AttackError
from lisard_trainer import backbones
from lisard_trainer.tasks.classification.attack_model import FastAttackModel, TorchAttackModel, fastest

EPS = 8 / 255


@pytest.fixture
def network():
    torch.manual_seed(0)
    return backbones.Classifier(backbones.create("resnet14n", 5)).eval()


@pytest.fixture
def x():
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


OWN = np.array([0, 1, 2, 3, 4, 0])


def test_gradient_is_that_of_each_image_alone(network, x):
    together = TorchAttackModel(network).evaluate(x, Untargeted(OWN))
    for row in range(len(x)):
        alone = TorchAttackModel(network).evaluate(x[row : row + 1], Untargeted(OWN[row : row + 1]))
        assert torch.allclose(alone.gradient[0], together.gradient[row], atol=1e-6)
        assert torch.allclose(alone.loss[0], together.loss[row], atol=1e-5)
    assert together.scores.shape == (6, 5) and torch.allclose(together.scores.sum(1), torch.ones(6))


def test_chunks_do_not_matter(network, x):
    whole, parts = (TorchAttackModel(network, chunk).evaluate(x, Untargeted(OWN)) for chunk in (6, 2))
    assert torch.allclose(whole.gradient, parts.gradient, atol=1e-6) and torch.allclose(
        whole.loss, parts.loss, atol=1e-5
    )


def test_gradient_agrees_with_finite_differences(x):
    torch.manual_seed(0)
    network = backbones.Classifier(backbones.create("resnet14n", 5)).double().eval()
    model, x = TorchAttackModel(network), x.double()
    direction = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradient = model.evaluate(x, Untargeted(OWN)).gradient
    step = 1e-6
    up, down = (model.evaluate(x + sign * step * direction, Untargeted(OWN)).loss for sign in (1, -1))
    assert torch.allclose((up - down) / (2 * step), (gradient * direction).sum((1, 2, 3)), rtol=1e-4, atol=1e-7)


def test_target_is_the_other_way_round(network, x):
    away, towards = (TorchAttackModel(network).evaluate(x, kind(OWN)) for kind in (Untargeted, Targeted))
    assert torch.equal(away.loss, -towards.loss) and torch.equal(away.gradient, -towards.gradient)


def test_transform_is_part_of_the_gradient(network, x):
    plain = TorchAttackModel(network).evaluate(x, Untargeted(OWN)).gradient
    halved = TorchAttackModel(network).evaluate(2 * x, Untargeted(OWN), transform=lambda images: images / 2).gradient
    assert torch.allclose(halved, plain / 2, atol=1e-6)


def test_leaves_no_gradient_on_the_network_and_the_input_alone(network, x):
    before = x.clone()
    TorchAttackModel(network).evaluate(x, Untargeted(OWN))
    assert torch.equal(x, before) and not x.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("make", [TorchAttackModel, lambda network: FastAttackModel(network, folded=True), fastest])
def test_the_caller_goes_on_training_the_network(network, x, make):
    """Regression: the network was frozen, in eval mode and laid out anew after an attack."""
    network.train()
    frozen = next(network.parameters()).requires_grad_(False)
    before = {name: (value.clone(), value.stride()) for name, value in network.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in network.parameters()]
    model = make(network)
    asked = model.evaluate(x, Untargeted(OWN)).loss
    assert all(module.training for module in network.modules()) and not frozen.requires_grad
    assert [parameter.requires_grad for parameter in network.parameters()] == wanted and sum(wanted) > 1
    assert all(
        torch.equal(value, before[name][0]) and value.stride() == before[name][1]
        for name, value in network.state_dict().items()
    )
    torch.nn.functional.cross_entropy(network(x), torch.from_numpy(OWN)).backward()
    torch.optim.SGD(network.parameters(), 0.5).step()
    assert torch.equal(model.evaluate(x, Untargeted(OWN)).loss, asked), (
        "the attack model attacks the network that it was given"
    )


def test_a_network_that_cannot_be_copied_is_refused():
    class Derived(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.kept = torch.nn.Parameter(torch.ones(3)) * 2  # neither parameter nor buffer

    with pytest.raises(AttackError, match="the network cannot be copied.*load_state_dict"):
        TorchAttackModel(Derived())


ATTACKS = {
    "fgsm": lambda model, x: fgsm(model, x, Untargeted(OWN), EPS),
    "pgd": lambda model, x: pgd(model, x, Untargeted(OWN), PGD(steps=1), np.random.default_rng(0)),
    "pgd from the image": lambda model, x: pgd(
        model, x, Untargeted(OWN), PGD(steps=1, random_start=False), np.random.default_rng(0)
    ),
    "momentum": lambda model, x: mifgsm(model, x, Untargeted(OWN), MIFGSM(steps=1), np.random.default_rng(0)),
    "apgd": lambda model, x: apgd(model, x, Untargeted(OWN), APGD(EPS, 1), np.random.default_rng(0)),
    "square": lambda model, x: square(model, x, Untargeted(OWN), Square(EPS, 2), np.random.default_rng(0)),
    "universal": lambda model, x: universal(
        model, x, Untargeted(OWN), UniversalSettings(epochs=1), np.random.default_rng(0)
    ),
    "suite": lambda model, x: run_suite(
        model, x, OWN, standard_suite(EPS, steps=1, queries=2), np.random.default_rng(0)
    ),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("change", [lambda x: 255 * x, lambda x: (x - 0.45) / 0.22, lambda x: x + torch.nan])
def test_images_out_of_range_are_refused_and_not_clipped(network, x, attack, change):
    """Regression: an 8-bit image or a normalised one was clipped to [0, 1], which looked like an attack."""
    with pytest.raises(AttackError, match="images of an attack are out of range.*expected 0 to 1; divide"):
        attack(TorchAttackModel(network), change(x))


def test_attacks_raise_the_loss_within_the_budget(network, x):
    model = TorchAttackModel(network)
    before = model.evaluate(x, Untargeted(OWN)).loss
    one = fgsm(model, x, Untargeted(OWN), EPS)
    many = pgd(model, x, Untargeted(OWN), PGD(), np.random.default_rng(0))
    for attacked in (one, many):
        assert (attacked - x).abs().max() <= EPS + 1e-6 and attacked.min() >= 0 and attacked.max() <= 1
        assert (model.evaluate(attacked, Untargeted(OWN)).loss > before).all()
    assert model.evaluate(many, Untargeted(OWN)).loss.mean() > before.mean()


def test_universal_raises_the_mean_loss(network, x):
    model = TorchAttackModel(network)
    delta = universal(model, x, Untargeted(OWN), UniversalSettings(batch=3), np.random.default_rng(0))
    assert delta.shape == (1, 3, 16, 16) and delta.abs().max() <= EPS + 1e-6
    moved = model.evaluate((x + delta).clamp(0, 1), Untargeted(OWN)).loss.mean()
    assert moved > model.evaluate(x, Untargeted(OWN)).loss.mean()


CRITERIA = [
    *(kind(OWN, loss) for kind in (Untargeted, Targeted) for loss in ("cross_entropy", "margin", "dlr")),
    Targeted((OWN + 1) % 5, "dlr_targeted", OWN),
]


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda criterion: f"{type(criterion).__name__} {criterion.loss}")
def test_every_loss_is_the_shared_one(network, x, criterion):
    answer = TorchAttackModel(network).evaluate(x, criterion)
    with torch.no_grad():
        expected = objective(network(x), criterion)
    assert torch.allclose(answer.loss, expected, atol=1e-5) and answer.gradient.abs().sum() > 0
    asked = TorchAttackModel(network, chunk=4).evaluate(x, criterion, gradient=False)
    assert asked.gradient is None and torch.allclose(asked.loss, answer.loss, atol=1e-5)
    assert torch.allclose(asked.scores, answer.scores, atol=1e-5) and not asked.loss.requires_grad


def test_a_class_that_the_network_lacks_is_refused(network, x):
    with pytest.raises(AttackError, match="found classes 0 to 5, expected 0 to 4"):
        TorchAttackModel(network).evaluate(x, Untargeted(np.array([0, 1, 2, 3, 4, 5])))


def test_folded_is_the_same_function(network, x):
    warm(network, x)
    plain, folded = (FastAttackModel(network, folded=folded).evaluate(x, Untargeted(OWN)) for folded in (False, True))
    assert torch.allclose(plain.loss, folded.loss, atol=1e-5) and torch.allclose(plain.scores, folded.scores, atol=1e-5)
    assert torch.allclose(plain.gradient, folded.gradient, atol=1e-6)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_bf16_is_nearly_the_same_function(network, x):
    warm(network, x)
    plain, coarse = (FastAttackModel(network, bf16=bf16).evaluate(x, Untargeted(OWN)) for bf16 in (False, True))
    assert coarse.loss.dtype == coarse.gradient.dtype == torch.float32
    assert torch.allclose(plain.loss, coarse.loss, atol=0.05) and not torch.equal(plain.loss, coarse.loss)
    assert torch.nn.functional.cosine_similarity(plain.gradient.flatten(), coarse.gradient.flatten(), 0) > 0.98


def test_graphed_gives_the_same_answers(network, x):
    """A CUDA graph where there is a GPU; elsewhere nothing is captured."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, x = network.to(device), x.to(device)
    plain, graphed = (FastAttackModel(network, graphed=graphed) for graphed in (False, True))
    for criterion in (Untargeted(OWN), Targeted((OWN + 1) % 5), Untargeted(OWN, "margin")):
        for images in (x, 1 - x, x.flip(0)):
            expected, found = plain.evaluate(images, criterion), graphed.evaluate(images, criterion)
            assert torch.allclose(found.loss, expected.loss, atol=1e-5)
            assert torch.allclose(found.scores, expected.scores, atol=1e-5)
            assert torch.allclose(found.gradient, expected.gradient, atol=1e-5)
    with pytest.raises(AttackError, match="found classes 0 to 5, expected 0 to 4"):
        graphed.evaluate(x, Untargeted(np.array([0, 1, 2, 3, 4, 5])))


def test_the_step_that_is_captured_leaves_its_images_writable(network, x):
    """A graph copies every batch into the same images, whatever their layout."""
    model, kept = FastAttackModel(network, graphed=True), x.contiguous(memory_format=torch.channels_last)
    for images in (x, 1 - x):
        kept.copy_(images)
        loss, scores, gradient = model._step(kept, torch.from_numpy(OWN))
        expected = model.evaluate(images, Untargeted(OWN))
        assert torch.allclose(loss, expected.loss, atol=1e-5) and torch.allclose(scores, expected.scores, atol=1e-5)
        assert torch.allclose(gradient, expected.gradient, atol=1e-5)


def warm(network, x):
    """Give the batch norms something to fold."""
    network.train()
    with torch.no_grad():
        for scale in (1.0, 0.7, 1.3):
            network(x * scale)
    network.eval()


class Branching(torch.nn.Module):
    """Its forward looks at the data."""

    def forward(self, x):
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


def test_what_cannot_be_folded_is_refused():
    with pytest.raises(AttackError, match="cannot be folded.*use folded=False"):
        FastAttackModel(Branching(), folded=True)


def test_no_images_no_answers(network):
    answer = TorchAttackModel(network).evaluate(torch.zeros(0, 3, 16, 16), Untargeted(np.zeros(0, int)), gradient=False)
    assert answer.loss.shape == (0,) and answer.scores.shape == (0, 5)


def test_the_transfer_attacks_run_on_it(network, x):
    model = TorchAttackModel(network)
    chosen = MIFGSM(EPS, 3, nesterov=True, diversity=InputDiversity(1.0), smoothing=GradientSmoothing(2))
    made = mifgsm(model, x, Untargeted(OWN), chosen, np.random.default_rng(0))
    assert (made - x).abs().max() <= EPS + 1e-6 and made.dtype == torch.float32
    assert model.evaluate(made, Untargeted(OWN)).loss.mean() > model.evaluate(x, Untargeted(OWN)).loss.mean()


def test_filters_are_laid_out_as_torch_would_and_keep_their_values(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = copy.deepcopy(network).to(memory_format=torch.channels_last).state_dict()
    channels_last(network)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) and value.stride() == expected[name].stride()


def test_chunks_see_their_own_part_of_a_transform(network, x):
    network, x = network.double(), x.double()
    chosen = MIFGSM(EPS, 3, diversity=InputDiversity(1.0, 0.5))
    whole, parts = (
        mifgsm(TorchAttackModel(network, chunk), x, Untargeted(OWN), chosen, np.random.default_rng(0))
        for chunk in (6, 4)
    )
    assert torch.equal(whole, parts)


def test_chunks_do_not_change_an_attack(network, x):
    """In double precision, where other kernels for other sizes do not matter."""
    network, x = network.double(), x.double()
    whole, parts = (
        apgd(TorchAttackModel(network, chunk), x, Untargeted(OWN, "margin"), APGD(EPS, 5), np.random.default_rng(0))
        for chunk in (6, 4)
    )
    assert (whole.x - parts.x).abs().max() < 1e-9 and np.allclose(whole.loss, parts.loss)


def test_the_cascade_holds_when_asked_again(network, x):
    model = TorchAttackModel(network)
    own = model.evaluate(x, Untargeted(OWN), gradient=False).scores.argmax(1).numpy()
    made = run_suite(model, x, own, standard_suite(EPS, steps=3, queries=5), np.random.default_rng(0))
    again = model.evaluate(made.attacked.x, Untargeted(own), gradient=False).scores.argmax(1).numpy()
    assert np.array_equal(again != own, made.attacked.fooled)


def test_fastest_folds_where_it_can(network, x):
    plain, fast = TorchAttackModel(network).evaluate(x, Untargeted(OWN)), fastest(network).evaluate(x, Untargeted(OWN))
    assert torch.allclose(plain.gradient, fast.gradient, atol=1e-6)
    left = [module for module in fastest(network)._network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert not left and any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_fastest_takes_a_network_that_cannot_be_folded():
    x, criterion = torch.rand(2, 3, 8, 8), Untargeted(np.array([0, 1]))
    fast, plain = (make(Branching()).evaluate(x, criterion) for make in (fastest, TorchAttackModel))
    assert torch.equal(fast.gradient, plain.gradient)
