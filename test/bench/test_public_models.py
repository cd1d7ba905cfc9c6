"""docs/results/public_models.md is what bench/public_models.py makes of its JSON; the files are those that it names."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_of_the_results() -> None:
    spec = importlib.util.spec_from_file_location("bench_public_models", ROOT / "bench" / "public_models.py")
    assert spec is not None and spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = bench
    spec.loader.exec_module(bench)
    kept = json.loads(bench.RESULT.read_text(encoding="utf-8"))
    assert bench.RESULT.with_suffix(".md").read_text(encoding="utf-8") == bench.page(kept)
    for name, result in kept.items():
        assert result["onnx_sha256"] == bench.MODELS[name].sha256
        assert [case["injection"] for case in result["report"]["cases"]][0] == "clean"
        assert len(result["report"]["cases"]) == 1 + len(bench.MODELS[name].attacks)
