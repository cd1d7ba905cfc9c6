"""int8 is taken by itself only where its answers agree with fp32 as verified, and where it is faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lisard_ros import bundle as bundles
from lisard_ros.bundle.manifest import ModelFile, Verification
from lisard_ros.errors import BundleError
from lisard_ros.evaluation import precision_choice
from lisard_ros.evaluation.precision_choice import FP32, Int8Check

ROOT = Path(__file__).resolve().parents[3]


def verified(agreement: float = 0.99, max_abs_difference: float = 1.0) -> Verification:
    return Verification(
        against="fp32",
        backend="int8",
        pictures=100,
        attacked=0,
        pictures_sha256="",
        max_abs_difference=max_abs_difference,
        agreement=agreement,
        clean_loss_points=0.0,
        robust_loss_points=0.0,
        clean_limit_points=1.0,
        robust_limit_points=1.5,
        passed=True,
    )


def check(agreement: float = 1.0, max_abs_difference: float = 0.5, images: int = 32) -> Int8Check:
    return Int8Check(
        images=images, agreement=agreement, max_abs_difference=max_abs_difference, fp32_ms=2.0, int8_ms=1.0
    )


@pytest.mark.parametrize(
    ("found", "worse"),
    [
        (check(), ""),
        (check(agreement=0.965), ""),
        (check(agreement=0.9, images=10), ""),
        (check(agreement=0.8, images=10), "80.0 % of the answers agree with fp32, 99.0 % did"),
        (check(agreement=float("nan")), "nan % of the answers"),
        (check(max_abs_difference=1.05), ""),
        (check(max_abs_difference=5.0), "outputs differ from fp32 by 5, by at most 1 when it was verified"),
        (check(max_abs_difference=float("nan")), "outputs differ"),
    ],
)
def test_what_is_worse_than_in_the_verification_is_named(found: Int8Check, worse: str) -> None:
    text = found.disagreement(verified())
    assert text.startswith(worse) and bool(text) == bool(worse)


def test_int8_that_nobody_verified_is_not_chosen(tiny: Any) -> None:
    int8 = ModelFile(file="q.onnx", precision="int8", scheme="u8s8")
    files = {"q.onnx": tiny.classifier_onnx()}
    both = tiny.classifier("both", files=files, models=(ModelFile(file="model.onnx"), int8))
    choice = precision_choice.choose(both, 1)
    assert (choice.precision, choice.warning) == (FP32, "") and "no verified int8" in choice.reason
    with pytest.raises(BundleError, match="no fp32 model .*: found int8/u8s8, expected fp32, .*; make the bundle of"):
        precision_choice.choose(tiny.classifier("alone", files=files, models=(int8,)), 1)


@pytest.mark.parametrize("name", ["traffic_signs", "road_signs"])
def test_the_int8_file_of_a_shipped_bundle_is_right_on_this_cpu(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With VNNI and without: 7-bit weights do not saturate. Whether int8 is faster is up to the CPU."""
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    bundle = bundles.read(ROOT / "models" / name)
    choice = precision_choice.choose(bundle, 1)
    assert choice.warning == "" and ("agrees" in choice.reason or "not faster here" in choice.reason)
    (kept,) = (tmp_path / "cache/int8_checks").iterdir()
    before = kept.stat().st_mtime_ns
    assert precision_choice.choose(bundle, 1) == choice and kept.stat().st_mtime_ns == before, "measured once"


def test_a_bundle_without_int8_runs_in_fp32_and_nothing_is_measured(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    choice = precision_choice.choose(tiny.classifier(), 1)
    assert (choice.precision, choice.warning) == (FP32, "") and "no verified int8" in choice.reason
    assert not (tmp_path / "cache").exists()
