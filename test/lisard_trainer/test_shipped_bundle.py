"""The bundle that ships: its size, its card, its images, and that it does what its self test promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lisard_ros import bundle as bundles
from lisard_ros.attacks import store
from lisard_ros.evaluation import self_test
from lisard_ros.inference.pipeline import open_pipeline
from lisard_trainer import data, recipes
from lisard_trainer.data import labels
from lisard_trainer.tasks import base
from lisard_trainer.tasks.classification import attack_targets

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "models" / "traffic_signs"
DEMO = ROOT / "data" / "gtsrb_tracks"
MAX_BYTES = 6_000_000
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


def test_published_figures_are_of_this_bundle(bundle):
    report = json.loads((ROOT / "docs" / "results" / "robustness.json").read_text())
    source = next(s for s in report["sources"] if s["model"] == "lisard")
    assert source["sha256"] == bundle.sha256 and report["valid"]
    reference = [c for c in report["conditions"] if c["surrogate"] == "ordinary"]
    assert reference and all(c["holds"] for c in reference)
