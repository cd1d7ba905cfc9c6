"""FGSM, PGD and the universal perturbation: one code for NumPy and torch, within the budget, against arithmetic.

The attack model is a linear softmax model with a closed form: scores = softmax(x W), loss = -log scores[label],
d loss / d x = (scores - onehot) W^T. NumPy computes it by hand, torch by autograd.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.attacks.gradient import PGD, fgsm, pgd, project
from lisard_ros.attacks.model import Criterion, ModelAnswer, Targeted, Untargeted, pick
from lisard_ros.attacks.universal import UniversalSettings, universal
from lisard_ros.errors import AttackError

SHAPE = (3, 4, 5)
CLASSES = 4
GREY = 1 / 255


class LinearNumpyModel:
    """The closed form. queries: how often it was asked."""

    def __init__(self, seed: int = 0, *, gradient: bool = True) -> None:
        """gradient False: an attack model that can only be queried."""
        self.W = np.random.default_rng(seed).standard_normal((int(np.prod(SHAPE)), CLASSES))
        self._gradient, self.queries = gradient, 0

    def evaluate(
        self, x: np.ndarray, criterion: Criterion, transform: Any = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Loss, scores, gradient."""
        self.queries += 1
        flat = (transform(x) if transform else x).reshape(len(x), -1)
        logits = flat @ self.W
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = powers / powers.sum(axis=1, keepdims=True)
        sign = -1.0 if isinstance(criterion, Targeted) else 1.0
        rows = np.arange(len(x))
        loss = -sign * np.log(scores[rows, criterion.classes])
        slope = scores.copy()
        slope[rows, criterion.classes] -= 1
        gradient = np.asarray(sign * (slope @ self.W.T).reshape(x.shape), x.dtype)
        return ModelAnswer(loss, scores, gradient if self._gradient else None)


class LinearTorchModel:
    """The same weights in torch float64, with autograd."""

    def __init__(self, weights: np.ndarray) -> None:
        """weights: [features, classes]."""
        import torch

        self.W = torch.from_numpy(weights)

    def evaluate(self, x: Any, criterion: Criterion, transform: Any = None) -> ModelAnswer:
        """Loss, scores, gradient."""
        import torch

        images = x.detach().clone().requires_grad_(True)
        logits = (transform(images) if transform else images).flatten(1) @ self.W
        sign = -1.0 if isinstance(criterion, Targeted) else 1.0
        loss = sign * torch.nn.functional.cross_entropy(logits, torch.as_tensor(criterion.classes), reduction="none")
        (gradient,) = torch.autograd.grad(loss.sum(), images)
        return ModelAnswer(loss.detach(), logits.detach().softmax(1), gradient)


def images(count: int, seed: int = 1) -> np.ndarray:
    """Images on the 8-bit grid, float64 [count, *SHAPE]; black and white among their pixels."""
    levels = np.random.default_rng(seed).integers(-40, 296, (count, *SHAPE))
    return np.clip(levels, 0, 255) / 255


def labels(count: int) -> np.ndarray:
    """A class for each."""
    return np.arange(count) % CLASSES


CRITERIA = [Untargeted, Targeted]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_closed_form_is_right(criterion: Any) -> None:
    """Central differences, so that the comparisons below stand on something."""
    model, x = LinearNumpyModel(), images(2)
    answer = model.evaluate(x, criterion(labels(2)))
    for place in [(0, 0, 0, 0), (0, 2, 3, 4), (1, 1, 2, 3)]:
        step = np.zeros_like(x)
        step[place] = 1e-6
        up, down = (model.evaluate(x + s, criterion(labels(2))).loss for s in (step, -step))
        assert answer.gradient[place] == pytest.approx((up - down)[place[0]] / 2e-6, abs=1e-6)


# --- the same code on two array libraries ---------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("attack", ["fgsm", "pgd", "pgd without random start", "universal"])
def test_numpy_and_torch_make_the_same_images(attack: str, criterion: Any) -> None:
    torch = pytest.importorskip("torch")
    numpy_model, x, aim = LinearNumpyModel(), images(9), criterion(labels(9))
    torch_model = LinearTorchModel(numpy_model.W)

    def run(model: Any, given_x: Any) -> Any:
        random = np.random.default_rng(7)
        if attack == "fgsm":
            return fgsm(model, given_x, aim, 8 * GREY)
        if attack == "universal":
            return universal(model, given_x, aim, UniversalSettings(epochs=3, batch=4), random)
        return pgd(model, given_x, aim, PGD(random_start=attack == "pgd"), random)

    by_numpy, by_torch = run(numpy_model, x), run(torch_model, torch.from_numpy(x))
    assert isinstance(by_torch, torch.Tensor) and by_torch.dtype == torch.float64
    assert np.abs(by_numpy - by_torch.numpy()).max() <= 1e-12


def test_float32_stays_float32() -> None:
    torch = pytest.importorskip("torch")
    model = LinearNumpyModel()
    x = images(2).astype(np.float32)
    random = np.random.default_rng(0)
    assert pgd(model, x, Untargeted(labels(2)), PGD(), random).dtype == np.float32
    torch_model = LinearTorchModel(model.W.astype(np.float32))
    assert pgd(torch_model, torch.from_numpy(x), Untargeted(labels(2)), PGD(), random).dtype == torch.float32


# --- what each attack is --------------------------------------------------------------------------------------------


def test_fgsm_is_one_signed_step() -> None:
    model, x, criterion = LinearNumpyModel(), images(5), Untargeted(labels(5))
    expected = np.clip(x + 8 * GREY * np.sign(model.evaluate(x, criterion).gradient), 0, 1)
    model.queries = 0
    assert np.allclose(fgsm(model, x, criterion, 8 * GREY), expected, atol=1e-15) and model.queries == 1


def test_pgd_of_one_full_step_is_fgsm() -> None:
    model, x, criterion = LinearNumpyModel(), images(5), Untargeted(labels(5))
    settings_of_one = PGD(step=8 * GREY, steps=1, random_start=False)
    one = pgd(model, x, criterion, settings_of_one, np.random.default_rng(0))
    assert np.array_equal(one, fgsm(model, x, criterion, 8 * GREY))


def test_attacks_raise_the_loss_and_targets_lower_theirs() -> None:
    model, x = LinearNumpyModel(), images(20)
    for criterion in (Untargeted(labels(20)), Targeted(labels(20))):
        before = model.evaluate(x, criterion).loss
        single = model.evaluate(fgsm(model, x, criterion, 8 * GREY), criterion).loss
        repeated = model.evaluate(pgd(model, x, criterion, PGD(), np.random.default_rng(0)), criterion).loss
        delta = universal(model, x, criterion, UniversalSettings(), np.random.default_rng(0))
        shared = model.evaluate(np.clip(x + delta, 0, 1), criterion).loss
        assert (single > before).all() and repeated.mean() > before.mean() and shared.mean() > before.mean()


def test_pgd_asks_once_for_each_step() -> None:
    model = LinearNumpyModel()
    pgd(model, images(2), Untargeted(labels(2)), PGD(steps=7), np.random.default_rng(0))
    assert model.queries == 7


def test_the_random_start_is_the_seeds() -> None:
    model, x, criterion = LinearNumpyModel(), images(3), Untargeted(labels(3))
    first, same, other = (pgd(model, x, criterion, PGD(steps=1), np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_the_images_are_those_that_stored_attacks_were_made_of() -> None:
    """Pinned: a change here means that published figures and stored attacks no longer come from this code."""
    model, x, digest = LinearNumpyModel(), images(8), hashlib.sha256()
    for criterion in (Untargeted(labels(8)), Targeted(labels(8))):
        for made in (fgsm(model, x, criterion, 8 * GREY), pgd(model, x, criterion, PGD(), np.random.default_rng(0))):
            digest.update(np.rint(made * 255 * 64).astype(np.int32).tobytes())
    assert digest.hexdigest()[:16] == "61bad2f353e344c4"


# --- budgets --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.floats(1e-3, 1.0), st.floats(1e-3, 1.0), st.integers(1, 4), st.booleans())
@settings(max_examples=60)
def test_no_attack_leaves_its_budget_or_the_image(seed: int, eps: float, step: float, steps: int, start: bool) -> None:
    model, x, criterion = LinearNumpyModel(seed), images(3, seed), Untargeted(labels(3))
    random = np.random.default_rng(seed)
    for attacked in (fgsm(model, x, criterion, eps), pgd(model, x, criterion, PGD(eps, step, steps, start), random)):
        assert np.abs(attacked - x).max() <= eps + 1e-12 and attacked.min() >= 0 and attacked.max() <= 1
    delta = universal(model, x, criterion, UniversalSettings(eps, step, epochs=steps, batch=2), random)
    assert delta.shape == (1, *SHAPE) and np.abs(delta).max() <= eps + 1e-12


@given(st.integers(0, 1000), st.floats(1e-3, 1.0))
def test_project_gives_the_nearest_point(seed: int, eps: float) -> None:
    random = np.random.default_rng(seed)
    centre, candidate = random.random((2, *SHAPE)), random.normal(0.5, 1, (2, *SHAPE))
    found = project(candidate, centre, eps)
    assert np.array_equal(found, np.clip(candidate, np.maximum(centre - eps, 0), np.minimum(centre + eps, 1)))
    assert np.array_equal(project(found, centre, eps), found)


def test_the_clean_images_are_not_written_to() -> None:
    model, x, criterion = LinearNumpyModel(), images(4), Untargeted(labels(4))
    before = x.copy()
    fgsm(model, x, criterion, 0.1)
    pgd(model, x, criterion, PGD(random_start=False), np.random.default_rng(0))
    universal(model, x, criterion, UniversalSettings(), np.random.default_rng(0))
    assert np.array_equal(x, before)


# --- wrong use ------------------------------------------------------------------------------------------------------


def test_an_attack_model_without_gradients_is_refused() -> None:
    model, x, criterion = LinearNumpyModel(gradient=False), images(2), Untargeted(labels(2))
    for attack in (
        lambda: fgsm(model, x, criterion, 0.1),
        lambda: pgd(model, x, criterion, PGD(), np.random.default_rng(0)),
        lambda: universal(model, x, criterion, UniversalSettings(), np.random.default_rng(0)),
    ):
        with pytest.raises(AttackError, match="needs gradients: found an attack model that can only be queried.*; use"):
            attack()


@pytest.mark.parametrize("eps", [0, -0.1, 1.1, float("nan")])
def test_impossible_budgets_are_refused(eps: float) -> None:
    with pytest.raises(AttackError, match="impossible FGSM budget"):
        fgsm(LinearNumpyModel(), images(1), Untargeted(labels(1)), eps)
    for make in (
        lambda: PGD(eps=eps),
        lambda: PGD(step=eps),
        lambda: UniversalSettings(eps=eps),
        lambda: UniversalSettings(step=eps),
    ):
        with pytest.raises(AttackError, match="impossible.*expected"):
            make()


@pytest.mark.parametrize(
    "make", [lambda: PGD(steps=0), lambda: UniversalSettings(epochs=0), lambda: UniversalSettings(batch=0)]
)
def test_impossible_counts_are_refused(make: Any) -> None:
    with pytest.raises(AttackError, match="impossible"):
        make()


def test_pick_keeps_the_kind_of_criterion() -> None:
    for kind in CRITERIA:
        chosen = pick(kind(np.array([3, 1, 2])), np.array([2, 0]))
        assert type(chosen) is kind and chosen.classes.tolist() == [2, 3]
