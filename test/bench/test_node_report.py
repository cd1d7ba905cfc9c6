"""docs/results/node.md: figures of two machines never stand in one table, and the page is that of the JSON file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import node_report  # noqa: E402

sys.path.pop(0)


def case(name: str, **machine: Any) -> dict[str, Any]:
    trial = {"rate": 5.0, "published": 20, "answered": 19, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0}
    return {
        "case": name,
        "repeats": 1,
        "commit": "ab" * 20,
        "highest_hz": {"ours": 12.0, "plain": 10.0},
        "rate_over_plain": 1.2,
        "cpu_over_plain": 0.8,
        "same_rates": {"ours": [trial], "plain": [trial]},
        **machine,
    }


def test_each_machine_has_tables_of_its_own() -> None:
    new = {"cpu": "CPU A", "cores": 2, "instruction_sets": ["avx2"]}
    cases = [case("first", **new), case("second", instruction_sets=["avx2", "amx_int8"]), case("third", **new)]
    text = node_report.load({"cases": cases, "plain_threads": 2, "set": []})
    _, on_a, on_other = text.split("\n### ")
    assert on_a.startswith("CPU A, 2 cores, with avx2\n") and "first" in on_a and "third" in on_a
    assert "second" not in on_a and "second" in on_other and "amx_int8" in on_other
    assert "| first | 5.0 | 20 | 1.0 / 2.0 / 3.0 (5.0 % lost) |" in on_a


def test_the_page_is_that_of_the_file(tmp_path: Path) -> None:
    stored = ROOT / "docs/results/node.json"
    node_report.write(json.loads(stored.read_text(encoding="utf-8")), tmp_path / "node.md")
    assert (tmp_path / "node.md").read_text(encoding="utf-8") == stored.with_suffix(".md").read_text(encoding="utf-8")
