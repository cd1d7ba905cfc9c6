"""The table of docs/replay.md is what bench/replay_figures.py makes of the stored results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def figures() -> Any:
    """The module of the bench."""
    spec = importlib.util.spec_from_file_location("bench_replay_figures", ROOT / "bench/replay_figures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_generated_from_the_results(figures: Any) -> None:
    text = figures.PAGE.read_text(encoding="utf-8")
    assert figures.BEGIN in text and figures.filled(text) == text


def test_each_result_has_its_rows(figures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    assert figures.table() == figures.HEAD
    about = {"commit": "c" * 40 + "+changes", "cpu": "a CPU"}
    one = {"decode_ms": 2.0, "inference_ms": 10.0, "replay_share": 0.875, "conditions_by_inference": 6.2}
    run = {**about, "frames": 18000, "injections": "a,b,c,d,e", "slope_mb_an_hour": 3.2}
    run |= {"growth_in_the_pass_mb": 4.0, "growth_with_report_mb": 6.5}
    page = {**about, "frames": 200, "injections": "a,b,c,d,e", "size_mb": 1.5, "opened_median_s": 0.5}
    for name, content in (("speed", {**about, "classifier": one, "detector": one}), ("memory", {"runs": [run]})):
        (tmp_path / f"replay_{name}.json").write_text(json.dumps(content))
    (tmp_path / "replay_page.json").write_text(json.dumps(page))
    lines = figures.table().splitlines()[2:]
    assert len(lines) == 9 and all("`cccccccccc with changes`, a CPU" in line for line in lines)
    assert "100 frames/s" in lines[0] and "| 0.88x | >= 0.9x |" in lines[0]
    assert "conditions: 6" in lines[4] and "3.2 MB an hour" in lines[4]
    assert "| 4.0 MB |  |" in lines[5] and "report and JSON | 6.5 MB | <= 50 |" in lines[6]
    assert "200 frames of a detector and 5 attacks" in lines[7] and "1.50 MB" in lines[7]
