"""Printed patches against a detector that has learnt its set: they hide nothing undeclared, resume, and do harm."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny_set import TINY, write_set

from lisard_ros import bundle as bundles
from lisard_ros import injection
from lisard_ros.attacks import patch_store
from lisard_ros.attacks.patch import PatchSettings, noise, patch
from lisard_ros.attacks.placement import PatchRenderer, Placement, draw, randoms_of
from lisard_ros.errors import AttackError, BundleError, UsageError
from lisard_ros.frames import Frame, Result
from lisard_ros.inference.pipeline import open_pipeline
from lisard_trainer import recipes, task_registry
from lisard_trainer.evaluation.cache import Cache
from lisard_trainer.evaluation.runner import ImageRange
from lisard_trainer.tasks import stored_attacks
from lisard_trainer.tasks.detection.evaluation import models, patches, suites
from lisard_trainer.tasks.detection.task import TASK
from lisard_trainer.training import checkpoint, loop

pytestmark = pytest.mark.timeout(400)  # a training: seconds on a free core
EVERY = ImageRange(0, 32, 32)
ON = suites.DetectionCondition("white_patch_on_20", "white_patch", suites.PATCH_LOSS, where="on", share=0.2)
NOISE = suites.DetectionCondition("noise_patch_on_20", "noise_patch", where="on", share=0.2)
BESIDE = replace(ON, where="beside", share=0.5)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The split, and the checkpoint of a detector that finds most of its boxes."""
    recipe = recipes.from_mapping(
        {
            "name": "learns",
            "task": "detection",
            "network": "resnet10q",
            "neck": 16,
            "depth": 1,
            "views": 1,
            "precision": "float32",
            "data": TINY["data"],
            "augment": {"mosaic": 0.0, "zoom_low": 0.9, "zoom_high": 1.1, "contrast_low": 0.9, "contrast_high": 1.1},
            "optimizer": {"epochs": 20, "batch_size": 8, "max_lr": 0.06, "ema_decay": 0.8},
        }
    )
    folder = write_set(tmp_path_factory.mktemp("set"), 32)
    split, place = task_registry.of(recipe).load(recipe, str(folder)), tmp_path_factory.mktemp("run")
    loop.fit(recipe, split, place, show=False)
    return split, checkpoint.read(place), folder


@pytest.fixture(scope="module")
def detector(learned):
    return models.DetectorLoader(TASK).of_checkpoint("plain", "baseline", learned[1])


@pytest.fixture(scope="module")
def exported(learned, tmp_path_factory):
    """Folder of its bundle."""
    split, saved, _ = learned
    place = tmp_path_factory.mktemp("exported") / "bundle"
    task_registry.of(saved.recipe).export(saved, split, place, "b", "")
    return place


@pytest.fixture
def shop(learned, tmp_path):
    return patches.Workshop(patches.attackers(learned[0].train), Cache(tmp_path))


def test_a_made_patch_hides_boxes_that_noise_at_the_same_places_does_not(learned, detector):
    """On images that it was not made on.

    The mean loss is not compared: boxes that stay missed dominate it, and it falls under some trainings.
    """
    training, scenes = learned[0].train, learned[0].validation
    x = training.images.float().div(255).contiguous()
    settings = PatchSettings(Placement("on", 0.4, 0.5, hides=0.5), side=16, steps=60, rate=0.1)
    regions, criterion = patches.regions_in(training, EVERY), training.criterion(ON.loss)
    made = patch(detector.attack_model, x, regions, criterion, settings, seed=0)
    y, wanted = scenes.images.float().div(255).contiguous(), scenes.criterion(ON.loss)
    places = [draw(settings.placement, patches.regions_in(scenes, EVERY), randoms_of(y.numpy(), s)) for s in range(4)]

    def found(x):
        """Share of the true boxes that are found."""
        return float(detector.attack_model.evaluate(x, wanted, gradient=False).scores.mean())

    def found_under(*prints):
        """The same under patches, the mean over places and patches."""
        return np.mean(
            [found(PatchRenderer(placements, 16, (64, 64)).render(y, one)) for placements in places for one in prints]
        )

    clean, baseline, attacked = found(y), found_under(noise(16, 0), noise(16, 1)), found_under(made)
    assert clean > 0.6 and attacked < clean - 0.1 and attacked < baseline - 0.05, (clean, baseline, attacked)


def test_patches_lie_where_they_may_and_in_whole_grey_levels(learned, shop):
    scenes = learned[0].validation
    for column in (NOISE, BESIDE):
        how = patches.laid(column, scenes, [ImageRange(0, 20, 32), ImageRange(20, 32, 32)])
        assert how.boxes == 32 and 0 < how.patches <= 32
        assert how.most_hidden <= (0.2 + 1e-6 if column.where == "on" else 0)
        x = patches.patched(shop.print_of(NOISE, None), column, scenes, EVERY)
        assert np.abs(x * 255 - np.rint(x * 255)).max() < 1e-4 and x.min() >= 0 and x.max() <= 1
        padding = np.ones(x.shape[2:], bool)
        padding[8:56] = False  # 64x48 in 64x64
        assert np.array_equal(x[..., padding], (scenes.images.float() / 255).numpy()[..., padding])
    whole, half = (patches.placements_in(ON, scenes, part) for part in (EVERY, ImageRange(6, 32, 32)))
    assert [(s.x_px, s.turn_rad) for s in whole if s.row >= 6] == [(s.x_px, s.turn_rad) for s in half]


def test_an_interrupted_patch_goes_on_where_it_stopped(detector, shop, tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "PATCH_STEPS", 5)
    monkeypatch.setattr(patches, "KEPT_EVERY", 2)
    column, calls, real = replace(ON, seed=3), [], patches.ascend
    whole = shop.print_of(column, detector)

    def stops(*arguments):
        calls.append(arguments[-2].steps)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(patches, "ascend", stops)
    again = patches.Workshop(shop.training, Cache(tmp_path / "other"))
    with pytest.raises(KeyboardInterrupt):
        again.print_of(column, detector)
    assert np.array_equal(again.print_of(column, detector), whole)
    again.print_of(column, detector)  # kept
    assert calls == [0, 2, 2, 4]


def test_training_images_without_boxes_make_no_patch(learned):
    scenes = learned[0].train
    with pytest.raises(UsageError, match="training images with boxes.*--only"):
        patches.attackers(replace(scenes, labels=scenes.labels * 0 - 1))


def test_a_patch_travels_with_a_detection_bundle_and_is_injected(learned, exported, tmp_path):
    _, saved, folder = learned
    shutil.copytree(exported, tmp_path / "bundle")
    request = stored_attacks.PatchRequest(0.2, steps=3)
    on_objects = replace(request, on_objects=True)
    for wanted in (on_objects, request):  # the second replaces the first
        bundle = stored_attacks.add_patch(tmp_path / "bundle", saved, str(folder), wanted)
        levels = patch_store.load(bundle, patch_store.find(bundle)).levels
        assert levels.dtype == np.uint8 and levels.shape == (3, 32, 32)  # a plain print, where three steps gain nothing
    (about,) = bundle.manifest.perturbations
    assert (about.name, about.kind, about.knowledge, about.steps) == ("patch", "patch", "gray-box", 3)
    assert patch_store.load(bundle, about).placement.share_high == 0.2
    pipeline = open_pipeline(bundles.read(tmp_path / "bundle").path)
    frame = Frame(np.full((48, 64, 3), 90, np.uint8), "rgb", 0, "", "camera")
    (answer,) = pipeline.attack([frame], injection.make(pipeline.bundle, "patch"))
    assert answer.applied and isinstance(answer.outcome, Result)
    pipeline.close()


def test_a_surrogate_of_another_size_and_an_impossible_share_are_refused(learned, exported):
    _, saved, folder = learned
    with pytest.raises(AttackError, match="impossible placement of a patch"):
        stored_attacks.add_patch(exported, saved, str(folder), stored_attacks.PatchRequest(1.5))
    larger = replace(saved.recipe, data=replace(saved.recipe.data, width_px=96, height_px=96))
    other = checkpoint.Checkpoint(**{**vars(saved), "recipe": larger})
    with pytest.raises(BundleError, match="found classes and size .*96, 96.*expected the bundle's .*64, 64"):
        stored_attacks.add_patch(exported, other, str(folder), stored_attacks.PatchRequest(0.2, steps=1))
