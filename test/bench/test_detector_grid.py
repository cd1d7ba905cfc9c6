"""The grid of the detector's variants: variants that differ in what they are named for, and a queue that goes on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import detector_grid  # noqa: E402
import grid  # noqa: E402

from lisard_trainer import recipes  # noqa: E402


@pytest.fixture
def items(monkeypatch, tmp_path):
    monkeypatch.setattr(grid, "RUNS", tmp_path)
    return {item.name: item for item in detector_grid.queue(3, 0)}


def flat(item):
    return json.loads(item.recipe.as_json())


def test_every_variant_is_a_recipe_and_the_whole_one_is_the_shipped_one(items):
    shipped = json.loads(recipes.read(ROOT / "trainer" / "recipes" / "road_signs.yaml").as_json())
    assert {**flat(items["lisard_1"]), "name": "road_signs"} == shipped
    plain = json.loads(recipes.read(ROOT / "trainer" / "recipes" / "road_signs_plain.yaml").as_json())
    assert {**flat(items["plain_1"]), "name": "road_signs_plain"} == plain


def test_arms_differ_in_one_thing(items):
    noise = flat(items["noise_1"])
    for variant in ("levels", "instances", "agreement"):
        own = flat(items[f"{variant}_1"])
        assert {key for key in own if own[key] != noise[key]} == {"name", variant}


def test_three_seeds_of_the_decisive_arms_and_surrogates_of_other_seeds(items):
    assert {f"{variant}_{seed}" for variant in detector_grid.DECISIVE for seed in (1, 2, 3)} <= set(items)
    assert "levels_2" not in items
    seeds = {name: item.recipe.seed for name, item in items.items()}
    attackers = {seed for name, seed in seeds.items() if name.startswith("surrogate_")}
    assert attackers == {101, 102} and not attackers & {s for n, s in seeds.items() if not n.startswith("surrogate_")}
    assert not any(item.done for item in items.values())


def test_a_shorter_grid_is_shorter_for_all():
    assert {item.recipe.optimizer.epochs for item in detector_grid.queue(1, 5)} == {5}


def test_nothing_is_measured_before_there_is_something(items, capsys):
    assert detector_grid.measure([], "data", "grid") == 1 and "lisard_1 and plain_1" in capsys.readouterr().out
