"""Training a detector end to end on tiny scenes: it learns, resumes bit by bit, exports a bundle that answers."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import torch
from tiny_set import TINY, write_set

from lisard_ros import cli
from lisard_ros.errors import DataError
from lisard_ros.frames import Frame, Result
from lisard_ros.inference.pipeline import open_pipeline
from lisard_trainer import recipes, task_registry
from lisard_trainer.tasks.detection import network
from lisard_trainer.tasks.detection.evaluation import metrics
from lisard_trainer.tasks.detection.task import TASK
from lisard_trainer.training import checkpoint, loop

ROOT = Path(__file__).parents[4]
RECIPES = ROOT / "trainer" / "recipes"
pytestmark = pytest.mark.timeout(400)  # a whole training in a test: seconds on a free core


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A run folder of two epochs with every term switched on."""
    recipe, place = recipes.from_mapping(TINY), tmp_path_factory.mktemp("run")
    loop.fit(recipe, task_registry.of(recipe).load(recipe, str(folder)), place, show=False)
    return place


def test_a_resumed_run_ends_with_the_same_bits(folder, run, tmp_path):
    recipe = recipes.from_mapping(TINY)
    split = task_registry.of(recipe).load(recipe, str(folder))
    loop.fit(recipe, split, tmp_path, stop_after=1, show=False)
    assert checkpoint.read(tmp_path).epoch == 1
    loop.fit(recipe, split, tmp_path, show=False)
    whole, resumed = checkpoint.read(run), checkpoint.read(tmp_path)
    for part in ("network", "raw", "optimizer_state"):
        one, other = getattr(whole, part), getattr(resumed, part)
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert whole.raw["balance.weights"].min() > 0  # the weights of the terms are part of the state
    assert torch.equal(whole.random, resumed.random) and resumed.step == 4


def test_history_and_logs_name_every_term(run):
    saved = checkpoint.read(run)
    last = saved.history[-1]
    assert last.epoch == 2 and min(last.levels, last.instances, last.class_agreement, last.box_agreement) > 0
    assert 0 <= last.validation_ap <= last.validation_ap50 <= 1 and last.score == last.validation_ap
    assert (run / "epochs.csv").read_text().startswith("epoch,loss,seconds,rate,clean,noisy,levels,instances")
    assert "box_agreement" in (run / "steps.csv").read_text().splitlines()[0]


def test_another_recipe_is_refused(folder, run):
    recipe = recipes.from_mapping({**TINY, "noisy_weight": 0.5})
    with pytest.raises(DataError, match="noisy_weight: 1.0 there, 0.5 now"):
        loop.fit(recipe, task_registry.of(recipe).load(recipe, str(folder)), run, show=False)


def test_it_learns(learnt):
    assert checkpoint.read(learnt / "1").history[-1].validation_ap50 > 0.6


def test_the_bundle_answers_as_the_network_does(folder, run, tmp_path):
    saved, recipe = checkpoint.read(run), recipes.from_mapping(TINY)
    split = task_registry.of(recipe).load(recipe, str(folder))
    done = task_registry.of(recipe).export(saved, split, tmp_path / "bundle", "tiny", "lisard train tiny.yaml")
    manifest = done.bundle.manifest
    assert manifest.task == "detection" and manifest.labels == ("red", "blue") and manifest.input.resize == "letterbox"
    assert manifest.card.metrics["epochs"] == 2 and manifest.card.data_sha256 == split.train.sha256()
    pixels = cv2.imread(str(folder / "val" / "images" / "0.png"))
    answers = {}
    for backend in ("onnxruntime", "torch"):
        pipeline = open_pipeline(done.bundle.path, backend=backend)
        outcome = pipeline.run([Frame(pixels, "bgr", 0, "", "c")])[0]
        assert isinstance(outcome, Result)
        answers[backend] = outcome.detections.items
        pipeline.close()
    found = metrics.detect(network.deployable(recipe, 2, saved.network), split.validation.images[:1])
    assert len(answers["onnxruntime"]) == len(answers["torch"]) and len(found) == 1


@pytest.mark.timeout(500)  # two exports: 15 s on a free core
def test_commands_train_and_export(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # One epoch would leave batch norm's running statistics so far off that boxes lie millions of pixels away.
    settings = {**TINY, "optimizer": {"epochs": 4, "batch_size": 6, "max_lr": 0.02}}
    Path("tiny.yaml").write_text(json.dumps(settings))
    words = ["train", "tiny.yaml", "--data", str(folder), "--out", "run", "--bundle", "made"]
    assert cli.main(words) == 0
    assert "12 training and 12 validation images" in capsys.readouterr().out
    assert cli.main(["run", "made", str(folder / "val" / "images" / "0.png")]) == 0
    assert cli.main(["export", "run", "--out", "again", "--data", str(folder)]) == 0
    assert (tmp_path / "again" / "bundle.json").read_bytes()


# The recipes that ship ------------------------------------------------------------------------------------------------


def flat(recipe):
    return json.loads(recipe.as_json())


def test_controls_differ_from_the_shipped_recipe_only_in_what_they_control():
    shipped, noise, plain, surrogate = (
        flat(recipes.read(RECIPES / f"road_signs{name}.yaml")) for name in ("", "_noise_only", "_plain", "_surrogate")
    )
    terms = {"name", "levels", "instances", "agreement"}
    assert {key for key in shipped if shipped[key] != noise[key]} == terms
    assert {key for key in noise if noise[key] != plain[key]} == {"name", "views", "noise", "detail_mixing"}
    assert {key for key in plain if plain[key] != surrogate[key]} == {"name", "seed"}
    assert all(recipes.read(RECIPES / "road_signs.yaml").ratios)
    assert "CC0" in shipped["data"]["licence"] and shipped["augment"]["flip_classes"] == "trafficlight, crosswalk"


def test_the_shipped_recipe_fits_its_data_section(folder):
    recipe = recipes.read(RECIPES / "road_signs.yaml")
    with pytest.raises(DataError, match="no such file|no images|detection data|train/annotations.json"):
        TASK.load(recipe, str(folder / "train" / "images"))
