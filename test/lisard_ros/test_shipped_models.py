"""Every model that ships proves itself on this machine: its self test holds, and holds it to something."""

from __future__ import annotations

from pathlib import Path

import pytest

from lisard_ros import bundle as bundles
from lisard_ros.evaluation import self_test
from lisard_ros.inference.pipeline import open_pipeline

ROOT = Path(__file__).resolve().parents[2]
MODELS = sorted(path.parent for path in (ROOT / "models").glob("*/bundle.json"))
MEGABYTE = 10**6


def test_models_ship() -> None:
    assert ROOT / "models" / "traffic_signs" in MODELS


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_its_self_test_holds(path: Path) -> None:
    report = self_test.run(open_pipeline(path, threads=1))
    assert report.passed, [str(case) for case in report.cases if not case.passed]
    limits = {case.injection: case.min_accuracy for case in report.cases}
    assert limits["clean"] >= 0.5 and {"noise", "gray_pgd10", "universal"} <= set(limits)


def test_the_patch_of_traffic_signs_hurts_where_it_lies() -> None:
    """More than plain prints in its places (docs/results/patches.md)."""
    path = ROOT / "models" / "traffic_signs"
    report = self_test.run(open_pipeline(path, threads=1), suite=("clean", "attack/patch_object/40"))
    clean, patched = report.cases
    assert patched.knowledge == "white-box" and patched.accuracy.n == clean.accuracy.n and not patched.not_applicable
    assert patched.accuracy.share < clean.accuracy.share / 2


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_it_is_small_and_says_where_it_comes_from(path: Path) -> None:
    bundle = bundles.read(path)
    assert sum(len(content) for content in bundle.contents.values()) <= 24 * MEGABYTE
    card = bundle.manifest.card
    assert card is not None and card.licence and card.data and card.commit
