"""The training loop: it learns, it resumes bit for bit, it stops on NaN, and it says what does not fit."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from lisard_ros.errors import DataError
from lisard_trainer import data
from lisard_trainer.losses import lisard
from lisard_trainer.tasks.classification.evaluation import metrics
from lisard_trainer.tasks.classification.task import rank_advice
from lisard_trainer.training import checkpoint, distributed, divergence, loop, state

ADAMW = {"optimizer": {"kind": "adamw", "epochs": 3, "batch_size": 16, "max_lr": 0.01, "ema_decay": 0.9}}
LISARD = {"similarity": {"form": "normalised", "weight": 1.0}}


def same(one: checkpoint.Checkpoint, other: checkpoint.Checkpoint) -> bool:
    tensors = ("network", "optimizer_state")
    equal = all(torch.equal(getattr(one, t)[k], getattr(other, t)[k]) for t in tensors for k in getattr(one, t))
    return equal and torch.equal(one.random, other.random) and one.step == other.step


@pytest.mark.parametrize(
    "changes",
    [LISARD, {**LISARD, "precision": "bfloat16"}, {"views": 1}, ADAMW],
    ids=["float32", "bfloat16", "plain", "adamw"],
)
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(split, tmp_path, make_recipe, changes):
    recipe = make_recipe(**changes)
    loop.fit(recipe, split, tmp_path / "whole", show=False)
    loop.fit(recipe, split, tmp_path / "parts", stop_after=1, show=False)
    assert checkpoint.read(tmp_path / "parts").epoch == 1
    loop.fit(recipe, split, tmp_path / "parts", show=False)
    whole, parts = checkpoint.read(tmp_path / "whole"), checkpoint.read(tmp_path / "parts")
    assert whole.epoch == parts.epoch == 3 and same(whole, parts)
    without_time = [[dataclasses.replace(r, seconds=0.0) for r in saved.history] for saved in (whole, parts)]
    assert without_time[0] == without_time[1]


SECOND_STAGE = {
    "forward": "separate",
    "batch_norm": "frozen",
    "gradient": {"form": "logit_extrapolation", "share": 0.5},
}


def test_a_second_stage_with_frozen_statistics_and_another_network_resumes(split, tmp_path, make_recipe):
    """Bit for bit; its statistics are those of the first stage to the end."""
    short = {"epochs": 1, "batch_size": 15, "max_lr": 0.05}
    for name, seed in (("first", 1), ("other", 2)):
        loop.fit(make_recipe(seed=seed, optimizer=short), split, tmp_path / name, show=False)
    places = {"init": {"weights": str(tmp_path / "first")}, "cross": {"weights": str(tmp_path / "other")}}
    recipe = make_recipe(**SECOND_STAGE, **places)
    loop.fit(recipe, split, tmp_path / "whole", show=False)
    loop.fit(recipe, split, tmp_path / "parts", stop_after=1, show=False)
    loop.fit(recipe, split, tmp_path / "parts", show=False)
    first, whole, parts = (checkpoint.read(tmp_path / name) for name in ("first", "whole", "parts"))
    assert whole.epoch == 3 and same(whole, parts) and whole.history[-1].gradient > 0
    kept = [key for key in first.network if "running" in key]
    assert kept and all(torch.equal(first.network[key], whole.network[key]) for key in kept)
    assert not torch.equal(first.network["head.weight"], whole.network["head.weight"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "cross.weights: .*nowhere: found no such file"),
        ("small", "cross.weights: .*small: found images of 32 px, expected .* 16"),
    ],
)
def test_another_network_that_does_not_fit_is_refused(split, tmp_path, make_recipe, name, message):
    short = {"epochs": 1, "batch_size": 15, "max_lr": 0.05}
    loop.fit(make_recipe(optimizer=short, data={"size_px": 32}), split, tmp_path / "small", show=False)
    recipe = make_recipe(gradient=SECOND_STAGE["gradient"], cross={"weights": str(tmp_path / name)})
    with pytest.raises(DataError, match=message):
        loop.start(recipe, split, tmp_path / "run")


def in_former_names(file: Path, recipe: dict) -> None:
    """Writes the recipe in the words of release 0.1.0 into a checkpoint."""
    with safe_open(file, framework="pt") as opened:
        about = json.loads(opened.metadata()["lisard"])
    file.write_bytes(save(load_file(file), metadata={"lisard": json.dumps({**about, "recipe": recipe})}))


def test_a_checkpoint_with_former_names_of_recipe_keys_resumes(split, tmp_path, make_recipe):
    recipe = make_recipe(
        checkpoint_selection="best",
        forward="separate",
        detail_mixing={"first_255": 8, "min_share": 0.5},
        gradient={"form": "logit_extrapolation", "target_eps_255": 4, "share": 0.5},
        optimizer={"epochs": 2, "batch_size": 15, "max_lr": 0.05, "warmup_fraction": 0.3, "decay_norm_and_bias": True},
    )
    former = {
        "name": "tiny",
        "network": "resnet14n",
        "precision": "float32",
        "data": {"size_px": recipe.data.size_px},
        "select": "best",
        "forward": "separate",
        "start": {"weights": "", "without": ""},
        "overlay": {"first_255": 8, "least_share": 0.5},
        "gradient": {"form": "linear", "reach_255": 4, "share": 0.5},
        "optimiser": {"epochs": 2, "batch": 15, "peak_rate": 0.05, "warm_up_share": 0.3, "decay_one_dim": True},
    }
    loop.fit(recipe, split, tmp_path / "whole", show=False)
    loop.fit(recipe, split, tmp_path / "parts", stop_after=1, show=False)
    for name in (checkpoint.FILE_NAME, checkpoint.BEST_FILE_NAME):
        in_former_names(tmp_path / "parts" / name, former)
    assert checkpoint.read(tmp_path / "parts").recipe == recipe
    loop.fit(recipe, split, tmp_path / "parts", show=False)
    whole, parts = (checkpoint.read_file(tmp_path / name / checkpoint.FILE_NAME) for name in ("whole", "parts"))
    assert whole.epoch == parts.epoch == 2 and same(whole, parts)
    assert '"optimizer"' in (tmp_path / "parts" / "last.json").read_text()
    changed = dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, max_lr=0.1))
    with pytest.raises(DataError, match=r"optimizer.max_lr: 0.05 there, 0.1 now"):
        loop.fit(changed, split, tmp_path / "parts", show=False)


def test_another_seed_gives_another_network(split, tmp_path, make_recipe):
    for seed in (1, 2):
        loop.fit(make_recipe(seed=seed), split, tmp_path / str(seed), stop_after=1, show=False)
    assert not same(checkpoint.read(tmp_path / "1"), checkpoint.read(tmp_path / "2"))


def test_learns_colours(split, tmp_path, make_recipe):
    recipe = make_recipe(**LISARD, optimizer={"epochs": 8, "batch_size": 15, "max_lr": 0.05})
    run = loop.fit(recipe, split, tmp_path, show=False)
    assert run.history[-1].loss < run.history[0].loss
    assert run.history[-1].validation_accuracy == 1.0
    assert run.history[-1].similarity > 0


def test_finished_run_is_left_alone(split, tmp_path, make_recipe):
    loop.fit(make_recipe(), split, tmp_path, show=False)
    before = (tmp_path / checkpoint.FILE_NAME).read_bytes()
    loop.fit(make_recipe(), split, tmp_path, show=False)
    assert (tmp_path / checkpoint.FILE_NAME).read_bytes() == before


def test_nan_stops_with_its_place_and_keeps_the_last_checkpoint(split, tmp_path, make_recipe):
    loop.fit(make_recipe(), split, tmp_path, stop_after=1, show=False)
    run = loop.start(make_recipe(), split, tmp_path)
    with torch.no_grad():
        run.network.head.weight.fill_(float("nan"))
    place = r"in epoch 2, step 4, learning rate 0\.\d+: found loss nan"
    with pytest.raises(
        divergence.TrainingError, match=place + r".*lower optimizer.max_lr.*checkpoint of epoch 1 is intact"
    ):
        loop.run_epoch(run, divergence.DivergenceGuard(3))
    assert checkpoint.read(tmp_path).epoch == 1


@pytest.mark.parametrize(("decay", "what"), [(0, "answers on the validation images"), (1e6, "weights .*")])
def test_a_network_that_the_last_step_destroyed_is_not_saved(split, tmp_path, make_recipe, decay, what):
    """One step an epoch: its loss is finite, what it leaves is not, and no later loss would see that before saving."""
    settings = {"epochs": 2, "batch_size": 45, "max_lr": 1e38, "warmup_fraction": 0, "weight_decay": decay}
    recipe = make_recipe(optimizer=settings)
    with pytest.raises(
        divergence.TrainingError, match=f"after epoch 1.*found {what} that are not finite.*lower optimizer"
    ):
        loop.fit(recipe, split, tmp_path, show=False)
    assert not (tmp_path / checkpoint.FILE_NAME).exists()


def test_the_average_follows_the_weights_of_each_step(split, tmp_path, make_recipe):
    recipe = make_recipe(optimizer={"epochs": 3, "batch_size": 15, "max_lr": 0.05, "ema_decay": 0.5})
    run = loop.start(recipe, split, tmp_path)
    expected = run.network.head.weight.detach().clone()
    for number in (1, 2, 3):
        loop.step(run, torch.arange(15))
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * run.network.head.weight.detach()
    assert torch.allclose(run.average.network.head.weight, expected, atol=1e-7)


def test_terms_know_which_epoch_it_is(split, tmp_path, make_recipe):
    """A gradient term that begins with the second epoch is nothing in the first and something in the second."""
    recipe = make_recipe(gradient={"form": "slope", "after": 1}, optimizer={"epochs": 2, "batch_size": 15})
    run = loop.fit(recipe, split, tmp_path, show=False)
    assert run.history[0].gradient == 0 < run.history[1].gradient


def test_dropout_is_drawn_alike_after_a_resume(split, tmp_path, make_recipe):
    recipe = make_recipe(network="efficientnet_b2_published", views=1, optimizer={"epochs": 2, "batch_size": 45})
    loop.fit(recipe, split, tmp_path / "whole", show=False)
    loop.fit(recipe, split, tmp_path / "parts", stop_after=1, show=False)
    torch.rand(7)  # whatever else the process drew
    loop.fit(recipe, split, tmp_path / "parts", show=False)
    assert same(checkpoint.read(tmp_path / "whole"), checkpoint.read(tmp_path / "parts"))


def test_a_large_seed_trains(split, tmp_path, make_recipe):
    assert loop.fit(make_recipe(seed=2**63 - 1), split, tmp_path, stop_after=1, show=False).epoch == 1


def test_other_recipe_or_other_images_cannot_resume(split, tmp_path, make_recipe):
    loop.fit(make_recipe(), split, tmp_path, stop_after=1, show=False)
    with pytest.raises(DataError, match=r"another recipe \(seed: 1 there, 5 now\).*choose another --out"):
        loop.fit(make_recipe(seed=5), split, tmp_path, show=False)
    changed = dataclasses.replace(split, train=dataclasses.replace(split.train, images=split.train.images + 1))
    with pytest.raises(DataError, match="other training images"):
        loop.fit(make_recipe(), changed, tmp_path, show=False)


def test_batch_of_one_is_refused(split, tmp_path, make_recipe):
    with pytest.raises(DataError, match="batch size: found 1, expected 2 to"):
        loop.fit(make_recipe(optimizer={"batch_size": 1}), split, tmp_path, show=False)


def test_control_without_similarity_differs_in_nothing_else(split, make_recipe, tmp_path):
    """Same seed, same images, same noise: the first step of both has the same cross entropy."""
    firsts = []
    for weight in ({"form": "none"}, {"form": "normalised", "weight": 1.0}):
        run = loop.start(make_recipe(similarity=weight), split, tmp_path / weight["form"])
        firsts.append(loop.step(run, torch.arange(15)))
    assert all(firsts[0].part(view) == firsts[1].part(view) for view in ("clean", "noisy"))
    assert firsts[0].part("similarity") == 0 and firsts[1].part("similarity") > 0


@pytest.mark.parametrize("form", ["joined", "separate"])
def test_both_forwards_train(split, tmp_path, make_recipe, form):
    recipe = make_recipe(forward=form, similarity={"form": "official"}, loss={"alpha": "official"})
    run = loop.fit(recipe, split, tmp_path, stop_after=1, show=False)
    assert run.history[0].similarity > 0


def test_published_schedule_sets_two_rates(split, tmp_path, make_recipe):
    recipe = make_recipe(optimizer={"schedule": "official", "batch_size": 15, "epochs": 20})
    run = loop.start(recipe, split, tmp_path)
    run.step = 7
    loop.step(run, torch.arange(15))
    expected = lisard.rates_official(7, run.steps_per_epoch, 15, 20)
    assert [group["lr"] for group in run.optimizer.param_groups] == [expected.weights, expected.one_dim]


def test_precision_is_timed_without_touching_the_run(split, make_recipe, monkeypatch):
    monkeypatch.setattr(loop, "TIMING_STEPS", 2)
    recipe = make_recipe(precision="auto")
    run = state.begin(recipe, split, torch.device("cpu"), distributed.Team())
    before = torch.get_rng_state()
    assert loop.choose_precision(run) in loop.TIMED_PRECISIONS
    assert torch.equal(before, torch.get_rng_state()) and run.step == 0


def test_broken_checkpoint_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file.*run `lisard train` first"):
        checkpoint.read(tmp_path)
    (tmp_path / checkpoint.FILE_NAME).write_bytes(b"half a file")
    with pytest.raises(DataError, match="unreadable file"):
        checkpoint.read(tmp_path)


def test_no_partial_files_stay_behind(split, tmp_path, make_recipe):
    loop.fit(make_recipe(), split, tmp_path, stop_after=1, show=False)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "epochs.csv",
        "last.json",
        "last.safetensors",
        "steps.csv",
    ]


def test_accuracy_counts_every_image_once(split, make_recipe, tmp_path):
    run = loop.start(make_recipe(), split, tmp_path)
    whole = metrics.accuracy(run.network, split.train, run.device, "float32")
    small = metrics.accuracy(run.network, split.train, run.device, "float32", batch=7)
    assert whole == small and 0 <= whole <= 1
    assert isinstance(split, data.Split)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"similarity": {"form": "none"}}, None),
        ({"similarity": {"form": "normalised"}, "optimizer": {"batch_size": 65}}, None),
        ({"similarity": {"form": "normalised", "features": 14}}, None),
        ({"similarity": {"form": "normalised", "features": 15}}, "15 features over a batch of 15.*at most rank 14"),
        ({"similarity": {"form": "normalised", "projector": "used", "projector_width": 14}}, None),
        ({"similarity": {"form": "normalised"}}, "64 features over a batch of 15.*at most rank 14"),
        (
            {"similarity": {"form": "official", "projector": "dead", "projector_width": 8}},
            "optimizer.batch_size above 64",
        ),
    ],
)
def test_more_features_than_images_is_warned_of_with_the_cure(make_recipe, changes, shown):
    advice = rank_advice(make_recipe(**changes), 64)
    assert (advice is None) if shown is None else re.search(shown, advice)


def test_warning_is_given_once_at_the_start(split, tmp_path, make_recipe, capsys):
    loop.fit(make_recipe(**LISARD), split, tmp_path, stop_after=1, show=False)
    assert capsys.readouterr().err.count("lisard: warning: the similarity term correlates 64 features") == 1


@pytest.mark.parametrize(("keep", "steps"), [(True, 3), (False, 4)])
def test_last_smaller_batch_counts_as_a_step_when_kept(split, tmp_path, make_recipe, keep, steps):
    """45 images in batches of 14: three, and one of three rows."""
    recipe = make_recipe(views=1, optimizer={"epochs": 1, "batch_size": 14, "drop_last": keep, "shuffle": False})
    run = loop.fit(recipe, split, tmp_path, show=False)
    assert run.step == run.steps_per_epoch == steps
