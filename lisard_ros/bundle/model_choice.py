"""The ONNX files of a bundle: the same network at several precisions; which one runs, and what is said about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lisard_ros.bundle.manifest import Manifest, ModelFile, QuantizationScheme, Verification
from lisard_ros.errors import BundleError, UsageError

AUTO = "auto"
Wanted = Literal["auto", "fp32", "fp16", "int8"]
PRECISIONS: tuple[Wanted, ...] = ("auto", "fp32", "fp16", "int8")
# What a runtime takes, best first: unsigned activations are 3 times faster on CPUs; TensorRT refuses them.
FOR_CPU: tuple[QuantizationScheme, ...] = ("plain", "u8s8", "s8s8")
FOR_TENSORRT: tuple[QuantizationScheme, ...] = ("plain", "s8s8")


def pick(manifest: Manifest, precision: str = AUTO, schemes: Sequence[QuantizationScheme] = FOR_CPU) -> ModelFile:
    """Return the ONNX file of that precision in the first scheme that it has; BundleError names what there is.

    auto: fp32, the model that was evaluated; other precisions are taken only when they are asked for.
    """
    if precision not in PRECISIONS:
        raise UsageError("unknown precision", found=repr(precision), expected="one of " + ", ".join(PRECISIONS))
    wanted = "fp32" if precision == AUTO else precision
    usable = [model for model in manifest.models if model.precision == wanted and model.scheme in schemes]
    if usable:
        return min(usable, key=lambda model: list(schemes).index(model.scheme))
    cure = "add it with `lisard build` (docs/engines.md)"
    if wanted == "fp32":
        cure = "make the bundle of the fp32 file, or ask for another precision by name"
    raise BundleError(
        f"the bundle has no {wanted} model for this backend",
        found=", ".join(map(name, manifest.models)),
        expected=f"{wanted}, {' or '.join(schemes)}",
        cure=cure,
    )


def name(model: ModelFile) -> str:
    """Write a variant as PRECISION/FLAVOUR."""
    return f"{model.precision}/{model.scheme}"


def warnings(model: ModelFile) -> tuple[str, ...]:
    """Return what diagnostics must say of a variant: that the gate refused it, or that nobody compared it."""
    verdict = model.verification
    if verdict is None:
        unknown = f"{name(model)}: it was never compared with the fp32 model; run `lisard verify`"
        return () if model.precision == "fp32" else (unknown,)
    return () if verdict.passed else (f"{name(model)}: {loss_text(verdict)}; installed by force",)


def loss_text(verdict: Verification) -> str:
    """Say what a variant or engine loses against its limits."""
    return (
        f"loses {verdict.clean_loss_points:.2f} points clean (limit {verdict.clean_limit_points:g}) and "
        f"{verdict.robust_loss_points:.2f} attacked (limit {verdict.robust_limit_points:g}) on "
        f"{verdict.pictures} images"
    )
