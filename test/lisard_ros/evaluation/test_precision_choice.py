"""int8 is taken by itself only where its answers agree with fp32 as verified, and where it is faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lisard_ros.bundle.manifest import Verification
from lisard_ros.evaluation import precision_choice
from lisard_ros.evaluation.precision_choice import FP32, Int8Check


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


def test_a_bundle_without_int8_runs_in_fp32_and_nothing_is_measured(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    choice = precision_choice.choose(tiny.classifier(), 1)
    assert (choice.precision, choice.warning) == (FP32, "") and "no verified int8" in choice.reason
    assert not (tmp_path / "cache").exists()
