"""Proves a model as it is deployed: a variant or engine against the PyTorch model or the fp32 file, on real frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from lisard_ros import backends
from lisard_ros import bundle as bundles
from lisard_ros.backends import Backend, Request, engine_cache
from lisard_ros.backends.engine_cache import CachedEngine
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.bundle.manifest import ModelFile, Verification
from lisard_ros.errors import BackendError, BundleError, LisardError

from ..image_sets import ImageSet
from ..quantization import fp16
from .comparison import EngineComparison, compare
from .gate import Limits, judge

Reference = Literal["auto", "torch", "fp32"]
REFERENCES: tuple[Reference, ...] = ("auto", "torch", "fp32")


class ModelUnderTest(msgspec.Struct, frozen=True):
    """What is to be verified.

    backend: one of backends.MAKERS. scheme (`flavour` in JSON): of an int8 file; empty means the one that the backend
    takes.
    """

    backend: str = "onnxruntime"
    precision: str = "fp32"
    scheme: str = msgspec.field(name="flavour", default="")
    threads: int = 1


@dataclass(frozen=True, slots=True)
class EngineVerdict:
    """A comparison and what the gate says of it; recorded: where the verdict was written, or empty."""

    measured: EngineComparison
    verification: Verification
    recorded: str = ""


def verify(
    bundle: Bundle,
    under_test: ModelUnderTest,
    images: ImageSet,
    limits: Limits,
    *,
    reference: Reference = "auto",
    force: bool = False,
) -> EngineVerdict:
    """Compare and judge. An engine's sidecar records the verdict; an ONNX variant's entry is rewritten by `record`."""
    against = reference_of(bundle, reference, under_test.threads)
    judged = backend_of(bundle, under_test)
    try:
        measured = compare(bundle, against, judged, images)
    finally:
        against.close()
        judged.close()
    verification = judge(measured, limits, force)
    if under_test.backend not in backends.TENSORRT:
        return EngineVerdict(measured, verification)
    return EngineVerdict(
        measured, verification, str(engine_cache.record(engine_of(bundle, under_test), verification).folder)
    )


def reference_of(bundle: Bundle, reference: Reference, threads: int) -> Backend:
    """Return the model that was evaluated: the PyTorch model, or for auto the fp32 file where torch cannot run."""
    if reference != "fp32":
        try:
            return backends.choose(bundle, "torch", threads).backend
        except BackendError:
            if reference == "torch":
                raise
    return backends.choose(bundle, "onnxruntime", threads, "fp32").backend


def backend_of(bundle: Bundle, under_test: ModelUnderTest) -> Backend:
    """Return what is judged; fp16 on a CPU with the roundings that a GPU would make."""
    model = model_of(bundle, under_test)
    if under_test.backend in backends.TENSORRT:
        from lisard_ros.backends import tensorrt_engine

        return tensorrt_engine.open_engine(bundle, engine_of(bundle, under_test), under_test.backend)
    if under_test.backend == "onnxruntime" and model.precision == "fp16":
        return fp16.on_cpu(bundle, model, under_test.threads)
    only = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, models=(model,)))
    return backends.MAKERS[under_test.backend](only, Request(under_test.threads, model.precision))


def model_of(bundle: Bundle, under_test: ModelUnderTest) -> ModelFile:
    """Return the variant that is judged."""
    schemes = model_choice.FOR_TENSORRT if under_test.backend in backends.TENSORRT else model_choice.FOR_CPU
    if not under_test.scheme:
        return model_choice.pick(bundle.manifest, under_test.precision, schemes)
    for model in bundle.manifest.models:
        if (model.precision, model.scheme) == (under_test.precision, under_test.scheme):
            return model
    raise BundleError(
        "the bundle has no such variant",
        found=", ".join(map(model_choice.name, bundle.manifest.models)),
        expected=f"{under_test.precision}/{under_test.scheme}",
        cure="add it with `lisard build`",
    )


def engine_of(bundle: Bundle, under_test: ModelUnderTest) -> CachedEngine:
    """Return the engine of this host, also one that was refused before: it is about to be judged again."""
    from lisard_ros.backends import tensorrt_engine

    host = tensorrt_engine.host_of(under_test.backend)
    return engine_cache.select(bundle, model_of(bundle, under_test), host, refused_too=True)


def record(bundle: Bundle, under_test: ModelUnderTest, verification: Verification, out: Path) -> Bundle:
    """Write a variant's verdict into the bundle; one that failed is taken out unless it is forced."""
    model = model_of(bundle, under_test)
    if model.precision == "fp32":
        raise LisardError(
            "the fp32 model is the reference and carries no verdict",
            found=model_choice.name(model),
            expected="fp16 or int8",
        )
    judged = msgspec.structs.replace(model, verification=verification)
    keep = verification.passed or verification.forced
    models = [judged if m == model else m for m in bundle.manifest.models if keep or m != model]
    contents = {name: data for name, data in bundle.contents.items() if keep or name != model.file}
    manifest = msgspec.structs.replace(bundle.manifest, models=tuple(models))
    return bundles.write(out, manifest, contents, overwrite=True)
