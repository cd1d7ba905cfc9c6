"""`lisard bench` on a small bundle: what a report holds, and wrong use."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lisard_engines import machine
from lisard_engines.commands import bench
from lisard_ros import cli


def test_a_report_holds_times_stages_and_the_machine(small: Any, tmp_path: Path, capsys: Any) -> None:
    bundle = small.bundle()
    out = tmp_path / "bench.json"
    words = ["bench", str(bundle.path), "--rounds", "5", "--batches", "1,4", "--threads", "1", "--json", str(out)]
    assert cli.main([*words, "--backends", "onnxruntime:fp32,onnxruntime"]) == 0
    report = json.loads(out.read_text())
    assert report["bundle_sha256"] == bundle.sha256 and report["schema_version"] == 1
    assert report["machine"]["cores"] >= 1 and report["machine"]["cpu"]
    first, second = report["measured"]
    assert [b["batch"] for b in first["batches"]] == [1, 4] and first["batches"][0]["ratio"] == 1.0
    for found in (first, second):
        total = sum(found[stage]["p50_ms"] for stage in ("preprocess", "infer", "postprocess"))
        assert total > 0 and found["pipeline"]["p50_ms"] > 0 and found["pipeline_by_raw"] > 0
        assert found["pipeline"]["n"] == 5 and found["batches"][1]["pictures_per_s"] > 0
    assert "runtime alone" in capsys.readouterr().out


def test_openvino_is_measured_beside_it(small: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino", reason="requirements/engines.txt is not installed")
    words = ["bench", str(small.bundle().path), "--rounds", "2", "--batches", "1", "--json"]
    assert cli.main([*words, "--backends", "onnxruntime:fp32,openvino:fp32"]) == 0
    assert "OpenVINO" in json.loads(capsys.readouterr().out)["measured"][1]["backend"]


def test_two_stages_are_held_against_the_sum_of_their_runtimes(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = small.detector()
    words = ["bench", str(small.bundle().path), "--rounds", "3", "--batches", "1", "--threads", "1", "--clock", "cpu"]
    assert cli.main([*words, "--detector", str(detector.path), "--frame-size", "64x48", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (found,) = report["measured"]
    assert (report["detector_sha256"], report["clock"]) == (detector.sha256, "cpu") and "at 64x48" in report["frames"]
    assert found["looks"] >= 1 and found["pipeline_by_raw"] > 0
    assert found["pipeline"]["p50_ms"] > 0 and found["batches"][0]["latency"]["p50_ms"] > 0


def test_a_frame_is_given_as_a_camera_gives_it(small: Any) -> None:
    args = argparse.Namespace(images=None, frame_size="20x10")
    frames, _ = bench.frames_of(args, small.bundle())
    own, _ = bench.frames_of(argparse.Namespace(images=None, frame_size=None), small.bundle())
    assert all((f.width_px, f.height_px, f.colour) == (20, 10, "bgr") for f in frames)
    means = [(f.rgb().mean(axis=(0, 1)), o.rgb().mean(axis=(0, 1))) for f, o in zip(frames, own, strict=True)]
    assert all(np.abs(one - other).max() < 8 for one, other in means)


def test_a_bundle_without_images_is_measured_on_a_grey_one(small: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", str(small.detector().path), "--rounds", "2"]) == 0
    assert "a grey image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backends", "onnxruntme:fp32"], "did you mean 'onnxruntime"),
        (["--backends", "onnxruntime:fp23"], "unknown precision"),
        (["--backends", "onnxruntime:int8"], "has no int8 model"),
        (["--backends", "tensorrt:fp32"], "stage: "),
        (["--batches", "one"], "cannot read --batches"),
        (["--batches", "0"], "nothing to measure"),
        (["--rounds", "0"], "nothing to measure"),
        (["--frame-size", "640"], "cannot read --frame-size"),
        (["--frame-size", "0x480"], "expected such as 640x480"),
        (["--detector", "nowhere"], "nowhere"),
        (["--json", "nowhere/bench.json", "--rounds", "0"], "cannot write the result to --json"),
    ],
)
def test_wrong_use(words: list[str], message: str, small: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", str(small.bundle().path), *words]) == 2
    assert message in capsys.readouterr().err


def test_power_mode_and_clocks_are_asked_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, answer in (("nvpmodel", "NV Power Mode: 15W\\n2"), ("nvidia-smi", "RTX 4090, 550, 2520 MHz")):
        (tmp_path / name).write_text(f"#!/bin/sh\nprintf '{answer}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = machine.describe()
    assert found.power_mode == "NV Power Mode: 15W 2" and found.gpu_clocks.startswith("RTX 4090")
    said = {
        "scaling_cur_freq": "1500000",
        "cpuinfo_min_freq": "700000",
        "cpuinfo_max_freq": "2200000",
        "scaling_governor": "schedutil",
    }
    for name, value in said.items():
        (tmp_path / name).write_text(value)
    assert machine._clocks(tmp_path) == "1500 MHz of 700 to 2200, governor schedutil"
