"""Terms of the loss: against plain NumPy versions, against what must not change them, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from lisard_trainer.losses import lisard, terms

SEEDS = st.integers(0, 2**16)


def draw(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def reference_similarity(a, b, off_weight, normalise, divisor=None):
    """NumPy, written from Zbontar et al. 2021 eq. 1 and 2."""
    scaled = [(z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (a, b)]
    c = scaled[0].T @ scaled[1] / (divisor or len(a))
    d = len(c)
    on = sum((c[i, i] - 1) ** 2 for i in range(d))
    off = sum(c[i, j] ** 2 for i in range(d) for j in range(d) if i != j)
    return on / d + off_weight * off / max(d * (d - 1), 1) if normalise else on + off_weight * off


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("divisor", [None, 16])
@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_similarity_equals_its_numpy_version(normalise, divisor, seed):
    a, b = draw(seed, 8, 5), draw(seed + 1, 8, 5)
    found = terms.similarity(a, b, 0.3, normalise=normalise, divisor=divisor)
    assert float(found) == pytest.approx(reference_similarity(a.numpy(), b.numpy(), 0.3, normalise, divisor), abs=1e-9)


@given(seed=SEEDS, scale=st.floats(0.5, 20), shift=st.floats(-5, 5))
@settings(max_examples=20, deadline=None)
def test_similarity_ignores_order_of_images_and_of_features(seed, scale, shift):
    a, b = draw(seed, 9, 4), draw(seed + 1, 9, 4)
    value = terms.similarity(a, b, 0.1, normalise=True)
    rows, columns = torch.randperm(9), torch.randperm(4)
    assert terms.similarity(a[rows], b[rows], 0.1, normalise=True) == pytest.approx(float(value), abs=1e-9)
    assert terms.similarity(a[:, columns], b[:, columns], 0.1, normalise=True) == pytest.approx(float(value), abs=1e-9)
    moved = terms.similarity(a * scale + shift, b, 0.1, normalise=True)
    assert float(moved) == pytest.approx(float(value), abs=1e-3)


def test_normalised_similarity_does_not_grow_with_width():
    """Repeating the features d times leaves the diagonal part as it is; the published sum grows with d."""
    a, b = draw(1, 32, 6), draw(2, 32, 6)
    wide = [torch.cat([z] * 4, 1) for z in (a, b)]
    on = [lisard.compare(*pair) for pair in ((a, b), wide)]
    assert float(on[1].on / on[1].width) == pytest.approx(float(on[0].on / on[0].width))
    assert float(on[1].barlow()) > 3 * float(on[0].barlow())


def test_correlation_stays_wide_unless_told_otherwise():
    a, b = draw(1, 64, 8).float(), draw(2, 64, 8).float()
    exact = terms.similarity(a, b, 0.1, normalise=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wide = terms.similarity(a, b, 0.1, normalise=True)
        narrow = terms.similarity(a, b, 0.1, normalise=True, wide=False)
    assert wide == exact and narrow != exact


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_consistencies_against_numpy(seed):
    a, b = draw(seed, 6, 5), draw(seed + 1, 6, 5)
    cosines = [float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    assert float(terms.cosine(a, b)) == pytest.approx(1 - np.mean(cosines), abs=1e-9)
    p, q = (np.exp(z / 2) / np.exp(z / 2).sum(1, keepdims=True) for z in (a.numpy(), b.numpy()))
    expected = 4 * (p * np.log(p / q)).sum(1).mean()
    assert float(terms.kl(a, b, 2.0)) == pytest.approx(expected, abs=1e-9)


def test_consistencies_vanish_for_equal_views():
    a = draw(1, 6, 5)
    assert float(terms.cosine(a, 3 * a)) == pytest.approx(0, abs=1e-12)
    assert float(terms.kl(a, a + 2, 1.0)) == pytest.approx(0, abs=1e-12)


def test_teacher_of_kl_gets_no_gradient():
    a, b = draw(1, 4, 3).requires_grad_(), draw(2, 4, 3).requires_grad_()
    terms.kl(a, b, 1.0).backward()
    assert a.grad is None and b.grad is not None


@pytest.mark.parametrize(
    "term",
    [
        lambda a, b: terms.similarity(a, b, 0.2, normalise=True),
        lambda a, b: terms.similarity(a, b, 0.0051, normalise=False, divisor=9),
        terms.cosine,
        lambda a, b: terms.kl(torch.zeros_like(a), b, 1.5) + 0 * a.sum(),
    ],
    ids=["normalised", "official", "cosine", "kl"],
)
def test_gradients_equal_finite_differences(term):
    assert torch.autograd.gradcheck(term, (draw(3, 7, 4).requires_grad_(), draw(4, 7, 4).requires_grad_()))


@pytest.fixture
def smooth():
    """A small smooth classifier in float64 and images for it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Softplus(), nn.Linear(8, 3)).double()
    return network, draw(5, 6, 3, 2, 2).requires_grad_(), torch.tensor([0, 1, 2, 0, 1, 2])


def test_gradient_l1_against_analytic_gradient_of_a_linear_model():
    weight, x, labels = draw(1, 3, 12), draw(2, 5, 3, 2, 2).requires_grad_(), torch.tensor([0, 1, 2, 0, 1])
    logits = x.flatten(1) @ weight.T
    value = terms.gradient_l1(functional.cross_entropy(logits, labels, reduction="none"), x)
    residual = logits.detach().softmax(1) - functional.one_hot(labels, 3)
    assert value.item() == pytest.approx(float((residual @ weight).abs().sum(1).mean()), abs=1e-9)


def test_slope_approaches_gradient_l1_as_the_distance_shrinks(smooth):
    network, x, labels = smooth
    ce = functional.cross_entropy(network(x), labels, reduction="none")
    (gradient,) = torch.autograd.grad(ce.sum(), x, retain_graph=True)
    exact = float(terms.gradient_l1(ce, x))
    errors = []
    for distance in (0.1, 0.01, 0.001):
        moved = functional.cross_entropy(network(x + distance * gradient.sign()), labels, reduction="none")
        errors.append(abs(float(terms.slope(moved, ce, distance)) - exact))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-2 * exact


@given(seed=SEEDS, factor=st.floats(1, 40))
@settings(max_examples=25, deadline=None)
def test_extrapolated_logits_of_a_linear_network_are_those_at_the_far_end(seed, factor):
    weight, x, way = draw(seed, 3, 12), draw(seed + 1, 5, 12), draw(seed + 2, 5, 12).sign()
    step = 0.5 / 255
    found = terms.extrapolated(x @ weight.T, (x + step * way) @ weight.T, factor)
    assert torch.allclose(found, (x + factor * step * way) @ weight.T, atol=1e-9)


def test_extrapolated_by_one_step_are_the_moved_logits():
    base, moved = draw(1, 5, 3), draw(2, 5, 3)
    assert torch.allclose(terms.extrapolated(base, moved, 1.0), moved)
    assert torch.equal(terms.extrapolated(base, base, 16.0), base)


def test_penalties_move_the_weights(smooth):
    network, x, labels = smooth
    ce = functional.cross_entropy(network(x), labels, reduction="none")
    terms.gradient_l1(ce, x).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in list(network.parameters())[:1])


def test_gradient_gap_is_the_mean_squared_distance():
    a, b = draw(1, 4, 3, 2, 2), draw(2, 4, 3, 2, 2)
    assert float(terms.gradient_gap(a, b)) == pytest.approx(float(((a - b) ** 2).sum() / 4))
    assert float(terms.gradient_gap(a, a)) == 0


def test_pooling_and_choosing_features():
    maps = draw(1, 2, 3, 4, 5)
    assert torch.allclose(terms.pooled(maps), maps.mean((2, 3))) and terms.pooled(maps[:, :, 0, 0]).shape == (2, 3)
    z = draw(2, 4, 6)
    assert terms.chosen(z, None) is z and torch.equal(terms.chosen(z, torch.tensor([5, 0])), z[:, [5, 0]])
