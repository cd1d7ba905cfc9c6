"""ONNX files as bytes: read, check, tidy up. Only files that hold their own weights are accepted."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxslim
from onnx import ModelProto, external_data_helper

from lisard_ros.errors import BundleError, one_line

_CURE = "export the model again"


def load(data: bytes, name: str) -> ModelProto:
    """Parse and check the bytes of an ONNX file; BundleError when they are damaged or refer to other files."""
    try:
        model = onnx.load_model_from_string(data)
        outside = [t.name for t in model.graph.initializer if external_data_helper.uses_external_data(t)]
        if outside:
            raise BundleError(
                f"{name} keeps its weights in other files",
                found=outside[0],
                expected="one ONNX file with its weights inside",
                cure=_CURE,
            )
        onnx.checker.check_model(model)
    except BundleError:
        raise
    except Exception as error:  # protobuf and the checker raise their own kinds for bytes that are no model
        raise BundleError(
            f"{name} is not a valid ONNX file", found=one_line(error), expected="an ONNX model", cure=_CURE
        ) from error
    return model


def dump(model: ModelProto, name: str) -> bytes:
    """Check a model and serialise it."""
    data: bytes = model.SerializeToString()
    load(data, name)
    return data


def slim(model: ModelProto) -> ModelProto:
    """Fold constants and batch norms, sort the nodes."""
    with tempfile.TemporaryDirectory(prefix="lisard_onnx_") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        return onnxslim.slim(str(path))


def input_name(model: ModelProto) -> str:
    """Return the name of the one input that is not a weight."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return str(next(value.name for value in model.graph.input if value.name not in weights))


def fixed_batch(model: ModelProto) -> int:
    """Return the batch size that the file is fixed to, or 0 when any will do."""
    name = input_name(model)
    (value,) = (v for v in model.graph.input if v.name == name)
    first = value.type.tensor_type.shape.dim[0]
    return max(0, int(first.dim_value)) if first.HasField("dim_value") else 0  # some exporters write -1 for any
