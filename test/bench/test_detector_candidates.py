"""docs/results/detector_candidates.md is what its script makes of the JSON file; attacks pass a resize."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lisard_ros.attacks.model import BoxCriterion  # noqa: E402
from lisard_trainer import recipes  # noqa: E402
from lisard_trainer.tasks.detection.attack_model import DetectorAttackModel  # noqa: E402
from lisard_trainer.tasks.detection.network import DetectorSpec, create  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results" / "detector_candidates.json"
CRITERION = BoxCriterion(np.array([[[8.0, 12, 40, 52]]]), np.array([[1]]))


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("bench_detector_candidates", ROOT / "bench/detector_candidates.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def network():
    """An untrained detector of 64x64 in float64."""
    torch.manual_seed(0)
    return create(DetectorSpec("resnet10q", 3, 64, 64, neck=16, depth=1)).double().eval()


def test_the_page_is_of_the_results(bench: ModuleType) -> None:
    report = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert bench.page(report) == RESULTS.with_suffix(".md").read_text(encoding="utf-8")


def test_recipes_of_the_models_can_be_trained_again() -> None:
    for model in json.loads(RESULTS.read_text(encoding="utf-8"))["models"]:
        assert recipes.from_mapping(model["recipe"], model["name"]).seed == model["recipe"]["seed"]


def test_an_attack_in_the_networks_own_size_is_unchanged(bench: ModuleType, network) -> None:
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    own = DetectorAttackModel(network).evaluate(x, CRITERION)
    resized = bench.ResizedAttackModel(network, (64, 64)).evaluate(x, CRITERION)
    assert torch.allclose(own.loss, resized.loss) and torch.allclose(own.gradient, resized.gradient)


def test_the_gradient_passes_the_resize(bench: ModuleType, network) -> None:
    """By central differences, for boxes in the pixels of the larger image."""
    model = bench.ResizedAttackModel(network, (64, 64))
    aim = BoxCriterion(CRITERION.boxes_xyxy_px * 1.5, CRITERION.labels)
    x = torch.rand(1, 3, 96, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    direction = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    slope = float((model.evaluate(x, aim).gradient * direction).sum())
    ends = [float(model.evaluate(x + sign * 1e-5 * direction, aim, gradient=False).loss) for sign in (1, -1)]
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-3)
    small = torch.nn.functional.interpolate(x, (64, 64), mode="bilinear", antialias=True)
    assert float(model.evaluate(x, aim).loss) == pytest.approx(
        float(DetectorAttackModel(network).evaluate(small, CRITERION).loss)
    )
