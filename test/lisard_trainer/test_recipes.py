"""Recipes: the shipped ones are valid and comparable, and a mistake is named with its cure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from lisard_ros.errors import UsageError
from lisard_trainer import labels, losses, recipes

FOLDER = Path(__file__).parents[2] / "trainer" / "recipes"
SHIPPED = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe_is_valid_and_survives_printing(path):
    recipe = recipes.read(path)
    assert recipe.name == path.stem
    assert recipes.from_mapping(yaml.safe_load(recipe.as_yaml())) == recipe


@pytest.mark.parametrize("path", sorted(FOLDER.glob("traffic_signs*.yaml")), ids=lambda path: path.stem)
def test_recipe_of_a_shipped_model_names_its_data(path):
    about = recipes.read(path).data
    assert about.labels in labels.KNOWN and "Stallkamp" in about.attribution and "not verified" in about.licence


def test_faithful_recipe_is_the_published_training():
    """The constants of the golden file and of the audit, every oddity switched on."""
    recipe = recipes.read(FOLDER / "faithful_cifar10.yaml")
    golden = json.loads((Path(__file__).parent / "data" / "lisard_golden.json").read_text())["constants"]
    term, optimiser = recipe.similarity, recipe.optimiser
    assert (term.form, term.off_weight, term.temperature) == ("official", golden["lambda"], golden["temperature"])
    assert (term.projector, term.divisor, term.precision, term.layers) == ("dead", "batch", "autocast", "embedding")
    sigma = pytest.approx(losses.OFFICIAL_NOISE_VARIANCE**0.5, abs=1e-6)
    assert recipe.noise.sigma_low == recipe.noise.sigma_high == sigma
    assert recipe.noise.first_view_high == 0 and recipe.forward == "separate" and recipe.loss.alpha == "official"
    assert (optimiser.schedule, optimiser.epochs, optimiser.batch) == ("official", losses.OFFICIAL_EPOCHS, 2048)
    assert optimiser.decay_one_dim and not optimiser.shuffle and not optimiser.drop_last
    assert (optimiser.momentum, optimiser.weight_decay, optimiser.official_warm_up) == (0.9, 5e-4, 10)


def test_repaired_recipe_mends_every_oddity():
    recipe = recipes.read(FOLDER / "lisard_cifar10.yaml")
    assert recipe.similarity.form == "normalised" and recipe.similarity.divisor == "rows"
    assert recipe.similarity.precision == "float32" and recipe.similarity.projector == "none"
    assert recipe.loss.alpha == "constant" and recipe.optimiser.shuffle and not recipe.optimiser.decay_one_dim


def test_noise_only_control_differs_by_the_terms_alone():
    ours, control = (recipes.read(FOLDER / f"traffic_signs{end}.yaml") for end in ("", "_noise_only"))
    assert ours.similarity.form == "normalised" and ours.gradient.form == "linear"
    assert control.similarity.form == control.gradient.form == "none"
    assert dataclasses.replace(control, name=ours.name, similarity=ours.similarity, gradient=ours.gradient) == ours


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
