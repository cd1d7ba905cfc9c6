"""Overlaid details: bounded, made of other images, seeded, off by default, and of the classes that look alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.errors import UsageError
from lisard_trainer import data, recipes
from lisard_trainer.losses import detail_mixing
from lisard_trainer.losses.detail_mixing import DetailMixing
from lisard_trainer.tasks.classification import step

LABELS = torch.arange(12) % 5


def images(split, count=12):
    return data.to_unit(split.train.images[:count])


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@given(
    highest=st.floats(0.5, 64),
    seed=st.integers(0, 2**31),
    least=st.floats(0, 1),
    own=st.floats(0, 2),
    donors=st.sampled_from(["any", "alike"]),
)
@settings(max_examples=40, deadline=None)
def test_never_more_than_the_amplitude(highest, seed, least, own, donors):
    x = torch.rand(6, 3, 16, 16, generator=seeded(seed))
    chosen = DetailMixing(min_share=least, own_low=own / 2, own_high=own, donors=donors)
    laid = detail_mixing.draw(x, LABELS[:6], highest, chosen, seeded(seed))
    assert laid.shape == x.shape and laid.isfinite().all()
    assert float(laid.abs().max()) <= highest / 255 + 1e-6


@given(least=st.floats(0.1, 1), seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_never_less_than_the_least_amplitude(least, seed):
    """Where a detail saturates, the amplitude is what is seen."""
    x = torch.rand(6, 3, 16, 16, generator=seeded(seed))
    laid = detail_mixing.draw(x, LABELS[:6], 10.0, DetailMixing(min_share=least), seeded(seed))
    saturated = laid.abs().flatten(1).max(1).values * 255
    assert float(saturated.min()) >= 10 * least * min(1, detail_mixing.GAIN_LOW) - 1e-4


@pytest.mark.parametrize("wrong", [{"first_255": -1}, {"min_share": 1.5}, {"own_low": 0.5}, {"own_low": -1.0}])
def test_amounts_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError, match="recipe key detail_mixing"):
        DetailMixing(**wrong)


def test_zero_changes_nothing_and_draws_nothing(split):
    x, generator = images(split), seeded()
    before = generator.get_state()
    assert detail_mixing.draw(x, LABELS, 0.0, DetailMixing(), generator) is None
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("donors", ["any", "alike"])
def test_same_seed_same_details(split, donors):
    x, chosen = images(split), DetailMixing(own_high=1, donors=donors)
    first, again, other = (detail_mixing.draw(x, LABELS, 16, chosen, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_details_have_the_structure_of_images_and_no_brightness():
    """A step edge gives details at the edge alone; a flat image gives none."""
    edge = torch.zeros(1, 3, 32, 32)
    edge[..., 16:] = 1
    found = detail_mixing.details(edge, seeded(0))
    assert float(found[..., :4].abs().max()) == 0 and float(found[..., 14:18].abs().max()) > 0.5
    assert float(detail_mixing.details(torch.full((1, 3, 32, 32), 0.3), seeded()).abs().max()) < 0.01


def test_an_image_that_loses_its_own_details_is_flatter_after(split):
    """Over donors without details, what is laid over works against the image's own details."""
    x = images(split)
    flat = torch.cat([x[:1], torch.full_like(x[1:], 0.5)])
    laid = detail_mixing.difference(flat, torch.full((12,), 5), DetailMixing(own_low=1, own_high=1), seeded())
    own = detail_mixing.details(flat, seeded())
    assert float((laid[0] * own[0]).sum()) < 0 and float(laid[1:].abs().max()) < 1e-3


def test_alike_donors_are_of_other_classes_and_look_most_alike():
    x = torch.rand(12, 3, 16, 16, generator=seeded())
    x = torch.cat([x, x[:1] * 0.9 + 0.02])  # a darker copy of the first image, of another class
    labels = torch.cat([LABELS, torch.tensor([7])])
    chosen = DetailMixing(donors="alike")
    likeness = np.corrcoef(torch.nn.functional.avg_pool2d(x, detail_mixing.LOOK_PX).flatten(1).numpy())
    likeness[labels.numpy()[:, None] == labels.numpy()[None]] = -2
    best = np.argsort(-likeness, axis=1)[:, : detail_mixing.ALIKE]
    drawn = np.stack([detail_mixing.donors(x, labels, chosen, seeded(seed)).numpy() for seed in range(40)])
    assert all(set(drawn[:, i]) == set(best[i]) for i in range(len(x)))
    assert 12 in drawn[:, 0]


def test_a_batch_of_one_class_still_finds_donors(split):
    x = images(split)
    found = detail_mixing.donors(x, torch.zeros(12, dtype=torch.long), DetailMixing(donors="alike"), seeded())
    assert sorted(found.tolist()) == list(range(12))


@pytest.mark.parametrize("views", [1, 2])
def test_recipe_lays_it_over_its_views(split, make_recipe, views):
    seen = {}
    for amount in (0.0, 16.0):
        recipe = make_recipe(views=views, detail_mixing={"first_255": amount})
        context = step.Context(recipe, 0, seeded(), torch.device("cpu"))
        seen[amount] = step.views(images(split), split.train.labels[:12], context)
    moved = (seen[16.0].first - seen[0.0].first).abs().max()
    assert 0 < float(moved) <= 16 / 255 + 1e-6
    assert views == 1 or torch.equal(seen[16.0].noisy, seen[0.0].noisy)
    assert recipes.from_mapping({"name": "r"}).detail_mixing == DetailMixing(0.0, 0.0)


def test_details_over_the_noisy_view_are_those_of_images_not_of_noise(split, make_recipe):
    """They are worked out before the noise: with the same draws, a still image gives the noise alone."""
    x = torch.full((12, 3, 16, 16), 0.5)
    recipe = make_recipe(augment={"brightness": 0}, detail_mixing={"noisy_255": 16})
    bare = make_recipe(augment={"brightness": 0})
    first, second = (step.views(x, LABELS, step.Context(r, 0, seeded(), torch.device("cpu"))) for r in (recipe, bare))
    assert float((first.noisy - second.noisy).abs().max()) < 1e-3 < float((second.noisy - 0.5).abs().max())
