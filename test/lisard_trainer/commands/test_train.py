"""`lisard train` with --set: the changed recipe is what is trained, printed and named in the bundle."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lisard_ros import bundle, cli
from lisard_ros.errors import DataError
from lisard_trainer import data, recipes
from lisard_trainer.data import labels
from lisard_trainer.training import checkpoint

TINY = {
    "network": "resnet8",
    "precision": "float32",
    "data": {"size_px": 16, "validation_share": 0.25},
    "optimizer": {"epochs": 3, "batch_size": 15, "max_lr": 0.05},
}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """The path of a recipe file, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(json.dumps(TINY))
    return "tiny.yaml"


def test_changed_keys_are_trained_and_named_in_the_bundle(recipe, shared_folder, tmp_path):
    words = ["--set", "name=other", "--set", "optimizer.epochs=1", "--set", "noise.sigma_low=0.1"]
    assert cli.main(["train", recipe, "--data", str(shared_folder), *words]) == 0
    saved = checkpoint.read(tmp_path / "runs" / "other")
    assert saved.epoch == 1 and saved.recipe == recipes.read(tmp_path / recipe, words[1::2])
    card = bundle.read(tmp_path / "models" / "other").manifest.card
    assert card.command.startswith("lisard train tiny.yaml --set name=other --set optimizer.epochs=1")


def test_printed_is_what_would_be_trained(recipe, capsys):
    assert cli.main(["train", recipe, "--set", "optimizer.max_lr=1e-3", "--set", "seed=7", "--print"]) == 0
    printed = capsys.readouterr().out
    assert "  max_lr: 0.001\n" in printed and "\nseed: 7\n" in printed and "  batch_size: 15\n" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "--set: found seed, expected KEY=VALUE, for example optimizer.epochs=5"),
        ("=3", "--set: found =3, expected KEY=VALUE"),
        ("sede=3", "unknown recipe key: found 'sede'"),
        ("epochs=5", "unknown recipe key epochs: found no section, expected optimizer.epochs"),
        ("weight=5", "expected similarity.weight or consistency.weight or gradient.weight"),
        ("optimizer.epohs=3", "did you mean 'epochs'?"),
        ("optimizer.epochs=many", "recipe key optimizer.epochs: found 'many'"),
        ("optimizer.epochs=", "recipe key optimizer.epochs: found None"),
        ("optimizer.epochs=[1", "a value as in YAML"),
        ("network.depth=3", "--set: found network.depth=3, expected a section before .depth"),
        ("seed.x.y=3", "recipe key seed: found {'x': {'y': 3}}, expected int"),
        ("seed=1 --set seed=2", "a value for seed once"),
    ],
)
def test_wrong_changes_are_named(recipe, change, message, capsys):
    words = [word for one in change.split(" --set ") for word in ("--set", one)]
    code = cli.main(["train", recipe, *words, "--print"])
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1 and message in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "data.labels=gtsb"], "label set of recipe key data.labels: found 'gtsb'"),
        (["--set", "data.labels=gtsrb"], "label set gtsrb: found"),
        (["--bundle", "tiny.yaml"], "refusing to replace something that is not a bundle"),
        (["--bundle", "tiny.yaml/models/tiny"], "not a directory, expected a folder that you may write to"),
        (["--out", "tiny.yaml/run"], "cannot write to --out: found tiny.yaml/run: Not a directory"),
        (["--set", "data.split_seed=-1"], "recipe key data.split_seed: found -1, expected 0 or more"),
        (["--set", "data.size_px=1000000"], "recipe key data.size_px: found 1000000"),
        (["--set", 'name="a\\nb"'], "recipe key name"),
        (["--set", "loss.alpha_value=" + "9" * 400], "which 32 bits can hold"),
        (["--data", "x" * 300], "File name too long"),
        (["--set", "init.weights=nowhere", "--data", "nowhere"], "init.weights: nowhere: found no such file"),
    ],
)
def test_what_cannot_end_well_is_told_before_the_first_epoch(recipe, shared_folder, words, message, tmp_path, capsys):
    code = cli.main(["train", recipe, "--data", str(shared_folder), *words])
    said = capsys.readouterr().err
    assert code == 2 and message in said and said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_stored_attacks_are_not_lost_by_training_or_exporting_again(recipe, shared_folder, tmp_path, capsys):
    words = ["train", recipe, "--data", str(shared_folder), "--set", "optimizer.epochs=1"]
    assert cli.main(words) == 0
    assert "45 training and 15 validation images of 9 and 3 tracks" in capsys.readouterr().out
    made = tmp_path / "models" / "tiny"
    attack = ["attack", "make", str(made), "--surrogate", "runs/tiny", "--data", str(shared_folder)]
    assert cli.main(words) == 0 == cli.main(attack)
    names = [one.name for one in bundle.read(made).manifest.perturbations]
    for again in (words, ["export", "runs/tiny", "--data", str(shared_folder)]):
        capsys.readouterr()
        assert cli.main(again) == 2
        assert f"found stored attack {names[0]}, stored attack {names[1]}, " in capsys.readouterr().err
    assert [one.name for one in bundle.read(made).manifest.perturbations] == names
    assert cli.main([*words, "--replace"]) == 0 and not bundle.read(made).manifest.perturbations


def test_folders_in_the_order_of_text_get_no_labels_of_numbers(shared_folder, tmp_path):
    names = (str(number) for number in range(43))
    images = replace(data.read(shared_folder, 16), classes=tuple(sorted(names)))
    with pytest.raises(DataError, match="label set gtsrb: found class folder 10 in place 2, expected 00002 or speed_"):
        labels.of("gtsrb", images)
    for right in (tuple(f"{number:05d}" for number in range(43)), labels.GTSRB):
        assert labels.of("gtsrb", replace(images, classes=right)) == labels.GTSRB
    with pytest.raises(DataError, match="class folder ' ': found a blank name"):
        labels.of("", replace(images, classes=("a", " ")))


def test_a_recipe_beside_smoke_is_refused(recipe, capsys):
    assert cli.main(["train", recipe, "--smoke"]) == 2 == cli.main(["train", "--smoke", "--set", "seed=1"])
    assert "to shorten a training" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["attack", "make", "{}/file/bundle", "--surrogate", "{}/nowhere"], "BUNDLE"),
        (["train", "--smoke", "--out", "{}/file"], "--out"),
    ],
)
def test_places_are_tried_before_anything_is_read(words, option, tmp_path, capsys):
    (tmp_path / "file").write_text("where a folder should be")
    assert cli.main([word.format(tmp_path) for word in words]) == 2
    told = capsys.readouterr()
    assert "cannot write" in told.err and f"to {option}: found" in told.err and told.out == ""
