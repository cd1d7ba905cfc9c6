"""docs/results/detector_variants.md is what bench/detector_variants.py makes of its JSON."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import evaluation_json  # noqa: E402


@pytest.fixture(scope="module")
def bench() -> Any:
    """The module of the bench."""
    spec = importlib.util.spec_from_file_location("bench_detector_variants", ROOT / "bench/detector_variants.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_table_is_generated_from_the_json(bench: Any) -> None:
    results = json.loads(bench.RESULTS.read_text(encoding="utf-8"))
    assert bench.RESULTS.with_suffix(".md").read_text(encoding="utf-8") == bench.table(results)
    evaluated = evaluation_json.read(ROOT / "docs/results/detector.json")
    assert results["pictures_sha256"] == evaluated["images_sha256"]
    own = [line for line in evaluated["lines"] if line["model"] == evaluated["model"]]
    fp32 = {line["condition"]: 100 * line["ap50"]["value"] for line in own}
    for loss in results["losses"]:  # the same images, attacked alike
        assert loss["reference_ap50"] == pytest.approx(fp32[loss["column"]], abs=0.1)


@pytest.mark.parametrize(
    ("column", "points", "kept"),
    [
        ("clean", 1.0, "yes"),
        ("clean", 1.01, "no"),
        ("gray_ti_joint_8", 1.5, "yes"),
        ("gray_ti_joint_8", 1.51, "no"),
        ("clean", float("nan"), "no"),
    ],
)
def test_what_loses_more_than_asked_is_not_kept(bench: Any, column: str, points: float, kept: str) -> None:
    results = copy.deepcopy(json.loads(bench.RESULTS.read_text(encoding="utf-8")))
    for loss in results["losses"]:
        loss["loss_points"] = points if loss["column"] == column else 0.0
    rows = [line for line in bench.table(results).splitlines() if line.startswith("|") and "->" in line]
    assert len(rows) == len({loss["variant"] for loss in results["losses"]})
    assert all(f"| {kept} |" in row for row in rows)
