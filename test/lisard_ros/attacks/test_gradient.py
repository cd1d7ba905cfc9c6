"""FGSM, PGD and the universal perturbation: one code for NumPy and torch, within the budget, against arithmetic.

The oracle is a linear softmax model with a closed form: scores = softmax(x W), loss = -log scores[label],
d loss / d x = (scores - onehot) W^T. NumPy computes it by hand, torch by autograd.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.attacks.gradient import Pgd, fgsm, pgd, project
from lisard_ros.attacks.model import Evaluation, Goal, Label, Target, pick
from lisard_ros.attacks.universal import Universal, universal
from lisard_ros.errors import AttackError

SHAPE = (3, 4, 5)
CLASSES = 4
GREY = 1 / 255


class NumpyOracle:
    """The closed form. queries: how often it was asked."""

    def __init__(self, seed: int = 0, *, gradient: bool = True) -> None:
        """gradient False: an oracle that can only be queried."""
        self.W = np.random.default_rng(seed).standard_normal((int(np.prod(SHAPE)), CLASSES))
        self._gradient, self.queries = gradient, 0

    def evaluate(self, x: np.ndarray, goal: Goal, transform: Any = None, *, gradient: bool = True) -> Evaluation:
        """Loss, scores, gradient."""
        self.queries += 1
        flat = (transform(x) if transform else x).reshape(len(x), -1)
        logits = flat @ self.W
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = powers / powers.sum(axis=1, keepdims=True)
        sign = -1.0 if isinstance(goal, Target) else 1.0
        rows = np.arange(len(x))
        loss = -sign * np.log(scores[rows, goal.indices])
        slope = scores.copy()
        slope[rows, goal.indices] -= 1
        gradient = np.asarray(sign * (slope @ self.W.T).reshape(x.shape), x.dtype)
        return Evaluation(loss, scores, gradient if self._gradient else None)


class TorchOracle:
    """The same weights in torch float64, with autograd."""

    def __init__(self, weights: np.ndarray) -> None:
        """weights: [features, classes]."""
        import torch

        self.W = torch.from_numpy(weights)

    def evaluate(self, x: Any, goal: Goal, transform: Any = None) -> Evaluation:
        """Loss, scores, gradient."""
        import torch

        pictures = x.detach().clone().requires_grad_(True)
        logits = (transform(pictures) if transform else pictures).flatten(1) @ self.W
        sign = -1.0 if isinstance(goal, Target) else 1.0
        loss = sign * torch.nn.functional.cross_entropy(logits, torch.as_tensor(goal.indices), reduction="none")
        (gradient,) = torch.autograd.grad(loss.sum(), pictures)
        return Evaluation(loss.detach(), logits.detach().softmax(1), gradient)


def pictures(count: int, seed: int = 1) -> np.ndarray:
    """Pictures on the 8-bit grid, float64 [count, *SHAPE]; black and white among their pixels."""
    levels = np.random.default_rng(seed).integers(-40, 296, (count, *SHAPE))
    return np.clip(levels, 0, 255) / 255


def labels(count: int) -> np.ndarray:
    """A class for each."""
    return np.arange(count) % CLASSES


GOALS = [Label, Target]


@pytest.mark.parametrize("goal", GOALS)
def test_the_closed_form_is_right(goal: Any) -> None:
    """Central differences, so that the comparisons below stand on something."""
    oracle, x = NumpyOracle(), pictures(2)
    answer = oracle.evaluate(x, goal(labels(2)))
    for place in [(0, 0, 0, 0), (0, 2, 3, 4), (1, 1, 2, 3)]:
        step = np.zeros_like(x)
        step[place] = 1e-6
        up, down = (oracle.evaluate(x + s, goal(labels(2))).loss for s in (step, -step))
        assert answer.gradient[place] == pytest.approx((up - down)[place[0]] / 2e-6, abs=1e-6)


# --- the same code on two array libraries ---------------------------------------------------------------------------


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("attack", ["fgsm", "pgd", "pgd without random start", "universal"])
def test_numpy_and_torch_make_the_same_pictures(attack: str, goal: Any) -> None:
    torch = pytest.importorskip("torch")
    numpy_oracle, x, aim = NumpyOracle(), pictures(9), goal(labels(9))
    torch_oracle = TorchOracle(numpy_oracle.W)

    def run(oracle: Any, given_x: Any) -> Any:
        random = np.random.default_rng(7)
        if attack == "fgsm":
            return fgsm(oracle, given_x, aim, 8 * GREY)
        if attack == "universal":
            return universal(oracle, given_x, aim, Universal(epochs=3, batch=4), random)
        return pgd(oracle, given_x, aim, Pgd(random_start=attack == "pgd"), random)

    by_numpy, by_torch = run(numpy_oracle, x), run(torch_oracle, torch.from_numpy(x))
    assert isinstance(by_torch, torch.Tensor) and by_torch.dtype == torch.float64
    assert np.abs(by_numpy - by_torch.numpy()).max() <= 1e-12


def test_float32_stays_float32() -> None:
    torch = pytest.importorskip("torch")
    oracle = NumpyOracle()
    x = pictures(2).astype(np.float32)
    random = np.random.default_rng(0)
    assert pgd(oracle, x, Label(labels(2)), Pgd(), random).dtype == np.float32
    torch_oracle = TorchOracle(oracle.W.astype(np.float32))
    assert pgd(torch_oracle, torch.from_numpy(x), Label(labels(2)), Pgd(), random).dtype == torch.float32


# --- what each attack is --------------------------------------------------------------------------------------------


def test_fgsm_is_one_signed_step() -> None:
    oracle, x, goal = NumpyOracle(), pictures(5), Label(labels(5))
    expected = np.clip(x + 8 * GREY * np.sign(oracle.evaluate(x, goal).gradient), 0, 1)
    oracle.queries = 0
    assert np.allclose(fgsm(oracle, x, goal, 8 * GREY), expected, atol=1e-15) and oracle.queries == 1


def test_pgd_of_one_full_step_is_fgsm() -> None:
    oracle, x, goal = NumpyOracle(), pictures(5), Label(labels(5))
    settings_of_one = Pgd(step=8 * GREY, steps=1, random_start=False)
    one = pgd(oracle, x, goal, settings_of_one, np.random.default_rng(0))
    assert np.array_equal(one, fgsm(oracle, x, goal, 8 * GREY))


def test_attacks_raise_the_loss_and_targets_lower_theirs() -> None:
    oracle, x = NumpyOracle(), pictures(20)
    for goal in (Label(labels(20)), Target(labels(20))):
        before = oracle.evaluate(x, goal).loss
        single = oracle.evaluate(fgsm(oracle, x, goal, 8 * GREY), goal).loss
        repeated = oracle.evaluate(pgd(oracle, x, goal, Pgd(), np.random.default_rng(0)), goal).loss
        delta = universal(oracle, x, goal, Universal(), np.random.default_rng(0))
        shared = oracle.evaluate(np.clip(x + delta, 0, 1), goal).loss
        assert (single > before).all() and repeated.mean() > before.mean() and shared.mean() > before.mean()


def test_pgd_asks_once_for_each_step() -> None:
    oracle = NumpyOracle()
    pgd(oracle, pictures(2), Label(labels(2)), Pgd(steps=7), np.random.default_rng(0))
    assert oracle.queries == 7


def test_the_random_start_is_the_seeds() -> None:
    oracle, x, goal = NumpyOracle(), pictures(3), Label(labels(3))
    first, same, other = (pgd(oracle, x, goal, Pgd(steps=1), np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_the_pictures_are_those_that_stored_attacks_were_made_of() -> None:
    """Pinned: a change here means that published figures and stored attacks no longer come from this code."""
    oracle, x, digest = NumpyOracle(), pictures(8), hashlib.sha256()
    for goal in (Label(labels(8)), Target(labels(8))):
        for made in (fgsm(oracle, x, goal, 8 * GREY), pgd(oracle, x, goal, Pgd(), np.random.default_rng(0))):
            digest.update(np.rint(made * 255 * 64).astype(np.int32).tobytes())
    assert digest.hexdigest()[:16] == "61bad2f353e344c4"


# --- budgets --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.floats(1e-3, 1.0), st.floats(1e-3, 1.0), st.integers(1, 4), st.booleans())
@settings(max_examples=60)
def test_no_attack_leaves_its_budget_or_the_picture(
    seed: int, eps: float, step: float, steps: int, start: bool
) -> None:
    oracle, x, goal = NumpyOracle(seed), pictures(3, seed), Label(labels(3))
    random = np.random.default_rng(seed)
    for attacked in (fgsm(oracle, x, goal, eps), pgd(oracle, x, goal, Pgd(eps, step, steps, start), random)):
        assert np.abs(attacked - x).max() <= eps + 1e-12 and attacked.min() >= 0 and attacked.max() <= 1
    delta = universal(oracle, x, goal, Universal(eps, step, epochs=steps, batch=2), random)
    assert delta.shape == (1, *SHAPE) and np.abs(delta).max() <= eps + 1e-12


@given(st.integers(0, 1000), st.floats(1e-3, 1.0))
def test_project_gives_the_nearest_point(seed: int, eps: float) -> None:
    random = np.random.default_rng(seed)
    centre, candidate = random.random((2, *SHAPE)), random.normal(0.5, 1, (2, *SHAPE))
    found = project(candidate, centre, eps)
    assert np.array_equal(found, np.clip(candidate, np.maximum(centre - eps, 0), np.minimum(centre + eps, 1)))
    assert np.array_equal(project(found, centre, eps), found)


def test_the_clean_pictures_are_not_written_to() -> None:
    oracle, x, goal = NumpyOracle(), pictures(4), Label(labels(4))
    before = x.copy()
    fgsm(oracle, x, goal, 0.1)
    pgd(oracle, x, goal, Pgd(random_start=False), np.random.default_rng(0))
    universal(oracle, x, goal, Universal(), np.random.default_rng(0))
    assert np.array_equal(x, before)


# --- wrong use ------------------------------------------------------------------------------------------------------


def test_an_oracle_without_gradients_is_refused() -> None:
    oracle, x, goal = NumpyOracle(gradient=False), pictures(2), Label(labels(2))
    for attack in (
        lambda: fgsm(oracle, x, goal, 0.1),
        lambda: pgd(oracle, x, goal, Pgd(), np.random.default_rng(0)),
        lambda: universal(oracle, x, goal, Universal(), np.random.default_rng(0)),
    ):
        with pytest.raises(AttackError, match="needs gradients: found an oracle that can only be queried.*; use"):
            attack()


@pytest.mark.parametrize("eps", [0, -0.1, 1.1, float("nan")])
def test_impossible_budgets_are_refused(eps: float) -> None:
    with pytest.raises(AttackError, match="impossible FGSM budget"):
        fgsm(NumpyOracle(), pictures(1), Label(labels(1)), eps)
    for make in (lambda: Pgd(eps=eps), lambda: Pgd(step=eps), lambda: Universal(eps=eps), lambda: Universal(step=eps)):
        with pytest.raises(AttackError, match="impossible.*expected"):
            make()


@pytest.mark.parametrize("make", [lambda: Pgd(steps=0), lambda: Universal(epochs=0), lambda: Universal(batch=0)])
def test_impossible_counts_are_refused(make: Any) -> None:
    with pytest.raises(AttackError, match="impossible"):
        make()


def test_pick_keeps_the_kind_of_goal() -> None:
    for kind in GOALS:
        chosen = pick(kind(np.array([3, 1, 2])), np.array([2, 0]))
        assert type(chosen) is kind and chosen.indices.tolist() == [2, 3]
