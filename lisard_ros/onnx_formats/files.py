"""A foreign ONNX file as bytes that hold all its weights, and what it declares: inputs, outputs, metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from lisard_ros.backends.onnx_runtime import load_session
from lisard_ros.errors import BackendError, BundleError, UsageError

ImageType = Literal["float32", "float16", "float64", "uint8"]
_IMAGE_TYPES: Mapping[str, ImageType] = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
}
_SIZE_TYPES = ("tensor(int64)", "tensor(int32)", "tensor(float)")
_CHANNELS = (1, 3)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output as the file declares it.

    kind: in ONNX Runtime's words, such as tensor(float). shape: None stands for an axis that is not fixed.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        """Write it for an error message."""
        return f"{self.name}: {self.kind} {['?' if side is None else side for side in self.shape]}"


@dataclass(frozen=True, slots=True, eq=False)
class OnnxFile:
    """An ONNX file with its weights inside. metadata: what the exporter wrote into it, as text."""

    data: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class InputFormat:
    """The image input of a file. Sides and batch are None where the file takes any.

    size_input: a second input that takes width and height of the image, or None.
    """

    name: str
    axes: Literal["nchw", "nhwc"]
    dtype: ImageType
    channels: Literal[1, 3]
    width_px: int | None
    height_px: int | None
    batch: int | None
    size_input: str | None = None

    @property
    def is_usual(self) -> bool:
        """Whether a bundle can hold the file as it is: float32 [N, 3, H, W] alone."""
        return (self.axes, self.dtype, self.channels, self.size_input) == ("nchw", "float32", 3, None)


def read_file(path: Path) -> OnnxFile:
    """Read an ONNX file; weights that lie in files beside it are taken in.

    Raises:
        UsageError: the file, or one that it names, cannot be read.
        BackendError: ONNX Runtime refuses the model.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            "cannot read the ONNX file", found=f"{path}: {error.strerror}", expected="a file that exists"
        ) from error
    try:
        return inspect(data)
    except BackendError:
        complete = _inlined(data, path)
        if complete is None:
            raise
        return inspect(complete)


def inspect(data: bytes) -> OnnxFile:
    """Load the bytes of a file once and note what it declares; BackendError when ONNX Runtime refuses them."""
    session = load_session(data, "the model", 1)
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    return OnnxFile(data, _specs(session.get_inputs()), _specs(session.get_outputs()), metadata)


def input_format(file: OnnxFile) -> InputFormat:
    """Find the image input of a file and how it wants images; BundleError with the reason when none can be fed."""
    images = [spec for spec in file.inputs if len(spec.shape) == 4]
    others = [spec for spec in file.inputs if len(spec.shape) != 4]
    if len(images) != 1 or not (others == [] or (len(others) == 1 and _takes_size(others[0]))):
        raise BundleError(
            "the model does not take one batch of images",
            found="; ".join(map(str, file.inputs)) or "no input",
            expected="one input with four axes, and at most one for the size of the image",
            cure="export the network alone, with a batch axis, without further inputs",
        )
    (spec,) = images
    if spec.kind not in _IMAGE_TYPES:
        raise BundleError(
            f"the model's input {spec.name} is of a type that no image is turned into",
            found=spec.kind,
            expected=" or ".join(_IMAGE_TYPES),
            cure="export the model for float32 images",
        )
    batch, *rest = spec.shape
    last = rest[0] not in _CHANNELS and rest[2] in _CHANNELS
    channels, (height, width) = (rest[2], rest[:2]) if last else (rest[0], rest[1:])
    if channels is not None and channels not in _CHANNELS:
        raise BundleError(
            f"the model's input {spec.name} is no image of one or three channels",
            found=str(spec),
            expected="[N, 3, H, W], [N, H, W, 3], [N, 1, H, W] or [N, H, W, 1]",
            cure="export a model that takes color or gray images",
        )
    return InputFormat(
        name=spec.name,
        axes="nhwc" if last else "nchw",
        dtype=_IMAGE_TYPES[spec.kind],
        channels=1 if channels == 1 else 3,
        width_px=width,
        height_px=height,
        batch=batch,
        size_input=others[0].name if others else None,
    )


def _takes_size(spec: TensorSpec) -> bool:
    """Whether an input is that of RT-DETR's own export: width and height of each image, which scale the boxes."""
    return len(spec.shape) == 2 and spec.shape[1] in (2, None) and "size" in spec.name and spec.kind in _SIZE_TYPES


def _specs(values: list[ort.NodeArg]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(value.name, value.type, tuple(side if isinstance(side, int) else None for side in value.shape or ()))
        for value in values
    )


def _inlined(data: bytes, path: Path) -> bytes | None:
    """The same file with weights from the files that it names beside it, or None when it names none."""
    try:
        import onnx
        from onnx import external_data_helper as outside
    except ImportError:
        return None  # ONNX Runtime's own refusal then says what is missing
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's own kind for bytes that are no model, which ONNX Runtime has refused already
        return None
    if not any(outside.uses_external_data(tensor) for tensor in model.graph.initializer):
        return None
    try:
        outside.load_external_data_for_model(model, str(path.parent))
        for tensor in model.graph.initializer:  # now inside, but still marked as outside
            tensor.ClearField("external_data")
            tensor.data_location = onnx.TensorProto.DEFAULT
        return bytes(model.SerializeToString())
    except Exception as error:  # the checker's kind for odd paths, OSError, ValueError beyond 2 GiB
        raise UsageError(
            "cannot read the weights that the ONNX file keeps in another file",
            found=" ".join(str(error).split())[:300],
            expected=f"that file in {path.parent}",
            cure="put it beside the ONNX file, or export the model as one file",
        ) from error
