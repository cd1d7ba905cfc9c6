"""Views: what is changed, by how much, and that the same seed gives the same picture."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from lisard_trainer import augment, losses

STILL = augment.Augment(
    shift_px=0, rotation_deg=0, zoom=1, shear=0, contrast_low=1, contrast_high=1, brightness=0, flip=False
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count=8, size=32):
    return torch.rand(count, 3, size, size, generator=generator(7))


def test_nothing_asked_for_nothing_changed():
    x = pictures()
    assert torch.allclose(augment.clean_view(x, STILL, generator(), 32), x, atol=1e-5)


def test_seed_decides():
    x = pictures()
    views = [augment.clean_view(x, augment.Augment(), generator(seed), 32) for seed in (1, 1, 2)]
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])
    assert views[0].min() >= 0 and views[0].max() <= 1


def test_signs_are_not_flipped_unless_asked():
    x = torch.zeros(64, 3, 32, 32)
    x[:, :, :, :16] = 1
    assert torch.allclose(augment.clean_view(x, STILL, generator(), 32), x, atol=1e-5)
    flipped = augment.clean_view(x, dataclasses.replace(STILL, flip=True), generator(), 32)
    shares = flipped[:, 0, 0, 0]
    assert 0 < shares.mean() < 1


def test_shift_is_bounded_and_in_pixels():
    x = torch.zeros(200, 3, 32, 32)
    x[:, :, 16, 16] = 1
    moved = augment.clean_view(x, dataclasses.replace(STILL, shift_px=3), generator(), 32)
    rows = (moved[:, 0] * torch.arange(32.0)[None, :, None]).sum((1, 2)) / moved[:, 0].sum((1, 2))
    assert 2 < (rows - 16).abs().max() <= 3.01


def test_early_pictures_are_smaller():
    settings = augment.Augment(early_px=24, early_share=0.5)
    assert [settings.size_px(32, share) for share in (0.0, 0.49, 0.5, 0.99)] == [24, 24, 32, 32]
    assert augment.Augment().size_px(32, 0.0) == 32
    assert augment.clean_view(pictures(), settings, generator(), 24).shape == (8, 3, 24, 24)


def test_default_noise_is_the_published_one_and_not_clipped(golden):
    golden, noise = golden["noise"], augment.Noise()
    assert losses.OFFICIAL_NOISE_VARIANCE == pytest.approx(golden["variance"], abs=1e-15)
    assert math.sqrt(losses.OFFICIAL_NOISE_VARIANCE) == pytest.approx(golden["std"], abs=1e-15)
    assert noise.sigma_low == noise.sigma_high == pytest.approx(golden["std"], abs=1e-6)
    assert 255 * golden["std"] == pytest.approx(golden["std_in_255_units"], abs=1e-9)
    black = augment.noisy_view(torch.zeros(64, 3, 32, 32), noise, generator())
    assert (black < 0).float().mean() == pytest.approx(golden["out_of_range_fraction_x0_or_x1"], abs=0.01)
    assert black.std() == pytest.approx(golden["std"], rel=0.01) and black.mean().abs() < 1e-3
    even = augment.noisy_view(torch.rand(64, 3, 32, 32, generator=generator(3)), noise, generator())
    outside = ((even < 0) | (even > 1)).float().mean()
    assert outside == pytest.approx(golden["out_of_range_fraction_uniform_x"], abs=0.01)


def test_noise_example(golden):
    golden = golden["noise"]["example"]
    x, unit = torch.tensor(golden["x"]), torch.tensor(golden["standard_normal"])
    noisy = x + math.sqrt(losses.OFFICIAL_NOISE_VARIANCE) * unit
    assert noisy.tolist() == pytest.approx(golden["noisy_unclipped_official"], abs=1e-6)
    assert noisy.clamp(0, 1).tolist() == pytest.approx(golden["noisy_clipped_0_1"], abs=1e-6)


def test_sigma_is_drawn_per_picture():
    noise = augment.Noise(sigma_low=0.1, sigma_high=0.3)
    sigmas = augment.noisy_view(torch.zeros(200, 3, 32, 32), noise, generator()).flatten(1).std(1)
    assert 0.095 < sigmas.min() < 0.12 and 0.28 < sigmas.max() < 0.31


def test_first_view_noise_is_slight_and_off_by_default():
    x = pictures(200)
    assert augment.first_view(x, augment.Noise(), generator()) is x
    sigmas = (augment.first_view(x, augment.Noise(first_view_high=0.1), generator()) - x).flatten(1).std(1)
    assert sigmas.min() < 0.01 and 0.09 < sigmas.max() < 0.105


def test_cells_signs_and_grey():
    x = torch.zeros(16, 3, 32, 32)
    coarse = augment.noisy_view(x, augment.Noise(cell_px=(4,)), generator())
    assert all(len(picture[0].unique()) <= 81 for picture in coarse)
    sign = augment.noisy_view(x, augment.Noise(sigma_low=0.1, sigma_high=0.1, sign_share=1.0), generator())
    assert torch.allclose(sign.abs(), torch.full_like(x, 0.1))
    grey = augment.noisy_view(x, augment.Noise(grey_share=1.0), generator())
    assert torch.equal(grey[:, 0], grey[:, 2])
