"""scripts/test_aarch64.py: what it asks for, and what it reports where it cannot run. The run itself is not in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import test_aarch64 as script  # noqa: E402


def test_requirements_are_those_of_the_python() -> None:
    jetpack, debian = script._requirements("3.10"), script._requirements("3.11")
    assert [line for line in jetpack if line.startswith("onnxruntime")] == ["onnxruntime==1.23.2"]
    assert [line for line in debian if line.startswith("onnxruntime")] != ["onnxruntime==1.23.2"]
    for lines in (jetpack, debian):
        names = [line.split("==")[0] for line in lines]
        assert len(names) == len(set(names)) and {"numpy", "msgspec", "rosbags"} <= set(names)


def test_a_machine_that_cannot_run_it_is_told_why(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/test_aarch64.py"), "--cache", str(tmp_path / "cache")]
    environ = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "test-aarch64 cannot run here: apt-get is missing" in done.stderr and "Traceback" not in done.stderr


def test_an_emulated_cpu_is_described(tmp_path: Path) -> None:
    script.describe_cpu(tmp_path)
    assert "CPU part\t: 0xd0c" in (tmp_path / "proc/cpuinfo").read_text()
    assert (tmp_path / "sys/devices/system/cpu/present").read_text() == "0\n"


def test_precisions_of_the_shipped_bundles() -> None:
    assert all("fp32" in script.precisions(bundle) for bundle in script.BUNDLES)
