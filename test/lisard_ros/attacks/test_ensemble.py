"""Attack models made of attack models: means of losses, scores and gradients; noise; what they cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lisard_ros.attacks.apgd import APGD, apgd
from lisard_ros.attacks.ensemble import EOT, Ensemble, GaussianNoise
from lisard_ros.attacks.gradient import fgsm
from lisard_ros.attacks.model import Untargeted
from lisard_ros.attacks.separable import Separable, placed
from lisard_ros.errors import AttackError

EPS = 8 / 255


def case(reference: Any, count: int = 4) -> Any:
    """Two networks, images, a criterion."""
    first, second, x = reference.numpy(0), reference.numpy(1), reference.images(count)
    return first, second, x, Untargeted(reference.answers(first, x))


def test_an_ensemble_is_the_mean(reference: Any) -> None:
    first, second, x, criterion = case(reference)
    change = Separable(placed(6, 5, 0), placed(5, 4, 1))
    for transform in (None, change):
        one, two = (network.evaluate(x, criterion, transform) for network in (first, second))
        both = Ensemble([first, second]).evaluate(x, criterion, transform)
        for name in ("loss", "scores", "gradient"):
            assert np.allclose(getattr(both, name), (getattr(one, name) + getattr(two, name)) / 2, atol=1e-15)
    assert both.cost == 2 and Ensemble([Ensemble([first, second]), second]).evaluate(x, criterion).cost == 3


def test_an_ensemble_attacks_all_its_members(reference: Any) -> None:
    first, second, x, criterion = case(reference, 20)
    made = fgsm(Ensemble([first, second]), x, criterion, EPS)
    for network in (first, second):
        assert network.evaluate(made, criterion).loss.mean() > network.evaluate(x, criterion).loss.mean()


def test_without_gradients_there_are_none(reference: Any) -> None:
    first, second, x, criterion = case(reference)
    assert Ensemble([first, second]).evaluate(x, criterion, gradient=False).gradient is None
    assert Ensemble([first, reference.numpy(gradient=False)]).evaluate(x, criterion).gradient is None


def test_an_expectation_over_nothing_random_changes_nothing(reference: Any) -> None:
    first, _, x, criterion = case(reference)
    plain, mean = first.evaluate(x, criterion), EOT(first, 4).evaluate(x, criterion)
    assert np.allclose(plain.loss, mean.loss) and np.allclose(plain.gradient, mean.gradient) and mean.cost == 4


def test_an_expectation_approaches_the_smoothed_loss(reference: Any) -> None:
    first, _, x, criterion = case(reference, 2)

    def mean(samples: int, seed: int, shift: Any = 0.0) -> Any:
        return EOT(first, samples, GaussianNoise(0.2, np.random.default_rng(seed))).evaluate(x + shift, criterion)

    many, again = mean(1000, 0), mean(1000, 1)
    single = np.abs(mean(1, 2).loss - many.loss).max()
    assert np.abs(many.loss - again.loss).max() < 0.05 < single
    step = np.zeros_like(x)
    step[:, 1, 2, 3] = 1e-3
    slope = (mean(30, 0, step).loss - mean(30, 0, -step).loss) / 2e-3
    assert np.allclose(slope, mean(30, 0).gradient[:, 1, 2, 3], atol=1e-4)


def test_the_noise_is_the_seeds_and_the_same_in_torch(reference: Any) -> None:
    torch = pytest.importorskip("torch")
    first, _, x, criterion = case(reference)
    made = [
        apgd(
            EOT(model, 3, GaussianNoise(0.1, np.random.default_rng(seed))),
            given,
            criterion,
            APGD(EPS, 5),
            np.random.default_rng(0),
        ).x
        for model, given, seed in ((first, x, 1), (reference.torch(first), torch.from_numpy(x), 1), (first, x, 2))
    ]
    assert np.abs(made[0] - made[1].numpy()).max() <= 1e-12 and not np.array_equal(made[0], made[2])


def test_costs_reach_the_report(reference: Any) -> None:
    first, second, x, criterion = case(reference)
    made = apgd(EOT(Ensemble([first, second]), 3), x, criterion, APGD(EPS, 5), np.random.default_rng(0))
    assert (made.gradients == 6 * 5).all() and (made.queries == 6).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ensemble([]),
        lambda: EOT(Ensemble([None]), 0),
        lambda: GaussianNoise(0, np.random.default_rng(0)),
        lambda: GaussianNoise(float("nan"), np.random.default_rng(0)),
    ],
)
def test_impossible_combinations_are_refused(make: Any) -> None:
    with pytest.raises(AttackError, match="expected"):
        make()
