"""docs/results/patches.md is what bench/patches.py makes of its JSON, of the models and patches that ship."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lisard_ros import bundle as bundles

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("bench_patches", ROOT / "bench" / "patches.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_of_the_result_and_of_the_shipped_patches(bench: ModuleType) -> None:
    kept = json.loads(bench.RESULT.read_text(encoding="utf-8"))
    assert bench.RESULT.with_suffix(".md").read_text(encoding="utf-8") == bench.page(kept)
    for name, result in kept.items():
        manifest = bundles.read(ROOT / "models" / name).manifest
        assert result["onnx_sha256"] == manifest.files["model.onnx"]
        assert result["patch_sha256"] == manifest.files["patch.npz"]
        clean = {one["clean"]["hits"] for one in result["prints"]}
        assert len(clean) == 1 and len({one["right"]["n"] for one in result["prints"]}) == 1, "the same images"


@pytest.mark.parametrize(("high", "words"), [(-0.01, "**stronger**"), (0.01, "**not shown to be stronger**")])
def test_the_verdict_follows_from_the_interval(bench: ModuleType, high: float, words: str) -> None:
    kept: dict[str, Any] = json.loads(bench.RESULT.read_text(encoding="utf-8"))
    for result in kept.values():
        result["minus_control"]["high"] = high
    assert bench.page(kept).count(words) == len(kept)


def test_all_prints_lie_at_the_same_places_of_the_same_images(bench: ModuleType) -> None:
    bundle = bundles.read(ROOT / "models" / "traffic_signs")
    args = bench.argparse.Namespace(images=None, count=6, threads=1)
    result = bench.measure("traffic_signs", args)
    assert {one["images"] for one in result["prints"]} == {6} and len(result["prints"]) == 10
    assert result["patch_sha256"] == bundle.manifest.files["patch.npz"]
