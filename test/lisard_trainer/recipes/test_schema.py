"""Recipes: the shipped ones are valid and comparable, and a mistake is named with its cure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from lisard_ros.errors import UsageError
from lisard_trainer import recipes
from lisard_trainer.data import labels
from lisard_trainer.losses import lisard

FOLDER = Path(__file__).parents[3] / "trainer" / "recipes"
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
    golden = json.loads((Path(__file__).parents[1] / "data" / "lisard_golden.json").read_text())["constants"]
    term, optimizer = recipe.similarity, recipe.optimizer
    assert (term.form, term.off_weight, term.temperature) == ("official", golden["lambda"], golden["temperature"])
    assert (term.projector, term.divisor, term.precision, term.layers) == ("dead", "batch", "autocast", "embedding")
    sigma = pytest.approx(lisard.OFFICIAL_NOISE_VARIANCE**0.5, abs=1e-6)
    assert recipe.noise.sigma_low == recipe.noise.sigma_high == sigma
    assert recipe.noise.first_view_high == 0 and recipe.forward == "separate" and recipe.loss.alpha == "official"
    assert (optimizer.schedule, optimizer.epochs, optimizer.batch_size) == ("official", lisard.OFFICIAL_EPOCHS, 2048)
    assert optimizer.decay_norm_and_bias and not optimizer.shuffle and not optimizer.drop_last
    assert (optimizer.momentum, optimizer.weight_decay, optimizer.official_warmup_epochs) == (0.9, 5e-4, 10)


def test_repaired_recipe_mends_every_oddity():
    recipe = recipes.read(FOLDER / "lisard_cifar10.yaml")
    assert recipe.similarity.form == "normalised" and recipe.similarity.divisor == "rows"
    assert recipe.similarity.precision == "float32" and recipe.similarity.projector == "none"
    assert recipe.loss.alpha == "constant" and recipe.optimizer.shuffle and not recipe.optimizer.decay_norm_and_bias
    assert recipe.checkpoint_selection == "best" and recipe.optimizer.ema_decay > 0 and recipe.optimizer.drop_last


@pytest.mark.parametrize(
    ("name", "kind", "size_px", "batch", "shuffle"),
    [("faithful_cifar100", "cifar100", 32, 2048, False), ("faithful_tiny_imagenet", "tiny_imagenet", 64, 1024, True)],
)
def test_published_training_on_other_images_differs_in_these_alone(name, kind, size_px, batch, shuffle):
    first, other = (recipes.read(FOLDER / f"{stem}.yaml") for stem in ("faithful_cifar10", name))
    data = dataclasses.replace(first.data, kind=kind, size_px=size_px)
    optimizer = dataclasses.replace(first.optimizer, batch_size=batch, shuffle=shuffle)
    assert other == dataclasses.replace(first, name=name, data=data, optimizer=optimizer)


def test_noise_only_control_differs_by_the_terms_alone():
    ours, baseline = (recipes.read(FOLDER / f"traffic_signs{end}.yaml") for end in ("", "_noise_only"))
    assert ours.similarity.form == "normalised" and ours.gradient.form == "logit_extrapolation"
    assert baseline.similarity.form == baseline.gradient.form == "none"
    assert dataclasses.replace(baseline, name=ours.name, similarity=ours.similarity, gradient=ours.gradient) == ours


def test_surrogate_is_the_plain_training_with_another_seed():
    plain, surrogate = (recipes.read(FOLDER / f"traffic_signs_{end}.yaml") for end in ("plain", "surrogate"))
    assert plain.views == surrogate.views == 1 and plain.seed != surrogate.seed
    assert dataclasses.replace(surrogate, name=plain.name, seed=plain.seed) == plain


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sed": 1}, "recipe key: found 'sed', .*did you mean 'seed'"),
        ({"optimizer": {"epoch": 1}}, "unknown recipe key in optimizer: found 'epoch', .*did you mean 'epochs'"),
        ({"data": {"crops": {"min": 1}}}, "unknown recipe key in data.crops: found 'min', .*did you mean 'min_px'"),
        ({"task": ["detection"]}, "unknown recipe key task"),
        ({"views": 2.0}, "recipe key views: found 2.0, expected one of 1, 2"),
        ({"noise": {"cell_px": [True]}}, "expected a list of positive integers"),
        ({"optimizer": {"epochs": "many"}}, "recipe key optimizer.epochs: found 'many', expected int"),
        ({"optimizer": 3}, "recipe key optimizer: found 3, expected a mapping of keys"),
        ({"seed": True}, "recipe key seed: found True, expected int"),
        ({"views": 3}, "recipe key views: found 3, expected one of 1, 2"),
        ({"similarity": {"form": "cosine"}}, "expected one of none, official, normalised"),
        (
            {"gradient": {"form": "linaer"}},
            "found 'linaer', expected one of none, .*; did you mean 'logit_extrapolation'",
        ),
        ({"noise": {"cell_px": [0]}}, "expected a list of positive integers"),
        ([1, 2], "found list, expected a mapping"),
        ({"epoch": 5}, "unknown recipe key epoch: found no such key, .*did you mean optimizer.epochs?"),
        ({"batch_size": 64}, "unknown recipe key batch_size: found no section, expected optimizer.batch_size;"),
        ({"weigth": 1}, "did you mean similarity.weight or consistency.weight or gradient.weight?"),
        ({"loss": {"alpha": "official"}, "optimizer": {"epochs": 201}}, "official with 201 epochs, .* at most 200"),
    ],
)
def test_mistakes_are_named(content, message):
    with pytest.raises(UsageError, match=message):
        recipes.from_mapping(content)


SECTIONS = (
    "augment",
    "noise",
    "detail_mixing",
    "similarity",
    "consistency",
    "gradient",
    "adversarial",
    "loss",
    "optimizer",
)
NUMBERS = [
    (section, field.name)
    for section in SECTIONS
    for field in dataclasses.fields(getattr(recipes.Recipe("r"), section))
    if field.type in ("int", "float")
]


@pytest.mark.parametrize(("section", "key"), NUMBERS, ids=".".join)
def test_no_number_may_be_negative_or_other_than_finite(section, key):
    """Every number of a recipe is an amount, a share or a count."""
    for value in (float("nan"), float("inf"), 1e300, -1, -1.0):
        with pytest.raises(UsageError, match=rf"recipe key {section}\.{key}: found"):
            recipes.from_mapping({section: {key: value}})


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("augment", {"contrast_low": 1.5, "contrast_high": 1.2}),
        ("noise", {"sigma_low": 0.2, "sigma_high": 0.1}),
        ("detail_mixing", {"own_low": 0.5, "own_high": 0.1}),
    ],
)
def test_a_lower_end_above_its_upper_end_is_refused(section, values):
    with pytest.raises(UsageError, match=rf"recipe key {section}\.{next(iter(values))}: .* at most {section}\."):
        recipes.from_mapping({section: values})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2", "the key 'seed' stands twice"),
        ("similarity: {form: official}\nsimilarity: {weight: 3}", "the key 'similarity' stands twice"),
        ("optimizer: {epochs: 2, epochs: 3}", "the key 'epochs' stands twice"),
        ("[" * 3000, "broken YAML"),
    ],
)
def test_yaml_that_would_lose_something_is_refused(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        recipes.read(tmp_path / "r.yaml")


def test_bytes_of_another_encoding_are_refused(tmp_path):
    (tmp_path / "r.yaml").write_bytes("data: {source: Köln}".encode("latin-1"))
    with pytest.raises(UsageError, match="found bytes that are not UTF-8"):
        recipes.read(tmp_path / "r.yaml")


def test_an_exponent_without_a_point_is_a_number(tmp_path):
    (tmp_path / "r.yaml").write_text("optimizer: {max_lr: 1e-3, weight_decay: 5E-4, epochs: 12}")
    settings = recipes.read(tmp_path / "r.yaml").optimizer
    assert (settings.max_lr, settings.weight_decay, settings.epochs) == (1e-3, 5e-4, 12)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        recipes.read(tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(UsageError, match="broken YAML"):
        recipes.read(tmp_path / "broken.yaml")


def test_whole_numbers_are_accepted_where_a_fraction_is_meant():
    assert recipes.from_mapping({"optimizer": {"max_lr": 1}}).optimizer.max_lr == 1.0


def test_gtsrb_has_43_different_names():
    assert len(set(labels.GTSRB)) == 43 and labels.GTSRB[14] == "stop" and labels.GTSRB[13] == "yield"


def test_balanced_classes_are_drawn_anew_in_each_epoch():
    wrong = {"name": "x", "data": {"balance": 0.5}, "optimizer": {"shuffle": False}}
    with pytest.raises(UsageError, match="data.balance: found 0.5, expected optimizer.shuffle: true with it"):
        recipes.from_mapping(wrong)
