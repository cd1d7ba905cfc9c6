"""The loss against the reference values of lisard_golden.json.

Its values are independent float64 numbers, checked against the published code.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_trainer import recipes
from lisard_trainer.losses import lisard
from lisard_trainer.tasks.classification.evaluation import smoothing
from lisard_trainer.training import optimizer

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "lisard_golden.json").read_text())
TINY = GOLDEN["tiny_4x3"]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
BLOCKS = pytest.mark.parametrize("block", ["div_actual_batch_4", "official_div_config_batch_8"])
TEMPERATURE = GOLDEN["constants"]["temperature"]


def close(found, expected, dtype=torch.float64, tolerance=None):
    """Absolute below 1, relative above."""
    limit = tolerance or TOLERANCE[dtype]
    np.testing.assert_allclose(np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=limit, atol=limit)


def tiny(name, dtype):
    return torch.tensor(TINY["inputs"][name], dtype=dtype)


def total(alpha, ce_clean, ce_noisy, similarity):
    return float(lisard.combine(alpha, ce_clean, ce_noisy, similarity))


def test_constants():
    constants = GOLDEN["constants"]
    assert constants["lambda"] == lisard.BARLOW_OFF_WEIGHT
    assert constants["temperature"] == lisard.OFFICIAL_TEMPERATURE
    assert constants["bn_eps"] == lisard.BATCH_NORM_EPS
    assert constants["alpha_denominator"] == 2 * lisard.OFFICIAL_EPOCHS


@DTYPES
@pytest.mark.parametrize("view", ["clean", "noisy"])
def test_standardise(view, dtype):
    z = tiny(f"z_{view}", dtype)
    close(z.mean(0), TINY[f"mean_{view}"], dtype)
    close(z.var(0, correction=0), TINY[f"popvar_{view}"], dtype)
    close(lisard.standardise(z), TINY[f"standardised_{view}"], dtype)


@DTYPES
def test_cross_entropy(dtype):
    labels = torch.tensor(TINY["inputs"]["labels"])
    for view in ("clean", "noisy"):
        close(lisard.cross_entropy(tiny(f"logits_{view}", dtype), labels), TINY[f"ce_{view}"], dtype)


@DTYPES
@BLOCKS
def test_similarity_of_the_tiny_example(block, dtype):
    expected = TINY[block]
    z_clean, z_noisy, divisor = tiny("z_clean", dtype), tiny("z_noisy", dtype), expected["divisor"]
    close(lisard.cross_correlation(z_clean, z_noisy, divisor), expected["cross_correlation"], dtype)
    found = lisard.compare(z_clean, z_noisy, divisor)
    close(found.on, expected["on_diag"], dtype)
    close(found.off, expected["off_diag"], dtype)
    close(found.barlow(), expected["loss_bt"], dtype)
    close(found.barlow() / TEMPERATURE, expected["loss_bt_over_temp"], dtype)


@DTYPES
@BLOCKS
def test_gradients_of_the_tiny_example(block, dtype):
    expected = TINY[block]
    z_clean, z_noisy = tiny("z_clean", dtype).requires_grad_(), tiny("z_noisy", dtype).requires_grad_()
    lisard.compare(z_clean, z_noisy, expected["divisor"]).barlow().backward()
    limit = 1e-8 if dtype == torch.float64 else 1e-5
    close(z_clean.grad, expected["grad_loss_bt_wrt_z_clean"], tolerance=limit)
    close(z_noisy.grad, expected["grad_loss_bt_wrt_z_noisy"], tolerance=limit)


@DTYPES
@BLOCKS
def test_totals_of_the_tiny_example(block, dtype):
    expected = TINY[block]
    labels = torch.tensor(TINY["inputs"]["labels"])
    ce = [lisard.cross_entropy(tiny(f"logits_{view}", dtype), labels) for view in ("clean", "noisy")]
    barlow = lisard.compare(tiny("z_clean", dtype), tiny("z_noisy", dtype), expected["divisor"]).barlow()
    for epoch, values in expected["by_epoch_index"].items():
        alpha = lisard.alpha_official(int(epoch))
        close(alpha, values["alpha"])
        close(total(alpha, *ce, barlow / TEMPERATURE), values["total_loss"], dtype)
    for epoch, value in expected["total_with_temperature_1"].items():
        close(total(lisard.alpha_official(int(epoch)), *ce, barlow), value, dtype)


def test_shared_batch_norm_of_the_published_code_sees_both_views():
    norm = torch.nn.BatchNorm1d(3, affine=False, dtype=torch.float64).train()
    for view in ("clean", "noisy"):
        close(norm(tiny(f"z_{view}", torch.float64)), lisard.standardise(tiny(f"z_{view}", torch.float64)))
    close(norm.running_mean, TINY["bn_running_mean_after"])
    close(norm.running_var, TINY["bn_running_var_after"])


@DTYPES
def test_identical_negated_dead_and_rank_one(dtype):
    z = tiny("z_clean", dtype)
    same, expected = lisard.cross_correlation(z, z), GOLDEN["identical_views"]
    close(same, expected["cross_correlation"], dtype)
    close(same.diagonal(), expected["diag_closed_form"], dtype)
    close(lisard.compare(z, z).on, expected["on_diag"], dtype)
    close(lisard.compare(z, z).off, expected["off_diag"], dtype)
    close(lisard.compare(z, -z).on, GOLDEN["negated_view"]["on_diag"], dtype)
    close(lisard.compare(z, -z).off, GOLDEN["negated_view"]["off_diag"], dtype)
    rank_one = torch.tensor(GOLDEN["rank_one"]["z"], dtype=dtype)
    close(lisard.cross_correlation(rank_one, rank_one), GOLDEN["rank_one"]["cross_correlation"], dtype)
    close(lisard.compare(rank_one, rank_one).on, GOLDEN["rank_one"]["on_diag"], dtype)
    close(lisard.compare(rank_one, rank_one).off, GOLDEN["rank_one"]["off_diag"], dtype)


@DTYPES
def test_dead_feature_gives_no_nan(dtype):
    views = [tiny("z_clean", dtype), tiny("z_noisy", dtype)]
    for view in views:
        view[:, 1] = 0
        view.requires_grad_()
    expected, found = GOLDEN["dead_feature"], lisard.compare(*views)
    close(lisard.cross_correlation(*views).detach(), expected["cross_correlation"], dtype)
    close(found.on.detach(), expected["on_diag"], dtype)
    close(found.off.detach(), expected["off_diag"], dtype)
    found.barlow().backward()
    assert all(torch.isfinite(view.grad).all() for view in views)


def generated(dtype):
    """The example of 16 x 8 that this file gives as formulas."""
    i, j = torch.arange(16, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)[None]
    k = torch.arange(5, dtype=torch.float64)[None]
    z_clean = torch.sin(0.7 * i + 1.3 * j) + 0.1 * i * ((j % 3) - 1)
    logits = 2 * torch.cos(0.5 * i * (k + 1))
    noisy = z_clean + 0.25 * torch.cos(1.1 * i - 0.9 * j), logits + 0.3 * torch.sin(i + 2 * k)
    return [x.to(dtype) for x in (z_clean, noisy[0], logits, noisy[1])], (3 * torch.arange(16)) % 5


@DTYPES
def test_generated_example(dtype):
    (z_clean, z_noisy, clean, noisy), labels = generated(dtype)
    expected, c = GOLDEN["generated_16x8"], lisard.cross_correlation(z_clean, z_noisy)
    assert labels.tolist() == expected["labels"]
    close(c[0], expected["c_first_row"], dtype)
    close(c.trace(), expected["c_trace"], dtype)
    found = lisard.compare(z_clean, z_noisy)
    close(found.on, expected["on_diag"], dtype)
    close(found.off, expected["off_diag"], dtype)
    close(found.barlow(), expected["loss_bt"], dtype)
    ce = lisard.cross_entropy(clean, labels), lisard.cross_entropy(noisy, labels)
    close(ce[0], expected["ce_clean"], dtype)
    close(ce[1], expected["ce_noisy"], dtype)
    for epoch, value in expected["total_by_epoch_index"].items():
        close(total(lisard.alpha_official(int(epoch)), *ce, found.barlow() / TEMPERATURE), value, dtype)


def test_alpha_schedules():
    for epoch, value in GOLDEN["alpha_by_epoch_index"].items():
        close(lisard.alpha_official(int(epoch)), value)
    for epoch, value in GOLDEN["alpha_by_epoch_number_if_one_based"].items():
        close(lisard.alpha_generalised(int(epoch), 200), value)
    for name, values in GOLDEN["alpha_recommended_generalisation"].items():
        if name.startswith("epochs_"):
            for epoch, value in values.items():
                close(lisard.alpha_generalised(int(epoch), int(name.removeprefix("epochs_"))), value)


@pytest.mark.parametrize("run", GOLDEN["lr_schedule"], ids=lambda run: f"{run['dataset']}-{run['batch_size']}")
def test_published_learning_rates(run):
    for point in run["lr"]:
        found = lisard.rates_official(point["step"], run["steps_per_epoch"], run["batch_size"], run["epochs"])
        close(found.weights, point["weights"], tolerance=1e-13)
        close(found.one_dim, point["one_dim"], tolerance=1e-13)
    close(run["last_batch"] / run["batch_size"], run["c_shrink_on_last_batch"])


def test_one_cycle_rises_then_falls_to_nothing():
    rates = [lisard.rates_one_cycle(step, 200, 0.2, 0.1).weights for step in range(201)]
    assert rates[0] > 0 and max(rates) == rates[19] == pytest.approx(0.2) and rates[200] == pytest.approx(0, abs=1e-12)
    assert all(late < early for early, late in itertools.pairwise(rates[20:]))


@DTYPES
def test_two_groups_of_nesterov_sgd(dtype):
    """The optimizer that `fit` builds, with decay on the one-dimensional group as published."""
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.ones(1, 1, dtype=dtype))
    module.bias = torch.nn.Parameter(torch.full((1,), 0.5, dtype=dtype))
    recipe = recipes.from_mapping({"name": "published", "optimizer": {"decay_norm_and_bias": True}})
    sgd = optimizer.make_optimizer(module, recipe)
    for update in GOLDEN["sgd_nesterov_two_groups"]["updates"]:
        rates = lisard.rates_official(update["step"], 196, 256)
        close(rates.weights, update["lr_weight"])
        close(rates.one_dim, update["lr_one_dim"])
        optimizer.set_rates(sgd, rates)
        module.weight.grad = torch.full_like(module.weight, update["grad_weight"])
        module.bias.grad = torch.full_like(module.bias, update["grad_one_dim"])
        sgd.step()
        close(module.weight.detach().item(), update["weight_after"], dtype)
        close(module.bias.detach().item(), update["one_dim_after"], dtype)


def test_smoothing_radii():
    golden = GOLDEN["randomised_smoothing_sigma_sqrt_8_255"]
    sigma = math.sqrt(lisard.OFFICIAL_NOISE_VARIANCE)
    for case in golden["cases"]:
        close(smoothing.lower_bound(case["k"], case["n"], case["alpha"]), case["pA_lower"])
        found = smoothing.radius_l2(case["k"], case["n"], case["alpha"], sigma)
        if case["radius_l2"] is None:
            assert found is None
        else:
            close(found, case["radius_l2"])
    close(8 / 255 * math.sqrt(3 * 32 * 32), golden["l2_norm_of_linf_8_255_on_3x32x32"])


EMBEDDINGS = st.tuples(st.integers(2, 12), st.integers(1, 9), st.integers(0, 2**31 - 1))


def drawn(shape):
    """Two related views [n, d] in float64."""
    n, d, seed = shape
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, d, dtype=torch.float64, generator=generator)
    return z, z + 0.3 * torch.randn(n, d, dtype=torch.float64, generator=generator)


@settings(max_examples=60, deadline=None)
@given(EMBEDDINGS)
def test_correlations_stay_within_one_and_identical_views_are_symmetric(shape):
    z, noisy = drawn(shape)
    assert lisard.cross_correlation(z, noisy).abs().max() <= 1 + 1e-12
    same = lisard.cross_correlation(z, z)
    variance = z.var(0, correction=0)
    close(same, same.T)
    close(same.diagonal(), variance / (variance + lisard.BATCH_NORM_EPS))


@settings(max_examples=60, deadline=None)
@given(EMBEDDINGS, st.floats(-50, 50), st.floats(0.5, 20))
def test_shift_leaves_the_correlation_and_scale_moves_it_only_through_eps(shape, shift, scale):
    z, noisy = drawn(shape)
    reference = lisard.cross_correlation(z, noisy)
    close(lisard.cross_correlation(z + shift, noisy), reference, tolerance=1e-9)
    variance = z.var(0, correction=0)
    correction = ((variance + lisard.BATCH_NORM_EPS) / (variance + lisard.BATCH_NORM_EPS / scale**2)).sqrt()
    close(lisard.cross_correlation(z * scale, noisy), reference * correction[:, None], tolerance=1e-9)


@settings(max_examples=60, deadline=None)
@given(EMBEDDINGS)
def test_order_of_the_images_does_not_matter(shape):
    z, noisy = drawn(shape)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(shape[2]))
    close(lisard.cross_correlation(z[order], noisy[order]), lisard.cross_correlation(z, noisy))
    labels = torch.arange(len(z)) % z.shape[1]
    close(lisard.cross_entropy(z[order], labels[order]), lisard.cross_entropy(z, labels))


@settings(max_examples=60, deadline=None)
@given(EMBEDDINGS)
def test_small_batches_cannot_reach_the_identity(shape):
    z, noisy = drawn(shape)
    rank = torch.linalg.matrix_rank(lisard.cross_correlation(z, noisy), atol=1e-9)
    assert rank <= min(z.shape[1], len(z) - 1)
    if len(z) <= z.shape[1]:
        assert lisard.compare(z, noisy).barlow() > 0


@settings(max_examples=60, deadline=None)
@given(EMBEDDINGS)
def test_normalised_form_is_made_of_means(shape):
    z, noisy = drawn(shape)
    c = lisard.cross_correlation(z, noisy)
    d = len(c)
    off = (c - torch.diag(c.diagonal())).square().sum() / max(d * (d - 1), 1)
    close(lisard.compare(z, noisy).normalised(0.5), (c.diagonal() - 1).square().mean() + 0.5 * off)


def test_divisor_is_the_number_of_rows_so_a_short_last_batch_is_no_penalty():
    z, noisy = drawn((848, 4, 0))
    assert lisard.compare(z, z).on < 1e-6
    assert lisard.compare(z, z, divisor=2048).on == pytest.approx(4 * (1 - 848 / 2048) ** 2, rel=1e-3)


def test_correlation_is_computed_in_32_bit_under_autocast():
    z, noisy = (view.float() for view in drawn((256, 16, 3)))
    expected = lisard.compare(z, noisy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = lisard.compare(z, noisy)
    assert (
        found.on.dtype == torch.float32 and torch.equal(found.on, expected.on) and torch.equal(found.off, expected.off)
    )
