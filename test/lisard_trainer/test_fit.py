"""The training loop: it learns, it resumes bit for bit, it stops on NaN, and it says what does not fit."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from lisard_ros.errors import DataError
from lisard_trainer import checkpoint, data, fit, losses

LISARD = {"similarity": {"form": "normalised", "weight": 1.0}}


def same(one: checkpoint.Checkpoint, other: checkpoint.Checkpoint) -> bool:
    tensors = ("network", "momentum")
    equal = all(torch.equal(getattr(one, t)[k], getattr(other, t)[k]) for t in tensors for k in getattr(one, t))
    return equal and torch.equal(one.random, other.random) and one.step == other.step


@pytest.mark.parametrize(
    "changes", [LISARD, {**LISARD, "precision": "bfloat16"}, {"views": 1}], ids=["float32", "bfloat16", "plain"]
)
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(split, tmp_path, make_recipe, changes):
    recipe = make_recipe(**changes)
    fit.fit(recipe, split, tmp_path / "whole", show=False)
    fit.fit(recipe, split, tmp_path / "parts", stop_after=1, show=False)
    assert checkpoint.read(tmp_path / "parts").epoch == 1
    fit.fit(recipe, split, tmp_path / "parts", show=False)
    whole, parts = checkpoint.read(tmp_path / "whole"), checkpoint.read(tmp_path / "parts")
    assert whole.epoch == parts.epoch == 3 and same(whole, parts)
    without_time = [[dataclasses.replace(r, seconds=0.0) for r in saved.history] for saved in (whole, parts)]
    assert without_time[0] == without_time[1]


def test_another_seed_gives_another_network(split, tmp_path, make_recipe):
    for seed in (1, 2):
        fit.fit(make_recipe(seed=seed), split, tmp_path / str(seed), stop_after=1, show=False)
    assert not same(checkpoint.read(tmp_path / "1"), checkpoint.read(tmp_path / "2"))


def test_learns_colours(split, tmp_path, make_recipe):
    recipe = make_recipe(**LISARD, optimiser={"epochs": 8, "batch": 15, "peak_rate": 0.05})
    run = fit.fit(recipe, split, tmp_path, show=False)
    assert run.history[-1].loss < run.history[0].loss
    assert run.history[-1].validation_accuracy == 1.0
    assert run.history[-1].similarity > 0


def test_finished_run_is_left_alone(split, tmp_path, make_recipe):
    fit.fit(make_recipe(), split, tmp_path, show=False)
    before = (tmp_path / checkpoint.FILE_NAME).read_bytes()
    fit.fit(make_recipe(), split, tmp_path, show=False)
    assert (tmp_path / checkpoint.FILE_NAME).read_bytes() == before


def test_nan_stops_with_its_place_and_keeps_the_last_checkpoint(split, tmp_path, make_recipe):
    fit.fit(make_recipe(), split, tmp_path, stop_after=1, show=False)
    run = fit.start(make_recipe(), split, tmp_path, "cpu")
    with torch.no_grad():
        run.network.head.weight.fill_(float("nan"))
    with pytest.raises(fit.TrainingError, match=r"found loss nan in epoch 2, step 4.*lower optimiser.peak_rate"):
        fit.run_epoch(run, show=False)
    assert checkpoint.read(tmp_path).epoch == 1


def test_other_recipe_or_other_pictures_cannot_resume(split, tmp_path, make_recipe):
    fit.fit(make_recipe(), split, tmp_path, stop_after=1, show=False)
    with pytest.raises(DataError, match="another recipe .*choose another --out"):
        fit.fit(make_recipe(seed=5), split, tmp_path, show=False)
    changed = dataclasses.replace(split, train=dataclasses.replace(split.train, images=split.train.images + 1))
    with pytest.raises(DataError, match="other training pictures"):
        fit.fit(make_recipe(), changed, tmp_path, show=False)


def test_batch_of_one_is_refused(split, tmp_path, make_recipe):
    with pytest.raises(DataError, match="batch size: found 1, expected 2 to"):
        fit.fit(make_recipe(optimiser={"batch": 1}), split, tmp_path, show=False)


def test_control_without_similarity_differs_in_nothing_else(split, make_recipe, tmp_path):
    """Same seed, same pictures, same noise: the first step of both has the same cross entropy."""
    firsts = []
    for weight in ({"form": "none"}, {"form": "normalised", "weight": 1.0}):
        run = fit.start(make_recipe(similarity=weight), split, tmp_path / weight["form"], "cpu")
        firsts.append(fit.step(run, torch.arange(15)))
    assert all(firsts[0].part(view) == firsts[1].part(view) for view in ("clean", "noisy"))
    assert firsts[0].part("similarity") == 0 and firsts[1].part("similarity") > 0


@pytest.mark.parametrize("form", ["joined", "separate"])
def test_both_forwards_train(split, tmp_path, make_recipe, form):
    recipe = make_recipe(forward=form, similarity={"form": "official"}, loss={"alpha": "official"})
    run = fit.fit(recipe, split, tmp_path, stop_after=1, show=False)
    assert run.history[0].similarity > 0


def test_published_schedule_sets_two_rates(split, tmp_path, make_recipe):
    recipe = make_recipe(optimiser={"schedule": "official", "batch": 15, "epochs": 20})
    run = fit.start(recipe, split, tmp_path, "cpu")
    run.step = 7
    fit.step(run, torch.arange(15))
    expected = losses.rates_official(7, run.steps_per_epoch, 15, 20)
    assert [group["lr"] for group in run.optimiser.param_groups] == [expected.weights, expected.one_dim]


def test_precision_is_timed_without_touching_the_run(split, tmp_path, make_recipe):
    recipe = make_recipe(precision="auto")
    torch.manual_seed(3)
    assert fit.choose_precision(recipe, split, torch.device("cpu")) in fit.PRECISIONS
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


def test_broken_checkpoint_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file.*run `lisard train` first"):
        checkpoint.read(tmp_path)
    (tmp_path / checkpoint.FILE_NAME).write_bytes(b"half a file")
    with pytest.raises(DataError, match="unreadable file"):
        checkpoint.read(tmp_path)


def test_no_partial_files_stay_behind(split, tmp_path, make_recipe):
    fit.fit(make_recipe(), split, tmp_path, stop_after=1, show=False)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["last.json", "last.safetensors"]


def test_accuracy_counts_every_picture_once(split, make_recipe, tmp_path):
    run = fit.start(make_recipe(), split, tmp_path, "cpu")
    whole = fit.accuracy(run.network, split.train, run.device, "float32")
    small = fit.accuracy(run.network, split.train, run.device, "float32", batch=7)
    assert whole == small and 0 <= whole <= 1
    assert isinstance(split, data.Split)
