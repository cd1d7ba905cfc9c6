"""docs/results/candidates.md is what bench/candidates.py makes of its JSON files; the shipped network is taken over."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")

from lisard_ros import bundle as bundles  # noqa: E402
from lisard_ros.backends.pytorch import load_network  # noqa: E402
from lisard_trainer import data, recipes  # noqa: E402
from lisard_trainer.tasks.classification.task import TASK  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("bench_candidates", ROOT / "bench" / "candidates.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_of_the_results_and_of_the_selection_half(bench: ModuleType) -> None:
    report = bench.evaluation_json.read(RESULTS / "candidates.json")
    about = json.loads((RESULTS / "candidates_models.json").read_text())
    assert bench.page(report, about) == (RESULTS / "candidates.md").read_text(encoding="utf-8")
    listed = [line for line in (ROOT / bench.TRACKS["selection"]).read_text().splitlines() if not line.startswith("#")]
    assert report["tracks"] == len(listed) and f"--tracks {bench.TRACKS['selection']}" in report["command"]


def test_recipes_of_the_candidates_can_be_trained_again(bench: ModuleType) -> None:
    about = json.loads((RESULTS / "candidates_models.json").read_text())
    for name, recipe in about["recipes"].items():
        kept = {key: value for key, value in recipe.items() if key not in ("started_from_sha256", "seconds")}
        assert recipes.from_mapping(kept, name).seed == recipe["seed"]


def test_the_checkpoint_of_the_shipped_bundle_answers_like_it(bench: ModuleType) -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    classes = tuple(f"{number:05d}" for number in range(43))
    part = data.ImageDataset(images, torch.arange(4), tuple("abcd"), tuple("abcd"), classes)
    saved = bench.shipped_checkpoint(data.Split(part, part))
    bundle = load_network(bundles.read(ROOT / bench.BUNDLE))
    with torch.no_grad():
        assert torch.equal(TASK.trained_network(saved)(data.to_unit(images)), bundle(data.to_unit(images)))
    assert saved.classes == classes and saved.epoch == 12 and saved.recipe.name == "traffic_signs"
