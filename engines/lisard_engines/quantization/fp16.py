"""A strongly typed fp16 file: every weight and every layer in half precision, float32 only at input and output.

The precision is in the file itself, so TensorRT needs no precision flag (it has none from version 11 on).
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from lisard_ros.backends.onnx_runtime import OnnxRuntime
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import ModelFile
from lisard_ros.errors import BundleError, one_line

from .. import onnx_file

LARGEST_FP16 = 65504.0


def to_fp16(data: bytes, name: str) -> bytes:
    """Turn an fp32 ONNX file into an fp16 one with the same float32 inputs and outputs.

    BundleError when a weight does not fit into half precision (largest 65504).
    """
    model = onnx_file.load(data, name)
    _require_range(model, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights below the smallest half, which become zero: the gate judges
            half = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=False)
    except Exception as error:  # the converter and shape inference raise plain exceptions of many kinds
        raise BundleError(
            f"{name} cannot be converted to fp16",
            found=one_line(error),
            expected="a float32 model",
            cure="stay with fp32 or int8",
        ) from error
    # The converter appends its casts at the end; ONNX wants every node after those that it reads from.
    return onnx_file.dump(_sorted(half), name)


def _require_range(model: onnx.ModelProto, name: str) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            largest = float(abs(onnx.numpy_helper.to_array(tensor)).max(initial=0))
            if not largest <= LARGEST_FP16:
                raise BundleError(
                    f"{name} does not fit into fp16",
                    found=f"{tensor.name} up to {largest:.3g}",
                    expected=f"weights up to {LARGEST_FP16:g}",
                    cure="use int8 or stay with fp32",
                )


def _sorted(model: onnx.ModelProto) -> onnx.ModelProto:
    known = {value.name for value in model.graph.input} | {tensor.name for tensor in model.graph.initializer} | {""}
    waiting = list(model.graph.node)
    done: list[onnx.NodeProto] = []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        if not ready:
            raise BundleError("the graph has a cycle", found=waiting[0].name, cure="export the model again")
        done += ready
        known.update(name for node in ready for name in node.output)
        waiting = [node for node in waiting if not known.issuperset(node.output)]
    del model.graph.node[:]
    model.graph.node.extend(done)
    return model


def rounding_everywhere(data: bytes, name: str) -> bytes:
    """Return a copy of an fp16 file, for measuring only, in which a CPU rounds the output of every layer to fp16.

    ONNX Runtime has no half arithmetic for most layers on CPUs: it computes in float32 and drops the casts between two
    such layers, and with them the rounding. An Identity in half precision between them keeps both. To be run with the
    optimiser off.
    """
    model = onnx_file.load(data, name)
    outputs = {value.name for value in model.graph.output}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "Cast" or outputs & set(node.output):
            continue
        for place, tensor in enumerate(node.output):
            node.output[place] = f"{tensor}_exact"
            nodes.append(onnx.helper.make_node("Identity", [f"{tensor}_exact"], [tensor], name=f"{tensor}_rounded"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return onnx_file.dump(model, name)


def on_cpu(bundle: Bundle, model: ModelFile, threads: int) -> OnnxRuntime:
    """Return what measures a variant on a CPU: as it is, but fp16 with the roundings that a GPU would make."""
    if model.precision != "fp16":
        return OnnxRuntime(bundle, threads, model)
    rounding = rounding_everywhere(bundle.data(model.file), model.file)
    measured = replace(bundle, contents={**bundle.contents, model.file: rounding})
    return OnnxRuntime(measured, threads, model, optimise=False)
