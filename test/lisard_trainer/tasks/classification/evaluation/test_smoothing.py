"""Randomised smoothing: exact bounds, and radii that are sound and tight where the truth is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import NormalDist

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lisard_ros.errors import OutputError, UsageError
from lisard_trainer.tasks.classification.evaluation import smoothing
from lisard_trainer.tasks.classification.evaluation.smoothing import SmoothingSettings

GOLDEN = json.loads((Path(__file__).parents[3] / "data" / "lisard_golden.json").read_text())
CASES = GOLDEN["randomised_smoothing_sigma_sqrt_8_255"]["cases"]
SIGMA = math.sqrt(8 / 255)
QUICK = SmoothingSettings(sigma=0.25, choose=50, draws=2000, batch=500)


class Linear(nn.Module):
    """Two classes on either side of a plane through grey: the smoothed network is known, its radius is the distance."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 48).reshape(3, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        side = ((x - 0.5) * self.weight).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(side), side], 1)

    def distances(self, x: Tensor) -> Tensor:
        """Signed L2 distance of images from the plane."""
        return (self(x)[:, 1] / self.weight.norm()).detach()


@pytest.fixture
def network() -> Linear:
    """In evaluation mode."""
    return Linear().eval()


def dataset(network: Linear, *distances: float) -> Tensor:
    """Images at these distances from the plane."""
    normal = (network.weight / network.weight.norm()).detach()
    return torch.stack([0.5 + distance * normal for distance in distances])


# --- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['k']}of{case['n']}")
def test_golden_bounds_and_radii(case: dict[str, float]) -> None:
    hits, n, alpha = int(case["k"]), int(case["n"]), case["alpha"]
    assert smoothing.lower_bound(hits, n, alpha) == pytest.approx(case["pA_lower"], rel=1e-9)
    expected = case["radius_l2"]
    found = smoothing.radius_l2(hits, n, alpha, SIGMA)
    assert found is None if expected is None else found == pytest.approx(expected, rel=1e-8)


def test_a_network_that_never_wavers_gets_the_golden_radius_of_100_000_draws() -> None:
    def constant(x: Tensor) -> Tensor:
        return torch.tensor([[0.0, 1.0, 0.0]]).expand(len(x), 3)

    (found,) = smoothing.certify(constant, torch.full((1, 3, 1, 1), 0.5), SmoothingSettings(sigma=SIGMA, batch=20_000))
    assert (found.answer, found.hits, found.draws) == (1, 100_000, 100_000)
    assert found.radius_l2 == pytest.approx(CASES[0]["radius_l2"], rel=1e-8)
    assert found.share_low == pytest.approx(CASES[0]["pA_lower"], rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from([0.001, 0.05, 0.3]),
)
def test_the_bound_is_below_the_share_and_rises_with_it(pair: tuple[int, int], alpha: float) -> None:
    hits, n = pair
    bound = smoothing.lower_bound(hits, n, alpha)
    assert 0 <= bound <= hits / n
    if hits < n:
        assert bound < smoothing.lower_bound(hits + 1, n, alpha)
    if hits == n:
        assert bound == pytest.approx(alpha ** (1 / n), rel=1e-9)
    radius = smoothing.radius_l2(hits, n, alpha, SIGMA)
    assert (radius is None) == (bound <= 0.5) and (radius is None or radius > 0)


# --- certificates ---------------------------------------------------------------------------------------------------


def test_radii_are_sound_and_tight_for_a_linear_network(network: Linear) -> None:
    """The smoothed linear network changes its answer exactly at its plane, so no radius may reach beyond it."""
    distances = (0.05, 0.15, 0.3, 0.5, -0.2, -0.4)
    thorough = SmoothingSettings(sigma=0.25, choose=1000, draws=20_000)
    found = list(smoothing.certify(network, dataset(network, *distances), thorough))
    for certificate, distance in zip(found, distances, strict=True):
        assert certificate.answer == int(distance > 0)
        assert 0.9 * abs(distance) - 0.02 < certificate.radius_l2 <= abs(distance)
        assert certificate.share_low == pytest.approx(NormalDist().cdf(certificate.radius_l2 / 0.25))


def test_what_lies_on_the_plane_is_abstained_from(network: Linear) -> None:
    (found,) = smoothing.certify(network, dataset(network, 0.0), QUICK)
    assert (found.answer, found.radius_l2, found.share_low) == (None, 0.0, 0.0) and 0 < found.hits < found.draws


def test_results_depend_on_seed_and_image_alone(network: Linear) -> None:
    x = dataset(network, 0.1, 0.1, 0.3)
    found = list(smoothing.certify(network, x, QUICK))
    assert found[0].hits != found[1].hits, "equal images have draws of their own"
    for batch in (1, 70, 100, 350, 10_000):
        again = list(smoothing.certify(network, x, SmoothingSettings(0.25, 50, 2000, batch=batch)))
        assert again == found, batch
    other = list(smoothing.certify(network, x, SmoothingSettings(0.25, 50, 2000, seed=1)))
    assert [c.hits for c in other] != [c.hits for c in found]


def test_a_network_with_one_class_is_certain_of_it() -> None:
    def single(x: Tensor) -> Tensor:
        return torch.zeros(len(x), 1)

    x = torch.zeros(1, 3, 2, 2)
    certificate = next(smoothing.certify(single, x, QUICK))
    assert certificate.answer == 0
    assert certificate.radius_l2 == smoothing.radius_l2(QUICK.draws, QUICK.draws, QUICK.alpha, QUICK.sigma)


def test_too_few_draws_certify_nothing() -> None:
    assert smoothing.radius_l2(9, 9, 0.001, 0.25) is None
    assert smoothing.radius_l2(10, 10, 0.001, 0.25) > 0


# --- wrong use ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigma": 0.0},
        {"sigma": math.nan},
        {"sigma": math.inf},
        {"choose": 0},
        {"draws": 0},
        {"batch": 0},
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"seed": -1},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="impossible settings of randomised smoothing"):
        SmoothingSettings(**{"sigma": 0.25, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(("hits", "n", "alpha"), [(-1, 5, 0.1), (6, 5, 0.1), (0, 0, 0.1), (1, 5, 0.0)])
def test_shares_that_are_none_are_refused(hits: int, n: int, alpha: float) -> None:
    with pytest.raises(UsageError, match="no share to bound"):
        smoothing.lower_bound(hits, n, alpha)


def test_what_cannot_be_judged_is_refused(network: Linear) -> None:
    x = dataset(network, 0.1)
    with pytest.raises(UsageError, match="training mode.*network.eval"):
        smoothing.certify(network.train(), x, QUICK)
    network.eval()
    with pytest.raises(UsageError, match="no images to judge"):
        smoothing.certify(network, x[0], QUICK)
    with pytest.raises(UsageError, match="no images to judge"):
        smoothing.certify(network, (x * 255).to(torch.uint8), QUICK)


def test_answers_that_are_none_are_refused(network: Linear) -> None:
    x = dataset(network, 0.1)
    for broken, message in (
        (lambda x: torch.full((len(x), 2), math.nan), "not finite"),
        (lambda x: torch.zeros(2), "does not answer with logits"),
        (lambda x: (x, x), "does not answer with logits: found tuple"),
    ):
        with pytest.raises(OutputError, match=message):
            next(smoothing.certify(broken, x, QUICK))  # type: ignore[arg-type]
