"""Checkpoint files: older schema, damage, full disk, another recipe, the best epoch, the average."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from lisard_ros.errors import DataError
from lisard_trainer import recipes
from lisard_trainer.tasks.classification import export
from lisard_trainer.tasks.classification.records import ClassificationEpoch
from lisard_trainer.training import checkpoint, loop, state


@pytest.fixture
def saved(make_recipe) -> checkpoint.Checkpoint:
    """A checkpoint of two weights."""
    record = ClassificationEpoch(
        epoch=1, loss=2.0, seconds=3.0, rate=0.1, cross_entropy=1.5, similarity=0.5, validation_accuracy=0.75
    )
    weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}
    random = torch.Generator().get_state()
    return checkpoint.Checkpoint(
        make_recipe(), ("x", "y"), "abc", "float32", 1, 5, (record,), weights, {"a.bias": torch.ones(2)}, random
    )


@contextlib.contextmanager
def largest_file(size: int):
    """Writing more than `size` bytes into a file fails inside the block, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def equal(one: checkpoint.Checkpoint, other: checkpoint.Checkpoint) -> bool:
    same_tensors = all(
        getattr(one, part).keys() == getattr(other, part).keys()
        and all(torch.equal(getattr(one, part)[key], value) for key, value in getattr(other, part).items())
        for part in ("network", "raw", "optimizer_state")
    )
    plain = ("recipe", "classes", "data_sha256", "precision", "epoch", "step", "history", "started_from")
    return same_tensors and all(getattr(one, name) == getattr(other, name) for name in plain)


def test_what_is_written_is_read(saved, tmp_path):
    state = dataclasses.replace(saved, raw={"a.bias": torch.ones(2)}, started_from="f00")
    assert equal(checkpoint.read_file(checkpoint.write(tmp_path, state)), state)
    assert json.loads((tmp_path / "last.json").read_text())["epoch"] == 1


def test_schema_1_is_read_with_todays_defaults(saved, tmp_path):
    """What `lisard train` wrote before averages and starting weights existed."""
    recipe = {"name": "old", "network": "resnet14w", "optimiser": {"epochs": 14, "batch": 64}}
    record = {
        "epoch": 1,
        "loss": 1.0,
        "cross_entropy": 1.0,
        "similarity": 0.0,
        "validation_accuracy": 0.5,
        "seconds": 1,
    }
    about = {
        "schema": 1,
        "recipe": recipe,
        "classes": ["x", "y"],
        "data_sha256": "abc",
        "precision": "bfloat16",
        "epoch": 1,
        "step": 5,
        "history": [record],
    }
    tensors = {"network.a": torch.ones(2), "momentum.a": torch.zeros(2), "random": saved.random}
    (tmp_path / "last.safetensors").write_bytes(save(tensors, metadata={"lisard": json.dumps(about)}))
    old = checkpoint.read(tmp_path)
    assert old.recipe == recipes.from_mapping(recipe) and old.recipe.checkpoint_selection == "last"
    assert list(old.optimizer_state) == ["momentum_buffer/a"]  # SGD's momentum had a name of its own up to schema 2
    assert old.trained is old.network and old.started_from == "" and old.history[0].rate == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.update(schema=99), "found schema 99.*schema 1, 2 or 3; train again"),
        (lambda about: about.pop("epoch"), "damaged description .KeyError"),
        (lambda about: about.update(history=[{"epoch": 1}]), "damaged description .TypeError"),
        (lambda about: about["recipe"].update(speed=1), "a recipe of another version .unknown recipe key"),
        (lambda about: about.update(epoch="two"), "damaged description .ValueError: epoch 'two'"),
        (lambda about: about.update(epoch=2), "epoch 2"),
        (lambda about: about.update(history=[]), "epoch 1"),
        (lambda about: about.update(precision="float7"), "precision 'float7'"),
        (lambda about: about.update(classes=["x", 3]), "classes"),
        (lambda about: about.update(step=-1), "step -1"),
        (lambda about: about.update(data_sha256=3), "a sha256 that is no text"),
        (lambda about: about["history"][0].update(loss="low"), "a history of other things than numbers"),
        (lambda about: about["recipe"].update(name="../../escaped"), "recipe key name: found '../../escaped'"),
    ],
)
def test_damaged_description_is_named(saved, tmp_path, change, message):
    path = checkpoint.write(tmp_path, saved)
    about = json.loads((tmp_path / "last.json").read_text())
    change(about)
    path.write_bytes(save(load(path.read_bytes()), metadata={"lisard": json.dumps(about)}))
    with pytest.raises(DataError, match=message):
        checkpoint.read(tmp_path)


def test_a_description_that_never_ends_is_named(tmp_path):
    deep = {"lisard": '{"schema": ' + "[" * 100_000}
    (tmp_path / "last.safetensors").write_bytes(save({"random": torch.ones(1)}, metadata=deep))
    with pytest.raises(DataError, match="damaged description .RecursionError"):
        checkpoint.read(tmp_path)


def test_weights_without_recipe_are_told_apart(tmp_path):
    (tmp_path / "last.safetensors").write_bytes(save({"a": torch.ones(1)}))
    with pytest.raises(DataError, match="weights without a recipe.*init: {weights: FILE}"):
        checkpoint.read(tmp_path)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=64), st.integers(0, 2000))
def test_any_damage_is_an_error_for_users(tmp_path_factory, noise, position):
    folder = tmp_path_factory.getbasetemp() / "damage"
    state = checkpoint.Checkpoint(recipes.Recipe("r"), ("x",), "", "float32", 1, 1, (), {}, {}, torch.zeros(8))
    content = bytearray(checkpoint.write(folder, state).read_bytes())
    content[position : position + len(noise)] = noise
    (folder / "last.safetensors").write_bytes(bytes(content))
    with contextlib.suppress(DataError):
        checkpoint.read(folder)


def test_full_disk_leaves_the_old_checkpoint_and_says_so(saved, tmp_path):
    checkpoint.write(tmp_path, saved)
    larger = dataclasses.replace(saved, epoch=2, raw={"a.weight": torch.zeros(200, 200)})
    with largest_file(20_000), pytest.raises(DataError, match=r"File too large, expected room for 0\.2 MB .*make room"):
        checkpoint.write(tmp_path, larger)
    assert equal(checkpoint.read(tmp_path), saved)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.json", "last.safetensors"]


def test_full_disk_while_training_stops_and_resumes(split, tmp_path, make_recipe):
    loop.fit(make_recipe(), split, tmp_path / "run", stop_after=1, show=False)
    with largest_file(50_000), pytest.raises(DataError, match="goes on from the checkpoint that is there"):
        loop.fit(make_recipe(), split, tmp_path / "run", stop_after=2, show=False)
    assert checkpoint.read(tmp_path / "run").epoch == 1
    loop.fit(make_recipe(), split, tmp_path / "run", stop_after=2, show=False)
    assert checkpoint.read(tmp_path / "run").epoch == 2


def test_folder_that_cannot_be_written_is_named(saved, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="writing .*last.safetensors.*; choose another folder.*it begins again"):
        checkpoint.write(tmp_path / "file", saved)


def test_full_disk_at_the_first_checkpoint_promises_nothing(saved, tmp_path):
    with largest_file(20), pytest.raises(DataError, match="make room, then give the same command again: it begins"):
        checkpoint.write(tmp_path, saved)


def changed_weights(folder, change):
    """Rewrites the checkpoint of a run with other tensors."""
    path = folder / checkpoint.FILE_NAME
    tensors = load(path.read_bytes())
    change(tensors)
    about = json.loads((folder / "last.json").read_text())
    path.write_bytes(save(tensors, metadata={"lisard": json.dumps(about)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("network.head.weight"), "found 1 missing head.weight, expected the"),
        (lambda tensors: tensors.update({"network.tail": torch.ones(1)}), "found 1 unexpected tail"),
        (lambda tensors: tensors.update({"network.head.bias": torch.ones(7)}), r"shape: head.bias \[7\] for \[3\]"),
    ],
)
def test_other_weights_are_listed_on_resume_and_export(split, tmp_path, make_recipe, change, message):
    loop.fit(make_recipe(), split, tmp_path, stop_after=1, show=False)
    changed_weights(tmp_path, change)
    with pytest.raises(DataError, match=message):
        loop.fit(make_recipe(), split, tmp_path, show=False)
    with pytest.raises(DataError, match=message):
        export.classifier(checkpoint.read(tmp_path))


def test_every_difference_of_recipes_is_shown_by_key(saved, make_recipe, tmp_path):
    other = make_recipe(seed=2, optimizer={"epochs": 3, "batch_size": 15, "max_lr": 0.1, "ema_decay": 0.9})
    checkpoint.check_same(saved, saved.recipe, "abc", "", tmp_path)
    with pytest.raises(DataError) as caught:
        checkpoint.check_same(saved, other, "abc", "", tmp_path)
    for part in ("seed: 1 there, 2 now", "optimizer.max_lr: 0.05 there, 0.1 now", "ema_decay: 0.0 there, 0.9 now"):
        assert part in str(caught.value)
    assert "epochs" not in str(caught.value)
    with pytest.raises(DataError, match="other training images"):
        checkpoint.check_same(saved, saved.recipe, "abd", "", tmp_path)


def test_other_validation_images_are_refused_where_they_are_known(saved, tmp_path):
    checkpoint.check_same(saved, saved.recipe, "abc", "any", tmp_path)  # written before they were named
    checkpoint.write(tmp_path, dataclasses.replace(saved, validation_sha256="one"))
    named = checkpoint.read(tmp_path)
    checkpoint.check_same(named, named.recipe, "abc", "one", tmp_path)
    with pytest.raises(DataError, match="found other validation images .two., expected those .* .one."):
        checkpoint.check_same(named, named.recipe, "abc", "two", tmp_path)


@pytest.mark.parametrize(
    ("classes", "found"),
    [
        (("y", "x"), "2 classes, 'y' among them, expected 2 as in the training, 'x' in its place"),
        (("x",), "1 classes, 'nothing' among them"),
        (("x", "y", "z"), "3 classes, 'z' among them"),
    ],
)
def test_other_classes_are_refused(saved, classes, found):
    checkpoint.check_classes(saved, ("x", "y"), "it", "look")
    with pytest.raises(DataError, match=found):
        checkpoint.check_classes(saved, classes, "it", "look")


BEST = {"checkpoint_selection": "best", "optimizer": {"epochs": 4, "batch_size": 15}}


def scored(run, folder, accuracies):
    """Goes through epochs that score so; accuracies are put into the history, so that which is best is known."""
    loop.step(run, torch.arange(15))
    for epoch, accuracy in enumerate(accuracies, start=1):
        record = ClassificationEpoch(
            epoch=epoch, loss=1.0, seconds=1.0, cross_entropy=1.0, similarity=0.0, validation_accuracy=accuracy
        )
        run.epoch, run.history = epoch, (*run.history, record)
        state.save(run, folder)


def test_best_epoch_is_kept_beside_the_last(split, tmp_path, make_recipe):
    scored(loop.start(make_recipe(**BEST), split, tmp_path), tmp_path, [0.5, 0.7, 0.7, 0.6])
    assert checkpoint.read(tmp_path).epoch == 2
    assert checkpoint.read_file(tmp_path / "last.safetensors").epoch == 4


def test_best_epoch_is_one_with_every_term(split, tmp_path, make_recipe):
    """A gradient term costs clean accuracy: the best of all epochs would be one without it."""
    recipe = make_recipe(**BEST, gradient={"form": "slope", "after": 2})
    run = loop.start(recipe, split, tmp_path)
    scored(run, tmp_path, [0.5, 0.9])
    assert checkpoint.read(tmp_path).epoch == 2 and not (tmp_path / checkpoint.BEST_FILE_NAME).is_file()
    run.history = ()
    scored(run, tmp_path, [0.5, 0.9, 0.7, 0.6])
    assert checkpoint.read(tmp_path).epoch == 3
    assert checkpoint.read_file(tmp_path / "last.safetensors").epoch == 4


def test_average_is_what_is_used_and_training_goes_on_from_the_raw_weights(split, tmp_path, make_recipe):
    optimizer = {"epochs": 2, "batch_size": 15, "max_lr": 0.05, "ema_decay": 0.95}
    run = loop.fit(make_recipe(optimizer=optimizer), split, tmp_path, stop_after=1, show=False)
    saved = checkpoint.read(tmp_path)
    assert torch.equal(saved.network["head.weight"], run.average.network.head.weight)
    assert torch.equal(saved.trained["head.weight"], run.network.head.weight)
    assert not torch.equal(saved.network["head.weight"], saved.trained["head.weight"])
    again = loop.start(make_recipe(optimizer=optimizer), split, tmp_path)
    assert torch.equal(again.network.head.weight, run.network.head.weight)
    assert torch.equal(again.average.network.head.weight, run.average.network.head.weight)
