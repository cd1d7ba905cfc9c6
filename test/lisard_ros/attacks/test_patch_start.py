"""Where a printed patch starts, and that it is never weaker than a plain print."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lisard_ros.attacks import placement as places
from lisard_ros.attacks.model import BoxCriterion, Criterion, ModelAnswer, Untargeted
from lisard_ros.attacks.patch import PatchSettings, noise
from lisard_ros.attacks.patch_start import PLAIN_COLOURS, SaturatingModel, plain, strongest_patch
from lisard_ros.attacks.placement import Floats, PatchRenderer, Placement

SETTINGS = PatchSettings(Placement("anywhere", 0.6, 0.7, turn_deg=5), side=3, steps=60, batch=16, rate=0.1)


@pytest.fixture
def problem(reference: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, np.ndarray, Untargeted]:
    """A network and images that it knows; patches of 3 px are large there."""
    monkeypatch.setattr(places, "MIN_SIDE_PX", 1.0)
    network, x = reference.numpy(1), reference.images(64)
    return network, x, Untargeted(reference.answers(network, x))


def wrong_share(network: Any, x: np.ndarray, criterion: Untargeted, patch: Floats) -> float:
    """Mean probability of a wrong class, with placements that no ascent and no trial saw."""
    placements = places.draw(SETTINGS.placement, places.regions_of(x), places.randoms_of(x, 99))
    laid = PatchRenderer(placements, 3, (x.shape[3], x.shape[2])).render(x, patch)
    return float(SaturatingModel(network).evaluate(laid, criterion, gradient=False).loss.mean())


def test_it_fools_more_than_every_plain_print(problem: Any) -> None:
    network, x, criterion = problem
    made = strongest_patch(network, x, places.regions_of(x), criterion, SETTINGS, seed=1)
    assert made.shape == (3, 3, 3) and made.min() >= 0 and made.max() <= 1
    baselines = [plain(colour, 3) for colour in PLAIN_COLOURS] + [noise(3, seed) for seed in range(10)]
    strongest = max(wrong_share(network, x, criterion, baseline) for baseline in baselines)
    assert wrong_share(network, x, criterion, made) >= strongest + 0.03


class WithoutSlope:
    """A model whose gradient leads nowhere, and which a bright red channel fools."""

    def evaluate(
        self, x: np.ndarray, criterion: Criterion, transform: object = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Class 1 where there is much red and little else."""
        red = (x[:, 0] - x[:, 1:].mean(axis=1)).mean(axis=(1, 2))
        scores = np.stack([0.1 - red, red], axis=1)
        if isinstance(criterion, BoxCriterion):
            scores = 1.0 - (red > 0.05)[:, None]
        return ModelAnswer(np.zeros(len(x)), scores, np.zeros_like(x) if gradient else None)


def test_where_the_ascent_gains_nothing_the_strongest_plain_print_comes_back(problem: Any) -> None:
    x = np.full_like(problem[1], 0.5)
    criterion = Untargeted(np.zeros(len(x), int))
    made = strongest_patch(WithoutSlope(), x, places.regions_of(x), criterion, SETTINGS, seed=1)
    assert np.array_equal(made, plain("red", 3))
    boxes = BoxCriterion(np.tile([[0.0, 0, 5, 6]], (len(x), 1, 1)), np.zeros((len(x), 1), int))
    on_boxes = replace(SETTINGS, placement=places.on_boxes(0.5), batch=4)
    made = strongest_patch(WithoutSlope(), x, places.regions_of(x, boxes), boxes, on_boxes, seed=1)
    assert np.array_equal(made, plain("red", 3))


def test_numpy_and_torch_make_the_same(problem: Any, reference: Any) -> None:
    torch = pytest.importorskip("torch")
    network, x, criterion = problem
    few = replace(SETTINGS, steps=5)
    by_numpy = strongest_patch(network, x, places.regions_of(x), criterion, few, seed=1)
    images = torch.from_numpy(x)
    by_torch = strongest_patch(reference.torch(network), images, places.regions_of(images), criterion, few, seed=1)
    assert np.abs(by_numpy - by_torch).max() <= 1e-9


def test_the_saturating_loss_is_the_probability_of_a_wrong_class(problem: Any) -> None:
    network, x, criterion = problem
    x, criterion = x[:2], Untargeted(criterion.labels[:2])
    model = SaturatingModel(network)
    answer = model.evaluate(x, criterion)
    assert answer.loss == pytest.approx(1 - network.scores(x)[np.arange(2), criterion.labels])
    for place in ((0, 0, 0), (1, 3, 2), (2, 5, 4)):
        step = np.zeros_like(x)
        step[(slice(None), *place)] = 1e-6
        up, down = (model.evaluate(x + s, criterion, gradient=False).loss for s in (step, -step))
        assert answer.gradient[(slice(None), *place)] == pytest.approx((up - down) / 2e-6, abs=1e-6)
    margin = Untargeted(criterion.labels, "margin")
    assert np.array_equal(model.evaluate(x, margin).gradient, network.evaluate(x, margin).gradient)
