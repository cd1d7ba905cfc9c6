"""Views: what is changed, by how much, and that the same seed gives the same image."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from lisard_ros.errors import UsageError
from lisard_trainer.losses import augment, lisard

STILL = augment.Augment(
    shift_px=0, rotation_deg=0, zoom=1, shear=0, contrast_low=1, contrast_high=1, brightness=0, flip=False
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=8, size=32):
    return torch.rand(count, 3, size, size, generator=generator(7))


def test_nothing_asked_for_nothing_changed():
    x = images()
    assert torch.allclose(augment.clean_view(x, STILL, generator(), 32), x, atol=1e-5)


def test_seed_decides():
    x = images()
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


def test_images_are_mirrored_by_class_and_their_labels_with_them():
    left = torch.zeros(1, 3, 8, 8)
    left[..., :4] = 1
    x, labels = left.repeat(300, 1, 1, 1), torch.arange(3).repeat(100)
    shown = augment.Augment(mirror_classes="round, left:right").mirror_images(("left", "right", "round", "text"))
    assert shown == (1, 0, 2, -1)
    seen, after = augment.mirror(x, labels, shown, generator())
    turned = seen[:, 0, 0, 0] == 0
    assert torch.equal(seen[turned], x[turned].flip(3)) and torch.equal(seen[~turned], x[~turned])
    assert torch.equal(after[turned], torch.tensor([1, 0, 2])[labels[turned]])
    assert torch.equal(after[~turned], labels[~turned])
    assert {int(label) for label in labels[turned]} == {0, 1, 2} and 0 < turned.sum() < 300
    _, never = augment.mirror(x, torch.full((300,), 3), shown, generator())
    assert (never == 3).all()


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("lefd", "found 'lefd'.*did you mean 'left'"),
        ("left:right, right", "found right, expected NAME or NAME:NAME, each once"),
        ("left:right:round", "found left:right:round"),
    ],
)
def test_classes_to_mirror_that_cannot_be(named, said):
    with pytest.raises(UsageError, match=said):
        augment.Augment(mirror_classes=named).mirror_images(("left", "right", "round"))


def test_images_are_mirrored_once():
    with pytest.raises(UsageError, match="augment.mirror_classes: found left, expected flip: false with it"):
        augment.Augment(flip=True, mirror_classes="left")


def test_shift_is_bounded_and_in_pixels():
    x = torch.zeros(200, 3, 32, 32)
    x[:, :, 16, 16] = 1
    moved = augment.clean_view(x, dataclasses.replace(STILL, shift_px=3), generator(), 32)
    rows = (moved[:, 0] * torch.arange(32.0)[None, :, None]).sum((1, 2)) / moved[:, 0].sum((1, 2))
    assert 2 < (rows - 16).abs().max() <= 3.01


def test_early_images_are_smaller():
    settings = augment.Augment(early_px=24, early_share=0.5)
    assert [settings.size_px(32, share) for share in (0.0, 0.49, 0.5, 0.99)] == [24, 24, 32, 32]
    assert augment.Augment().size_px(32, 0.0) == 32
    assert augment.clean_view(images(), settings, generator(), 24).shape == (8, 3, 24, 24)


def test_default_noise_is_the_published_one_and_not_clipped(golden):
    golden, noise = golden["noise"], augment.Noise()
    assert pytest.approx(golden["variance"], abs=1e-15) == lisard.OFFICIAL_NOISE_VARIANCE
    assert math.sqrt(lisard.OFFICIAL_NOISE_VARIANCE) == pytest.approx(golden["std"], abs=1e-15)
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
    noisy = x + math.sqrt(lisard.OFFICIAL_NOISE_VARIANCE) * unit
    assert noisy.tolist() == pytest.approx(golden["noisy_unclipped_official"], abs=1e-6)
    assert noisy.clamp(0, 1).tolist() == pytest.approx(golden["noisy_clipped_0_1"], abs=1e-6)


def test_sigma_is_drawn_per_image():
    noise = augment.Noise(sigma_low=0.1, sigma_high=0.3)
    sigmas = augment.noisy_view(torch.zeros(200, 3, 32, 32), noise, generator()).flatten(1).std(1)
    assert 0.095 < sigmas.min() < 0.12 and 0.28 < sigmas.max() < 0.31


def test_first_view_noise_is_slight_and_off_by_default():
    x = images(200)
    assert augment.first_view(x, augment.Noise(), generator()) is x
    sigmas = (augment.first_view(x, augment.Noise(first_view_high=0.1), generator()) - x).flatten(1).std(1)
    assert sigmas.min() < 0.01 and 0.09 < sigmas.max() < 0.105


def test_cells_signs_and_grey():
    x = torch.zeros(16, 3, 32, 32)
    coarse = augment.noisy_view(x, augment.Noise(cell_px=(4,)), generator())
    assert all(len(image[0].unique()) <= 81 for image in coarse)
    sign = augment.noisy_view(x, augment.Noise(sigma_low=0.1, sigma_high=0.1, sign_share=1.0), generator())
    assert torch.allclose(sign.abs(), torch.full_like(x, 0.1))
    grey = augment.noisy_view(x, augment.Noise(grey_share=1.0), generator())
    assert torch.equal(grey[:, 0], grey[:, 2])


def test_the_default_view_draws_what_it_always_drew():
    """Runs that were begun before resume with the same random numbers."""
    used, expected = generator(7), generator(7)
    view = augment.clean_view(images(), augment.Augment(), used, 32)
    augment.noisy_view(view, augment.Noise(), used)
    count = len(images())
    for shape in [(count, 1, 1, 1)] * 3 + [(count, 2, 1)] + [(count, 1, 1, 1)] * 2:
        torch.rand(shape, generator=expected)
    torch.randn(view.shape, generator=expected)
    torch.rand(count, 1, 1, 1, generator=expected)
    assert torch.equal(used.get_state(), expected.get_state())


def test_published_view_is_a_crop_of_the_zero_padded_image_or_of_its_mirror_image():
    x = torch.rand(64, 3, 12, 10, generator=generator(1))
    view = augment.clean_view(x, augment.PUBLISHED, generator(2), 10)
    padded = torch.nn.functional.pad(x, (4,) * 4)
    places = set()
    for own, large in zip(view, padded, strict=True):
        fits = [
            (top, left, mirrored)
            for top in range(9)
            for left in range(9)
            for mirrored in (False, True)
            if torch.equal(own.flip(2) if mirrored else own, large[:, top : top + 12, left : left + 10])
        ]
        assert len(fits) == 1
        places.update(fits)
    assert {top for top, _, _ in places} == {left for _, left, _ in places} == set(range(9))
    assert {mirrored for _, _, mirrored in places} == {False, True}


@pytest.mark.parametrize(
    "settings", [augment.Augment(flip=True), augment.PUBLISHED, dataclasses.replace(augment.PUBLISHED, flip=False)]
)
def test_bytes_give_the_same_view_as_numbers(settings):
    levels = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=generator(1))
    from_bytes = augment.clean_view(levels, settings, generator(2), 32)
    assert from_bytes.dtype == torch.float32
    assert torch.equal(from_bytes, augment.clean_view(levels.float() / 255, settings, generator(2), 32))


def test_without_any_change_the_view_is_the_image():
    x, used = images(), generator(3)
    still = dataclasses.replace(augment.PUBLISHED, flip=False, crop_padding_px=0)
    assert augment.clean_view(x, still, used, 32) is x
    assert torch.equal(used.get_state(), generator(3).get_state())


def test_cutout_puts_the_mean_colour_into_one_square():
    x = images()
    settings = dataclasses.replace(augment.PUBLISHED, flip=False, crop_padding_px=0, cutout_px=6)
    view = augment.clean_view(x, settings, generator(4), 32)
    changed = (view != x).all(1)
    mean = x.mean((2, 3))
    for number, where in enumerate(changed):
        rows, columns = where.any(1).nonzero().flatten(), where.any(0).nonzero().flatten()
        assert 3 <= len(rows) <= 6 and 3 <= len(columns) <= 6
        assert where[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert torch.allclose(view[number][:, where], mean[number][:, None].expand(-1, int(where.sum())))


def test_views_are_made_where_the_images_are():
    """Nothing lands on torch's default device, here one that cannot be mixed with the images'."""
    settings = augment.Augment(flip=True, crop_padding_px=4, cutout_px=8)
    noise = augment.Noise(cell_px=(1, 2), sign_share=0.5, grey_share=0.5, first_view_high=0.1)
    x = images()
    with torch.device("meta"):
        view = augment.clean_view(x, settings, generator(), 24)
        made = (view, augment.noisy_view(view, noise, generator()), augment.first_view(view, noise, generator()))
    assert all(one.device == x.device and one.shape == (8, 3, 24, 24) for one in made)
