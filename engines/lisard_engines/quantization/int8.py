"""int8 files with Q/DQ nodes, calibrated on real images, in the two quantization schemes that the runtimes need.

u8s8: unsigned activations, signed weights of 7 bits: fast and right on every CPU; TensorRT cannot parse it.
s8s8: symmetric and signed, biases left in float: what TensorRT demands; slow in ONNX Runtime on CPUs.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray
from onnxruntime import quantization as ort_quantization
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType

from lisard_ros.bundle.manifest import Calibration, InputSpec, QuantizationScheme
from lisard_ros.errors import BundleError, DataError, one_line
from lisard_ros.frames import Frame
from lisard_ros.inference.preprocess import normalise, prepare

from .. import onnx_file
from ..image_sets import ImageSet

Method = Literal["minmax", "entropy", "percentile"]
METHODS: Mapping[Method, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
# The ends of the range that hold 99.999 % of the values: rare large ones do not make all steps coarser. With `minmax`
# both shipped models lose more than the gate allows (bench/engines.py, bench/detector_variants.py --method minmax).
DEFAULT_METHOD: Method = "percentile"
MIN_IMAGES = 32
BATCH = 16
# Images whose activations lie in memory together, some 50 MB each of a detector with an input of 384 x 384.
IMAGES_AT_ONCE = 64
OPSET_WITH_AXES = 13
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What is quantised besides; other operators (decoding of boxes, softmax) stay in float.
QUANTISED = (*WEIGHTED, "Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Resize")


@dataclass(frozen=True)
class Kind:
    """One quantization scheme: types of activations and weights, and ONNX Runtime's further options.

    seven_bit_weights: on a CPU without VNNI two products of u8 and s8 are added in 16 bits, where they saturate
    silently. With weights in -64..64 they cannot.
    """

    activations: QuantType
    weights: QuantType
    options: Mapping[str, Any]
    seven_bit_weights: bool = False


KINDS: Mapping[QuantizationScheme, Kind] = {
    "u8s8": Kind(QuantType.QUInt8, QuantType.QInt8, {"WeightSymmetric": True}, seven_bit_weights=True),
    "s8s8": Kind(
        QuantType.QInt8,
        QuantType.QInt8,
        {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    ),
}


def describe(images: ImageSet, method: Method) -> Calibration:
    """Return what a bundle records of a calibration; DataError when the set is too small to set any range."""
    require_enough(images)
    return Calibration(data=images.name, pictures=len(images), sha256=images.sha256, method=method)


def require_enough(images: ImageSet) -> None:
    """DataError when the set is too small to set any range."""
    if len(images) < MIN_IMAGES:
        raise DataError(
            "too few images to calibrate int8",
            found=len(images),
            expected=f"at least {MIN_IMAGES} real images",
            cure="give a larger folder",
        )


def to_int8(
    data: bytes,
    name: str,
    scheme: QuantizationScheme,
    images: ImageSet,
    spec: InputSpec,
    method: Method = DEFAULT_METHOD,
) -> bytes:
    """Quantise an fp32 ONNX file (weights per channel); the ranges of activations come from `images`."""
    describe(images, method)
    model = _with_axes(onnx_file.load(data, name), name)
    kind = KINDS[scheme]
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"  # nodes are left out by name, and ONNX allows none
    with tempfile.TemporaryDirectory(prefix="lisard_int8_") as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        try:
            _quantise(model, source, target, kind, _Reader(model, images, spec), method)
        except Exception as error:  # ONNX Runtime's tools raise plain exceptions of many kinds
            raise BundleError(
                f"{name} cannot be quantised to int8 {scheme}",
                found=one_line(error),
                expected="a float model that ONNX Runtime can run",
                cure="stay with fp32 or fp16",
            ) from error
        return onnx_file.dump(onnx.load(target), name)


def _with_axes(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model in a version of ONNX whose Q/DQ nodes have an axis, which weights per channel need."""
    version = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if version >= OPSET_WITH_AXES:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET_WITH_AXES)
    except Exception as error:  # the converter raises plain exceptions of many kinds
        raise BundleError(
            f"{name} cannot be quantised to int8 per channel",
            found=f"opset {version}, which cannot be converted: {one_line(error)}",
            expected=f"opset {OPSET_WITH_AXES} or newer",
            cure=f"export the model again with opset {OPSET_WITH_AXES} or newer, or stay with fp32 or fp16",
        ) from error


def _quantise(model: onnx.ModelProto, source: Path, target: Path, kind: Kind, reader: _Reader, method: Method) -> None:
    log = logging.getLogger()
    before, log.level = log.level, logging.ERROR  # it advises pre-processing, which the file has had at export
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it does, and ours is the command's answer
            ort_quantization.quantize_static(
                source,
                target,
                reader,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                reduce_range=kind.seven_bit_weights,
                activation_type=kind.activations,
                weight_type=kind.weights,
                nodes_to_exclude=left_in_float(model),
                calibrate_method=METHODS[method],
                extra_options={**kind.options, "CalibStridedMinMax": reader.stride},  # of every method
            )
    finally:
        log.level = before


def left_in_float(model: onnx.ModelProto) -> list[str]:
    """Name the nodes that stay in float: those that no weighted layer follows, and sums with a constant.

    After the last weighted layers boxes are decoded, where eight bits are too few for pixels; TensorRT allows no Q/DQ
    on a constant of a sum.
    """
    read: set[str] = set()
    feeding: set[str] = set()
    for node in reversed(model.graph.node):
        if read & set(node.output):
            feeding.add(node.name)
        if node.op_type in WEIGHTED or node.name in feeding:
            read.update(node.input)
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type not in WEIGHTED
        and (node.name not in feeding or (node.op_type in ("Add", "Concat") and constants & set(node.input)))
    ]


class _Reader(ort_quantization.CalibrationDataReader):  # type: ignore[misc]
    """Feeds prepared images to ONNX Runtime's calibrator, a part of them at a time."""

    def __init__(self, model: onnx.ModelProto, images: ImageSet, spec: InputSpec) -> None:
        self._name, self._images, self._spec = onnx_file.input_name(model), images, spec
        self._size = onnx_file.fixed_batch(model) or math.gcd(len(images), BATCH)
        self.set_range(0, len(self))

    def __len__(self) -> int:
        return len(self._images) // self._size

    @property
    def stride(self) -> int:
        """How many batches are collected at once: as many as memory holds, in equal parts."""
        most = max(1, IMAGES_AT_ONCE // self._size)
        return max((count for count in range(1, min(most, len(self)) + 1) if len(self) % count == 0), default=1)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with the batches of these numbers, the last one left out."""
        frames = self._images.frames[start_index * self._size : end_index * self._size]
        self._batches = batches(frames, self._spec, self._size)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the next batch by input name, or None at the end of the range."""
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def batches(frames: Sequence[Frame], spec: InputSpec, size: int) -> Iterator[NDArray[np.float32]]:
    """Yield model input, float32 [size, 3, H, W], through the project's one preprocessing; whole batches alone.

    All are equally large, because the calibrators of entropy and percentile cannot take another size.
    """
    for start in range(0, len(frames) - size + 1, size):
        yield normalise(prepare([frame.rgb() for frame in frames[start : start + size]], spec), spec)
