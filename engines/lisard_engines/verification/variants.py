"""Adds fp16 and int8 files to a bundle, each measured against the fp32 model on real images before it is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from lisard_ros import bundle as bundles
from lisard_ros.backends.onnx_runtime import OnnxRuntime
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.bundle.manifest import Calibration, ModelFile, Precision, QuantizationScheme
from lisard_ros.errors import UsageError, unknown_name

from ..image_sets import ImageSet
from ..quantization import fp16, int8
from .comparison import EngineComparison, compare, require_images
from .gate import Limits, judge

Name = Literal["fp16", "u8s8", "s8s8"]


@dataclass(frozen=True, slots=True)
class Variant:
    """What a name on the command line stands for."""

    precision: Precision
    scheme: QuantizationScheme
    file: str


KINDS: Mapping[str, Variant] = {
    "fp16": Variant("fp16", "plain", "model_fp16.onnx"),
    "u8s8": Variant("int8", "u8s8", "model_int8_u8s8.onnx"),
    "s8s8": Variant("int8", "s8s8", "model_int8_s8s8.onnx"),
}


@dataclass(frozen=True, slots=True)
class Made:
    """One variant that was made: the model's entry, what was measured, and whether the bundle has it now."""

    model: ModelFile
    measured: EngineComparison
    installed: bool


@dataclass(frozen=True, slots=True, eq=False)
class BuildRequest:
    """What to make, from which images, and what may be lost.

    calibration: real images for int8, other ones than those of the gate. gate: images it is judged on.
    """

    names: tuple[str, ...]
    gate: ImageSet
    calibration: ImageSet | None = None
    method: int8.Method = int8.DEFAULT_METHOD
    limits: Limits = Limits()
    force: bool = False

    def __post_init__(self) -> None:
        """Refuse, before minutes of work, unknown names, no images to judge on, and int8 without (enough) images."""
        for name in self.names:
            if name not in KINDS:
                raise unknown_name("variant", name, KINDS)
        makes_int8 = any(KINDS[name].precision == "int8" for name in self.names)
        if makes_int8 and self.calibration is None:
            raise UsageError(
                "int8 needs real images to calibrate",
                found="none",
                expected="--calibration FOLDER",
                cure="give training images, or leave int8 out with --variants fp16",
            )
        if self.names:
            require_images(self.gate)
        if makes_int8 and self.calibration is not None:
            int8.require_enough(self.calibration)


@dataclass(frozen=True, slots=True)
class Added:
    """The bundle as it is now, and every variant that was made."""

    bundle: Bundle
    made: tuple[Made, ...]


def add(bundle: Bundle, request: BuildRequest, out: Path, say: Callable[[str], None] = lambda text: None) -> Added:
    """Make the variants and write the bundle with those that pass; one of a kind that is there already is replaced."""
    if not request.names and out.resolve() == bundle.path.resolve():
        return Added(bundle, ())  # written again it could differ in its bytes, and so in its hash
    made = []
    current = bundle
    for name in request.names:
        say(f"{name}: making and comparing with fp32")
        candidate = make(without(bundle, KINDS[name]), name, request)
        model, measured = check(candidate, KINDS[name], request)
        installed = bool(model.verification and (model.verification.passed or model.verification.forced))
        current = without(current, KINDS[name])
        if installed:
            current = with_model(current, model, candidate.data(model.file))
        made.append(Made(model, measured, installed))
    return Added(write(current, out), tuple(made))


def make(bundle: Bundle, name: str, request: BuildRequest) -> Bundle:
    """Return the bundle in memory with one more variant, which nobody has judged yet."""
    kind = KINDS[name]
    source = model_choice.pick(bundle.manifest)
    data = bundle.data(source.file)
    calibration: Calibration | None = None
    if kind.precision == "fp16":
        converted = fp16.to_fp16(data, source.file)
    else:
        assert request.calibration is not None  # BuildRequest refuses int8 without it
        calibration = int8.describe(request.calibration, request.method)
        converted = int8.to_int8(
            data, source.file, kind.scheme, request.calibration, bundle.manifest.input, request.method
        )
    model = ModelFile(file=kind.file, precision=kind.precision, scheme=kind.scheme, calibration=calibration)
    return with_model(bundle, model, converted)


def check(candidate: Bundle, kind: Variant, request: BuildRequest) -> tuple[ModelFile, EngineComparison]:
    """Run the variant beside fp32 and return its entry with the verdict."""
    model = entry(candidate, kind)
    reference, judged = OnnxRuntime(candidate, 1), fp16.on_cpu(candidate, model, 1)
    measured = compare(candidate, reference, judged, request.gate)
    reference.close()
    judged.close()
    verdict = judge(measured, request.limits, request.force)
    return msgspec.structs.replace(model, verification=verdict), measured


def entry(bundle: Bundle, kind: Variant) -> ModelFile:
    """Return the bundle's entry of that precision and scheme."""
    return next(m for m in bundle.manifest.models if (m.precision, m.scheme) == (kind.precision, kind.scheme))


def without(bundle: Bundle, kind: Variant) -> Bundle:
    """Return the bundle in memory without its variant of that kind."""
    gone = [m for m in bundle.manifest.models if (m.precision, m.scheme) == (kind.precision, kind.scheme)]
    kept = tuple(m for m in bundle.manifest.models if m not in gone)
    contents = {name: data for name, data in bundle.contents.items() if name not in {m.file for m in gone}}
    return _changed(bundle, kept, contents)


def with_model(bundle: Bundle, model: ModelFile, data: bytes) -> Bundle:
    """Return the bundle in memory with one more model."""
    return _changed(bundle, (*bundle.manifest.models, model), {**bundle.contents, model.file: data})


def write(bundle: Bundle, out: Path) -> Bundle:
    """Write a bundle of memory to a folder, over a bundle that is there."""
    return bundles.write(out, bundle.manifest, bundle.contents, overwrite=True)


def _changed(bundle: Bundle, models: Sequence[ModelFile], contents: Mapping[str, bytes]) -> Bundle:
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, models=tuple(models)), contents=contents)
