"""docs/results/engines.md is what bench/engines.py makes of engines.json."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_is_generated_from_the_json() -> None:
    spec = importlib.util.spec_from_file_location("bench_engines", ROOT / "bench/engines.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    results = json.loads(module.JSON.read_text(encoding="utf-8"))
    assert module.TABLE.read_text(encoding="utf-8") == module.table(results)
