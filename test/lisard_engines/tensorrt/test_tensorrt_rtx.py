"""The real TensorRT-RTX builder, without a GPU: every shipped model, and everything that it refuses."""

from __future__ import annotations

import functools
from typing import Any

import pytest

pytest.importorskip("tensorrt_rtx", reason="requirements/engines.txt is not installed")

from lisard_engines.tensorrt import RTX_TARGETS, Batches, BuilderSettings, builders
from lisard_ros.errors import BackendError, BundleError, UsageError

MAGIC = b"vtrt"


def build(data: bytes, settings: BuilderSettings | None = None) -> Any:
    said: list[str] = []
    built = builders.make("tensorrt_rtx", settings or BuilderSettings()).build(data, "model.onnx", b"", said.append)
    return built, said


# A shipped model takes seconds, and two tests look at it.
build_shipped = functools.cache(build)


@pytest.mark.parametrize("variant", ["fp32", "fp16", "s8s8"])
def test_every_shipped_model_builds_for_three_generations(variants_of_shipped: dict[str, bytes], variant: str) -> None:
    built, said = build_shipped(variants_of_shipped[variant])
    assert built.engine.startswith(MAGIC) and built.seconds > 0 and built.layers > 10
    assert said, "progress is shown"
    for target in RTX_TARGETS:
        assert f"sm{target}".encode() in built.engine.lower() or f"sm_{target}".encode() in built.engine.lower()


def test_the_precision_is_that_of_the_file(variants_of_shipped: dict[str, bytes]) -> None:
    sizes = {name: len(build_shipped(variants_of_shipped[name])[0].engine) for name in ("fp32", "fp16", "s8s8")}
    assert sizes["fp16"] < 0.7 * sizes["fp32"]
    assert sizes["s8s8"] < sizes["fp32"]


def test_the_cpu_scheme_of_int8_is_refused_with_its_node(variants_of_shipped: dict[str, bytes]) -> None:
    with pytest.raises(BackendError, match="refuses model.onnx: found operator DequantizeLinear of node .*s8s8"):
        build(variants_of_shipped["u8s8"])


def test_an_unsupported_operator_is_named(small: Any) -> None:
    with pytest.raises(BackendError, match="refuses model.onnx: found operator Bernoulli of node 'bend'"):
        build(small.network(operator="Bernoulli"))


@pytest.mark.parametrize("data", [b"", b"no model", b"\x00" * 100])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="model.onnx is not a valid ONNX file"):
        build(data)


@pytest.mark.parametrize("target", [72, 87, 90, 100])
def test_a_gpu_that_it_cannot_serve_is_refused(small: Any, target: int) -> None:
    with pytest.raises(UsageError, match=f"compute capability {target}.*classic TensorRT, built on the device"):
        build(small.network(), BuilderSettings(targets=(target,)))


def test_it_has_no_dla(small: Any) -> None:
    with pytest.raises(UsageError, match="has no DLA"):
        build(small.network(), BuilderSettings(dla_core=0))


def test_a_fixed_batch_builds_without_a_profile(small: Any) -> None:
    assert build(small.network(batch=4))[0].engine.startswith(MAGIC)


def test_a_build_after_a_failed_one_shows_only_its_own_log(small: Any) -> None:
    with pytest.raises(BackendError):
        build(small.network(operator="Bernoulli"))
    built, _ = build(small.network())
    assert not [line for line in built.log if "Bernoulli" in line]


def test_the_engine_is_for_the_batches_asked_for(small: Any) -> None:
    assert build(small.network(), BuilderSettings(batches=Batches(1, 4, 16)))[0].engine.startswith(MAGIC)
    with pytest.raises(UsageError, match="batches of the profile out of order"):
        Batches(2, 1, 4)
    with pytest.raises(UsageError, match="out of range"):
        BuilderSettings(level=9)


def test_its_targets_are_its_device() -> None:
    assert builders.make("tensorrt_rtx", BuilderSettings()).device() == ("RTX sm86+sm89+sm120", 0)
    assert builders.make("tensorrt_rtx", BuilderSettings(targets=(89,))).device() == ("RTX sm89", 89)
