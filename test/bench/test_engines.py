"""docs/results/engines.md is what bench/engines.py makes of engines.json."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_engines", ROOT / "bench/engines.py")
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_what_the_gate_left_out_is_not_timed(module: ModuleType) -> None:
    def made(flavour: str, installed: bool, precision: str = "int8") -> dict[str, object]:
        return {"model": {"precision": precision, "flavour": flavour}, "installed": installed}

    assert module._offered({"variants": [made("u8s8", True), made("s8s8", True)]}) == list(module.BACKENDS)
    without = module._offered({"variants": [made("u8s8", True), made("s8s8", False)]})
    assert set(module.BACKENDS) - set(without) == {"onnxruntime:int8/s8s8"}
    without = module._offered({"variants": [made("u8s8", False), made("s8s8", True)]})
    assert set(module.BACKENDS) - set(without) == {"onnxruntime:int8", "openvino:int8"}
    without = module._offered({"variants": [made("plain", False, "fp16")]})
    assert set(module.BACKENDS) - set(without) == {"onnxruntime:fp16"}


def test_the_table_is_generated_from_the_json(module: ModuleType) -> None:
    results = json.loads(module.JSON.read_text(encoding="utf-8"))
    assert module.TABLE.read_text(encoding="utf-8") == module.table(results)
