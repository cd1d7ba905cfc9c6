"""Overlaid details: bounded, made of other pictures, seeded, and off by default."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_trainer import data, overlay, recipes, steps


def pictures(split, count=12):
    return data.to_unit(split.train.images[:count])


@given(highest=st.floats(0.5, 64), seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_never_more_than_the_amplitude(highest, seed):
    x = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    moved = overlay.add(x, highest, torch.Generator().manual_seed(seed))
    assert moved.shape == x.shape and float((moved - x).abs().max()) <= highest / 255 + 1e-6


def test_zero_changes_nothing_and_draws_nothing(split):
    x, generator = pictures(split), torch.Generator().manual_seed(1)
    before = generator.get_state()
    assert overlay.add(x, 0.0, generator) is x and torch.equal(generator.get_state(), before)


def test_same_seed_same_details(split):
    x = pictures(split)
    first, again, other = (overlay.add(x, 16, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_details_have_the_structure_of_pictures_and_no_brightness():
    """A step edge gives details at the edge alone; a flat picture gives none."""
    edge = torch.zeros(1, 3, 32, 32)
    edge[..., 16:] = 1
    found = overlay.details(edge, torch.Generator().manual_seed(0))
    assert float(found[..., :4].abs().max()) == 0 and float(found[..., 14:18].abs().max()) > 0.5
    assert float(overlay.details(torch.full((1, 3, 32, 32), 0.3), torch.Generator()).abs().max()) < 0.01


@pytest.mark.parametrize("views", [1, 2])
def test_recipe_lays_it_over_its_views(split, make_recipe, views):
    seen = {}
    for amount in (0.0, 16.0):
        recipe = make_recipe(views=views, overlay={"first_255": amount})
        context = steps.Context(recipe, 0, torch.Generator().manual_seed(1), torch.device("cpu"))
        seen[amount] = steps.views(pictures(split), split.train.labels[:12], context)
    moved = (seen[16.0].first - seen[0.0].first).abs().max()
    assert 0 < float(moved) <= 16 / 255 + 1e-6
    assert views == 1 or torch.equal(seen[16.0].noisy, seen[0.0].noisy)
    assert recipes.from_mapping({"name": "r"}).overlay == overlay.Overlay(0.0, 0.0)
