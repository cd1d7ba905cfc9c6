"""ONNX Runtime reports nothing to its maker and leaves no id of the machine where lisard_ros is imported first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIGN = ROOT / "data/gtsrb_tracks/00003/00007_00006.png"
# Its own switches for tests and CI would hide a missing one of ours.
ALSO_OFF = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "TF_BUILD", "GITHUB_ACTIONS")


def left_in_home(home: Path, code: str, **given: str) -> list[str]:
    """The files that a Python program leaves in an empty home folder."""
    environment = {name: value for name, value in os.environ.items() if name not in (*ALSO_OFF, "XDG_CACHE_HOME")}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "LISARD_CACHE": str(home.parent / "cache"), **given}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=100)
    return [path.name for path in home.rglob("*") if path.is_file()]


def test_a_model_that_answers_leaves_nothing(tmp_path: Path) -> None:
    (home := tmp_path / "home").mkdir()
    code = f"import lisard_ros\nwith lisard_ros.load('models/traffic_signs') as model: print(model({str(SIGN)!r}))"
    assert left_in_home(home, code) == []


@pytest.mark.parametrize("value", ["0", "1"])
def test_a_value_that_is_set_stays(tmp_path: Path, value: str) -> None:
    code = f"import os, lisard_ros; assert os.environ['ORT_DISABLE_TELEMETRY'] == {value!r}"
    assert left_in_home(tmp_path, code, ORT_DISABLE_TELEMETRY=value) == []
