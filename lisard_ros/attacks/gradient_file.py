"""The file that gives a bundle's gradients, `lisard build --gradient`: what it is of, where it lies, and its tensors.

    $LISARD_CACHE/gradients/MODEL_SHA256/KEY.onnx

Like an engine it is never part of a bundle. The key is in the file's metadata, so that a file of another model is
refused wherever it was copied to.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from lisard_ros.backends.engine_cache import cache_root
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.bundle.manifest import Activation, Layout, ModelFile, Task
from lisard_ros.errors import AttackError, BundleError

FORMAT = 2  # of the tensors below; a file of another format is built again
METADATA = "lisard_gradient"
# Inputs of every file, of a classifier's, and of a detector's; then outputs beside that of the bundle.
IMAGES, WEIGHTS = "lisard.images", "lisard.weights"
CLASSES, TARGETS = "lisard.classes", "lisard.targets"
BOXES, LABELS = "lisard.boxes", "lisard.labels"  # a negative label: no box
LOSS, GRADIENT = "lisard.loss", "lisard.gradient"
# What the weights stand for, in their order. A classifier of few classes has the first ones alone.
CLASS_LOSSES = ("cross_entropy", "margin", "dlr", "dlr_targeted")
BOX_TERMS = ("class", "location", "vanish", "fabricate")


class GradientKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides a gradient file; two files of one key compute the same.

    losses: which losses the model has classes enough for. size_px: width and height of its input.
    """

    format: int = FORMAT
    onnx_sha256: str
    task: Task
    classes: int
    output: str
    activation: Activation
    layout: Layout | None
    size_px: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    losses: tuple[str, ...]

    def digest(self) -> str:
        """Return the hash that names the file."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def key_of(bundle: Bundle) -> GradientKey:
    """Return the key of the bundle's fp32 model, the one that was evaluated."""
    manifest = bundle.manifest
    classes, boxes = len(manifest.labels), manifest.decode is not None
    return GradientKey(
        onnx_sha256=model_of(bundle).sha256,
        task=manifest.task,
        classes=classes,
        output=manifest.output.name,
        activation=manifest.output.activation,
        layout=manifest.decode.layout if manifest.decode else None,
        size_px=(manifest.input.width, manifest.input.height),
        mean=manifest.input.mean,
        std=manifest.input.std,
        losses=BOX_TERMS if boxes else CLASS_LOSSES[: max(1, min(classes, len(CLASS_LOSSES)))],
    )


def model_of(bundle: Bundle) -> ModelFile:
    """Return the file that gradients are derived of."""
    return model_choice.pick(bundle.manifest, "fp32")


def path_of(key: GradientKey) -> Path:
    """Return where the file of that key lies, or would."""
    return cache_root() / "gradients" / key.onnx_sha256 / f"{key.digest()[:32]}.onnx"


def read(bundle: Bundle, file: Path | None = None) -> bytes:
    """Read the gradient file of a bundle.

    Args:
        bundle: Whose model is to be differentiated.
        file: A file to use instead of the one in the cache.

    Raises:
        AttackError: There is none.
    """
    path = file or path_of(key_of(bundle))
    try:
        return path.read_bytes()
    except OSError as error:
        raise AttackError(
            f"there is no gradient of bundle {bundle.manifest.name}",
            found=f"{path}: {error.strerror}",
            expected="a file that `lisard build --gradient` has made",
            cure=f"build it with `{build_command(bundle)}`",
        ) from error


def require_key(bundle: Bundle, metadata: dict[str, Any], where: str) -> None:
    """Refuse the gradient of another model, or of another format.

    Raises:
        BundleError: The file's key is missing, or not the bundle's.
    """
    wanted = key_of(bundle)
    try:
        found = msgspec.json.decode(str(metadata.get(METADATA, "")), type=GradientKey)
    except msgspec.DecodeError as error:
        raise BundleError(
            f"{where} is no gradient of this format",
            found=str(error),
            expected=f"format {FORMAT}",
            cure=f"build it with `{build_command(bundle)}`",
        ) from error
    if found != wanted:
        field = next(n for n in wanted.__struct_fields__ if getattr(found, n) != getattr(wanted, n))
        raise BundleError(
            f"{where} is the gradient of another model than that of bundle {bundle.manifest.name}",
            found=f"{field} {getattr(found, field)}",
            expected=getattr(wanted, field),
            cure=f"build it with `{build_command(bundle)}`",
        )


def build_command(bundle: Bundle) -> str:
    """Return the command that makes the file."""
    return f"lisard build {bundle.path} --variants none --gradient"
