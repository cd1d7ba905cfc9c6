"""The bundle that ships: its size, its card, its images, and that it does what its self test promises."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from lisard_ros import bundle as bundles
from lisard_ros.attacks import store
from lisard_ros.bundle import model_choice
from lisard_ros.evaluation import self_test
from lisard_ros.inference.pipeline import open_pipeline
from lisard_trainer import data, recipes
from lisard_trainer.data import labels
from lisard_trainer.tasks import base
from lisard_trainer.tasks.classification import attack_targets
from lisard_trainer.tasks.classification.evaluation.models import ClassifierLoader
from lisard_trainer.tasks.classification.task import ClassificationTask

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import evaluation_json  # noqa: E402

FOLDER = ROOT / "models" / "traffic_signs"
DEMO = ROOT / "data" / "gtsrb_tracks"
MAX_BYTES = 6_500_000
MAX_GTSRB_IMAGES = 400


@pytest.fixture(scope="module")
def bundle():
    return bundles.read(FOLDER)


def test_size_and_labels(bundle):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MAX_BYTES
    assert bundle.manifest.labels == labels.GTSRB
    assert (bundle.manifest.input.width, bundle.manifest.input.height) == (32, 32)


def test_card_names_recipe_data_and_terms(bundle):
    card = bundle.manifest.card
    recipe = recipes.from_mapping(json.loads(card.recipe))
    assert recipe == recipes.read(ROOT / "trainer" / "recipes" / "traffic_signs.yaml")
    assert recipe.similarity.form != "none" and card.seed == recipe.seed
    assert "not verified" in card.licence and "Stallkamp" in card.attribution and len(card.commit) == 40
    assert card.metrics["validation_accuracy"] > 0.96


def test_no_more_gtsrb_images_than_may_ship(bundle):
    shown = list(DEMO.glob("*/*.png"))
    assert len(shown) == 300 and "not verified" in (DEMO / "LICENCE.txt").read_text()
    assert len(shown) + len(bundle.manifest.self_test.labels) <= MAX_GTSRB_IMAGES


def test_stored_attacks_cover_the_demo_and_the_self_test(bundle):
    classes = [f"{label:05d}" for label in range(43)]
    targets = attack_targets.known(bundle, classes, DEMO)
    for name in (base.FGSM_NAME, base.PGD_NAME):
        stored = store.load(bundle, store.find(bundle, name))
        assert set(stored.rows) == set(targets.keys) and np.abs(stored.deltas).max() == 8
    assert store.load(bundle, store.find(bundle, "universal")).about.kind == "universal"


def test_demo_images_are_mostly_right(bundle):
    dataset = data.read(DEMO, 32)
    pipeline = open_pipeline(FOLDER)
    scores = pipeline.choice.backend.infer(data.to_unit(dataset.images).numpy())
    own = np.array([int(dataset.classes[label]) for label in dataset.labels.tolist()])
    assert (scores.argmax(1) == own).mean() > 0.9


def test_self_test_passes():
    report = self_test.run(open_pipeline(FOLDER))
    assert report.passed, report
    assert [case.injection for case in report.cases] == ["clean", "noise", "gray_fgsm", "gray_pgd10", "universal"]


PAGES = {
    "traffic_signs": ("robustness", "gray_box", "white_box", "sanity", "corruptions_accuracy"),
    "road_signs": ("detector", "detector_white"),
}


@pytest.mark.parametrize(("name", "page"), [(name, page) for name, pages in PAGES.items() for page in pages])
def test_published_figures_are_of_the_fp32_model_that_ships(name, page):
    """By its ONNX file and not by the bundle: an int8 file or a signature makes no page stale."""
    report = evaluation_json.read(ROOT / "docs" / "results" / f"{page}.json")
    source = next(s for s in report["sources"] if s["model"] == report["model"])
    shipped = bundles.read(ROOT / "models" / name)
    assert source["sha256"] == model_choice.pick(shipped.manifest).sha256, "run the command of bench/*.sh again"


def test_an_evaluation_names_the_same_model_whatever_else_is_in_the_bundle(bundle, tmp_path):
    only = tuple(model for model in bundle.manifest.models if model.precision == "fp32")
    contents = {name: data for name, data in bundle.contents.items() if "int8" not in name}
    without = bundles.write(tmp_path / "fp32", msgspec.structs.replace(bundle.manifest, models=only), contents)
    loader = ClassifierLoader(ClassificationTask())
    assert without.sha256 != bundle.sha256
    assert loader.of_bundle(without).about == loader.of_bundle(bundle).about


@pytest.mark.parametrize("name", PAGES)
def test_published_figures_of_int8_are_of_the_file_that_ships(name):
    report = json.loads((ROOT / "docs" / "results" / "int8.json").read_text())["models"][name]
    shipped = bundles.read(ROOT / "models" / name).manifest
    int8 = model_choice.pick(shipped, "int8", ("u8s8",))
    hint = f"run: python bench/int8.py {name} --calibration TRAINING_IMAGES"
    assert report["fp32_sha256"] == model_choice.pick(shipped).sha256, hint
    assert report["int8_sha256"] == int8.sha256, hint
    assert int8.verification is not None and int8.verification.passed and not int8.verification.forced
    losses = {line["condition"]: -100 * line["difference"]["value"] for line in report["lines"]}
    assert losses.pop("clean") == pytest.approx(int8.verification.clean_loss_points, abs=1e-3)
    assert max(losses.values()) == pytest.approx(int8.verification.robust_loss_points, abs=1e-3)
    assert set(losses) == {about.name for about in shipped.perturbations}


def test_every_attack_that_should_hurt_standard_training_did():
    report = evaluation_json.read(ROOT / "docs" / "results" / "robustness.json")
    assert report["valid"]
    reference = [r for r in report["requirements"] if r["surrogate"] == "ordinary"]
    assert reference and all(r["holds"] for r in reference)
