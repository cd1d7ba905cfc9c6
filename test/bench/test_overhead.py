"""docs/results/overhead.md is what bench/overhead.py makes of overhead.json; it says what was not reached."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def overhead() -> Any:
    """The module of the bench."""
    spec = importlib.util.spec_from_file_location("bench_overhead", ROOT / "bench/overhead.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_generated_from_the_json(overhead: Any) -> None:
    results = json.loads(overhead.JSON.read_text(encoding="utf-8"))
    assert overhead.TABLE.read_text(encoding="utf-8") == overhead.table(results)
    assert {case["name"] for case in results["cases"]} == set(overhead.ASKED)
    assert all(case["report"]["clock"] == "cpu" for case in results["cases"])


def test_a_ratio_above_what_is_asked_is_no(overhead: Any) -> None:
    results = json.loads(overhead.JSON.read_text(encoding="utf-8"))
    worse = copy.deepcopy(results)
    for case in worse["cases"]:
        for one in case["report"]["measured"]:
            one["pipeline_by_raw"] = overhead.ASKED[case["name"]] + 0.01
    rows = [line for line in overhead.table(worse).splitlines() if line.startswith("| ") and "<=" in line]
    assert len(rows) == sum(len(case["report"]["measured"]) for case in results["cases"])
    assert all("| no |" in row for row in rows)
