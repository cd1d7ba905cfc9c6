"""docs/results/stability.md is what bench/stability.py makes of its JSON, of the models that ship; its statistics."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("bench_stability", ROOT / "bench" / "stability.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_of_the_result_and_of_the_shipped_models(bench: ModuleType) -> None:
    kept = json.loads(bench.RESULT.read_text(encoding="utf-8"))
    assert bench.RESULT.with_suffix(".md").read_text(encoding="utf-8") == bench.page(kept)
    for task, result in kept["tasks"].items():
        assert result["onnx_sha256"] == bench.onnx_sha256(bench.bundles.read(bench.BUNDLES[task]))
        best = bench.best_rates(result)
        assert f"bar of 50 % is **{'' if max(best.values()) >= 0.5 else 'not '}reached**" in bench.page(kept)


def test_the_threshold_lets_at_most_one_in_a_hundred_pass(bench: ModuleType) -> None:
    for values in (np.random.default_rng(0).random(665), np.zeros(75), np.r_[np.zeros(98), 1.0, 1.0]):
        over = values > bench.threshold_of(values)
        assert over.mean() <= 0.01
    distinct = np.arange(200.0)
    assert (distinct > bench.threshold_of(distinct)).sum() == 2


def test_auc_is_the_share_of_pairs_in_order(bench: ModuleType) -> None:
    random = np.random.default_rng(1)
    ours, theirs = random.integers(0, 5, 40).astype(float), random.integers(0, 5, 30).astype(float)
    pairs = (ours[:, None] > theirs).mean() + (ours[:, None] == theirs).mean() / 2
    assert bench.auc_of(ours, theirs) == pytest.approx(pairs)
    twice = bench.auc_of(ours, theirs, (np.r_[np.full(20, 2.0), np.zeros(20)], np.ones(30)))
    assert twice == pytest.approx(bench.auc_of(ours[:20], theirs))
    value, low, high = bench.auc_interval(ours, theirs, ["a"] * 40, [str(n) for n in range(30)])
    assert low <= value <= high


def test_boxes_meet_once_and_within_their_class(bench: ModuleType) -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    classes = np.array([0, 0, 1])
    assert bench.matched((boxes, classes), (boxes, classes)) == 3
    assert bench.matched((boxes[:2], classes[:2]), (boxes[:1], classes[:1])) == 1
    assert bench.matched((boxes, classes), (boxes, classes + 1)) == 0
    assert bench.matched((boxes[:0], classes[:0]), (boxes, classes)) == 0


def test_an_attacker_who_knows_the_signal_follows_its_gradient(bench: ModuleType) -> None:
    torch = bench.torch

    class Backbone(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(12, 3)

        def forward(self, x):  # type: ignore[no-untyped-def]
            return x.flatten(1), self.head(x.flatten(1) ** 2)

    torch.manual_seed(0)
    backbone, x = Backbone().double(), np.random.default_rng(2).random((2, 3, 2, 2)) * 0.5 + 0.25
    criterion = bench.Untargeted(np.array([0, 1]))

    def loss(images: np.ndarray) -> np.ndarray:
        return bench.SignalAware(backbone.float(), 0.02, 7).evaluate(images, criterion).loss

    slope = bench.SignalAware(backbone.float(), 0.02, 7).evaluate(x, criterion).gradient
    step = 1e-2
    moved = np.zeros_like(x)
    moved[:, 1, 0, 1] = step
    difference = (loss(x + moved) - loss(x - moved)) / (2 * step)
    np.testing.assert_allclose(slope[:, 1, 0, 1], difference, rtol=0.05, atol=1e-3)
