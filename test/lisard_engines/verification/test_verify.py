"""Verification of variants and engines: which model is the reference, what is recorded, and what a failure leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lisard_engines import image_sets, verification
from lisard_engines.tensorrt import BuilderSettings
from lisard_engines.verification import ModelUnderTest, deployment, variants
from lisard_engines.verification.deployment import Work
from lisard_engines.verification.gate import Limits
from lisard_ros import bundle as bundles
from lisard_ros import cli
from lisard_ros.backends import engine_cache
from lisard_ros.errors import BackendError, BundleError, LisardError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def built(small: Any, tmp_path: Path) -> Any:
    bundle = small.bundle()
    request = variants.BuildRequest(
        ("fp16", "u8s8", "s8s8"), image_sets.of_bundle(bundle), image_sets.read(small.images(), small.labels)
    )
    return variants.add(bundle, request, tmp_path / "built").bundle


def verify(bundle: Any, under_test: ModelUnderTest, **options: Any) -> verification.EngineVerdict:
    return verification.verify(bundle, under_test, image_sets.of_bundle(bundle), Limits(), **options)


@pytest.mark.parametrize(
    ("precision", "scheme", "shown"),
    [
        ("fp16", "", "fp16/plain"),
        ("int8", "", "int8/u8s8"),
        ("int8", "s8s8", "int8/s8s8"),
    ],
)
def test_every_variant_is_held_against_fp32(built: Any, precision: str, scheme: str, shown: str) -> None:
    found = verify(built, ModelUnderTest(precision=precision, scheme=scheme), reference="fp32")
    assert shown in found.measured.judged and "fp32/plain" in found.measured.reference
    assert found.verification.passed and found.verification.max_abs_difference > 0 and found.recorded == ""


def test_openvino_is_verified_too(built: Any) -> None:
    pytest.importorskip("openvino", reason="requirements/engines.txt is not installed")
    for precision in ("fp32", "int8"):
        found = verify(built, ModelUnderTest("openvino", precision))
        assert found.verification.passed and "OpenVINO" in found.verification.backend


def test_the_pytorch_model_is_the_reference_where_there_is_one(built: Any) -> None:
    assert "ONNX Runtime" in verify(built, ModelUnderTest()).measured.reference, "this bundle has no PyTorch model"
    with pytest.raises(BackendError, match="has no PyTorch model"):
        verify(built, ModelUnderTest(), reference="torch")


def test_the_shipped_model_is_compared_with_its_pytorch_model() -> None:
    pytest.importorskip("torch")
    bundle = bundles.read(Path(__file__).resolve().parents[3] / "models" / "traffic_signs")
    few = image_sets.of_bundle(bundle).spread(12)
    found = verification.verify(bundle, ModelUnderTest(), few, Limits(), reference="torch")
    assert "torch" in found.measured.reference and found.verification.max_abs_difference < 1e-3
    assert found.measured.agreement == 1


def test_a_failed_variant_is_taken_out_when_recorded(built: Any, tmp_path: Path) -> None:
    under_test = ModelUnderTest(precision="int8")
    verdict = verify(built, under_test).verification
    import msgspec

    failed = msgspec.structs.replace(verdict, passed=False, clean_loss_points=7.0)
    left = verification.record(built, under_test, failed, tmp_path / "left")
    assert [m.scheme for m in left.manifest.models] == ["plain", "plain", "s8s8"]
    assert "model_int8_u8s8.onnx" not in left.contents
    forced = verification.record(built, under_test, msgspec.structs.replace(failed, forced=True), tmp_path / "forced")
    assert len(forced.manifest.models) == 4
    with pytest.raises(LisardError, match="carries no verdict"):
        verification.record(built, ModelUnderTest(), verdict, tmp_path / "never")
    with pytest.raises(BundleError, match="no such variant"):
        verify(built, ModelUnderTest(precision="fp16", scheme="u8s8"))


def test_engines_that_cannot_run_here_are_built_and_marked_unverified(built: Any) -> None:
    pytest.importorskip("tensorrt_rtx", reason="requirements/engines.txt is not installed")
    if not deployment.cannot_run("tensorrt_rtx"):
        pytest.skip("this machine can run them")
    said: list[str] = []
    using = deployment.builder("tensorrt_rtx", BuilderSettings())
    work = Work(image_sets.of_bundle(built), Limits())
    done = list(deployment.deploy_all(built, using, work, said.append))
    assert [d.model for d in done] == ["fp32/plain", "fp16/plain", "int8/s8s8"]
    for engine in done:
        assert engine.state == "unverified" and "driver" in engine.why and engine.build_s is not None
        assert engine_cache.read(Path(engine.folder)).sidecar.bundle_sha256 == built.sha256
    again = list(deployment.deploy_all(built, using, work, said.append))
    assert [d.build_s for d in again] == [None] * 3, "the second time from the cache"


def test_the_whole_in_one_command(small: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="requirements/engines.txt is not installed")
    bundle = small.bundle()
    words = ["build", str(bundle.path), "--calibration", str(small.images()), "--engines", "tensorrt_rtx"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert shown.count("gate passed") == 3 and shown.count("tensorrt_rtx 1.") == 3 and "unverified" in shown


def test_the_verify_command(built: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(built.path), "--precision", "int8"]) == 0
    assert "gate passed" in capsys.readouterr().out
    assert cli.main(["verify", str(built.path), "--precision", "fp16", "--record"]) == 0
    assert bundles.read(built.path).manifest.models[-3].verification is not None
    assert cli.main(["verify", str(built.path), "--backend", "tensorrt"]) == 2
    assert "stage:" in capsys.readouterr().err
    assert cli.main(["build", str(built.path), "--variants", "none", "--engines", "tensorrtx"]) == 2
    assert "did you mean 'tensorrt" in capsys.readouterr().err
