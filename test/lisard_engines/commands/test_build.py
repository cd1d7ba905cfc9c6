"""`lisard build` on a small bundle: exit status, JSON, what is written, and wrong use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lisard_ros import bundle as bundles
from lisard_ros import cli


def test_it_adds_variants_in_place(small: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = small.bundle()
    assert cli.main(["build", str(bundle.path), "--variants", "u8s8", "--calibration", str(small.images())]) == 0
    shown = capsys.readouterr().out
    assert "gate passed: loses" in shown and "gray-box" in shown and "int8/u8s8" in shown
    assert [m.precision for m in bundles.read(bundle.path).manifest.models] == ["fp32", "int8"]


def test_what_the_gate_refuses_is_exit_status_1_and_the_bundle_stays(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = small.bundle(small.network(offset=6e4))
    out = tmp_path / "out"
    assert cli.main(["build", str(bundle.path), "--variants", "fp16", "--out", str(out), "--json"]) == 1
    (made,) = json.loads(capsys.readouterr().out)["variants"]
    assert not made["installed"] and not made["model"]["verification"]["passed"]
    assert len(bundles.read(out).manifest.models) == 1
    assert cli.main(["build", str(bundle.path), "--variants", "fp16", "--out", str(out), "--force"]) == 0
    assert bundles.read(out).manifest.models[1].verification.forced


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--variants", "u8s8"], "int8 needs real images"),
        (["--variants", "fp8"], "unknown variant"),
        (["--variants", "fp16", "--max-clean-loss", "-1"], "limits of the gate out of range"),
        (["--variants", "fp16", "--images", "/nowhere"], "no images there"),
        (["--variants", "u8s8", "--calibration", "/nowhere"], "no images there"),
    ],
)
def test_wrong_use_is_exit_status_2(
    words: list[str], message: str, small: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = small.bundle()
    assert cli.main(["build", str(bundle.path), *words]) == 2
    assert message in capsys.readouterr().err
    assert bundles.read(bundle.path).sha256 == bundle.sha256


def test_a_zip_needs_a_folder_to_write_to(small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = bundles.pack(small.bundle().path, tmp_path / "small.zip")
    assert cli.main(["build", str(packed), "--variants", "fp16"]) == 2
    assert "pass --out FOLDER" in capsys.readouterr().err
    assert cli.main(["build", str(packed), "--variants", "fp16", "--out", str(tmp_path / "new")]) == 0


def test_a_folder_that_is_neither_bundle_nor_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["build", str(tmp_path), "--variants", "fp16"]) == 2
    assert "a run folder needs --out" in capsys.readouterr().err


def test_an_unwritable_place_is_named(small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    words = ["build", str(small.bundle().path), "--variants", "fp16", "--out", str(tmp_path / "file" / "bundle")]
    assert cli.main(words) == 2
    told = capsys.readouterr().err
    assert "cannot write the bundle to --out" in told and "making and comparing" not in told


def test_a_corrupt_onnx_file_is_named(small: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = small.bundle(b"no model at all")
    assert cli.main(["build", str(bundle.path), "--variants", "fp16"]) == 2
    assert "model.onnx is not a valid ONNX file" in capsys.readouterr().err
