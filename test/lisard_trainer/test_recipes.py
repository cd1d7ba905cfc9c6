"""Recipes: the shipped ones are valid and comparable, and a mistake is named with its cure."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from lisard_ros.errors import UsageError
from lisard_trainer import labels, recipes

FOLDER = Path(__file__).parents[2] / "trainer" / "recipes"
SHIPPED = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe_is_valid_and_survives_printing(path):
    recipe = recipes.read(path)
    assert recipe.name == path.stem
    assert recipes.from_mapping(yaml.safe_load(recipe.as_yaml())) == recipe
    assert recipe.data.labels in labels.KNOWN and "Stallkamp" in recipe.data.attribution
    assert "not verified" in recipe.data.licence


def test_noise_only_control_differs_by_the_similarity_term_alone():
    ours, control = (recipes.read(FOLDER / f"traffic_signs{end}.yaml") for end in ("", "_noise_only"))
    assert ours.similarity.form != "none" and control.similarity.form == "none"
    assert dataclasses.replace(control, name=ours.name, similarity=ours.similarity) == ours


def test_surrogate_is_the_plain_training_with_another_seed():
    plain, surrogate = (recipes.read(FOLDER / f"traffic_signs_{end}.yaml") for end in ("plain", "surrogate"))
    assert plain.views == surrogate.views == 1 and plain.seed != surrogate.seed
    assert dataclasses.replace(surrogate, name=plain.name, seed=plain.seed) == plain


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sed": 1}, "recipe key: found 'sed', .*did you mean 'seed'"),
        ({"optimiser": {"epoch": 1}}, "found 'optimiser.epoch', .*did you mean 'optimiser.epochs'"),
        ({"optimiser": {"epochs": "many"}}, "recipe key optimiser.epochs: found 'many', expected int"),
        ({"optimiser": 3}, "recipe key optimiser: found 3, expected a mapping of keys"),
        ({"seed": True}, "recipe key seed: found True, expected int"),
        ({"views": 3}, "recipe key views: found 3, expected one of 1, 2"),
        ({"similarity": {"form": "cosine"}}, "expected one of none, official, normalised"),
        ({"noise": {"cell_px": [0]}}, "expected a list of positive integers"),
        ([1, 2], "found list, expected a mapping"),
    ],
)
def test_mistakes_are_named(content, message):
    with pytest.raises(UsageError, match=message):
        recipes.from_mapping(content)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        recipes.read(tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(UsageError, match="broken YAML"):
        recipes.read(tmp_path / "broken.yaml")


def test_whole_numbers_are_accepted_where_a_fraction_is_meant():
    assert recipes.from_mapping({"optimiser": {"peak_rate": 1}}).optimiser.peak_rate == 1.0


def test_gtsrb_has_43_different_names():
    assert len(set(labels.GTSRB)) == 43 and labels.GTSRB[14] == "stop" and labels.GTSRB[13] == "yield"
