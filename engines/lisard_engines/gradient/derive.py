"""A bundle's gradient file: its fp32 model, the losses behind it, and the way back to the image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from lisard_ros.attacks import gradient_file
from lisard_ros.attacks.gradient_file import (
    BOXES,
    CLASSES,
    GRADIENT,
    IMAGES,
    LABELS,
    LOSS,
    TARGETS,
    WEIGHTS,
    GradientKey,
)
from lisard_ros.backends.engine_cache import not_written
from lisard_ros.bundle import Bundle
from lisard_ros.errors import BundleError, one_line
from lisard_ros.whole_file import write_whole

from .. import onnx_file
from . import objectives
from .builder import GraphBuilder, observe
from .differentiate import gradient

OPSET = 18  # since then every reduction takes its axes as an input, which is what the rules write
BATCHES = (2, 3)  # run to see which sides of a tensor depend on the batch


def provide(bundle: Bundle) -> Path:
    """Make the gradient file of a bundle in the cache, unless it is there.

    Raises:
        BundleError: The model has an operator that no gradient passes, named with its node.
        BackendError: The cache cannot be written.
    """
    key = gradient_file.key_of(bundle)
    path = gradient_file.path_of(key)
    if path.is_file():
        return path
    model = gradient_file.model_of(bundle)
    data = derive(bundle.data(model.file), model.file, key)
    try:
        write_whole(path, data)
    except OSError as error:
        raise not_written(path, error) from error
    return path


def derive(data: bytes, name: str, key: GradientKey) -> bytes:
    """Return the gradient file of a model.

    Args:
        data: The ONNX file, weights inside.
        name: What messages call it.
        key: What it computes and how it is read.

    Returns:
        An ONNX file: images in [0, 1] and what the losses need in; loss, gradient and the model's own output out.

    Raises:
        BundleError: The file is damaged, too old to be converted, or has an operator that no gradient passes.
    """
    model = _prepared(onnx_file.load(data, name), name, key)
    batch = onnx_file.fixed_batch(model)
    rows = _rows(model, key, batch or 1)
    forward = _with_loss(model, key, batch, rows)
    observed = observe(forward, lambda size: example(key, size), (batch,) if batch else BATCHES)
    graph = GraphBuilder(forward, observed)
    graph.alias(gradient(graph, LOSS, IMAGES), GRADIENT)
    slope = helper.make_tensor_value_info(GRADIENT, TensorProto.FLOAT, [batch or "batch", 3, *key.size_px[::-1]])
    done = graph.finish(forward.graph.input, [*forward.graph.output, slope])
    helper.set_model_props(done, {gradient_file.METADATA: msgspec.json.encode(key, order="deterministic").decode()})
    return onnx_file.dump(done, name)


def _prepared(model: ModelProto, name: str, key: GradientKey) -> ModelProto:
    """The model with one output and constants folded, in a version of ONNX that the rules write."""
    outputs = [value for value in model.graph.output if value.name == key.output]
    if not outputs:
        raise BundleError(f"{name} does not have the bundle's output", found="none", expected=key.output)
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    version = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if version < OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter raises plain exceptions of many kinds
            raise BundleError(
                f"no gradient can be derived of {name}",
                found=f"opset {version}, which cannot be converted: {one_line(error)}",
                expected=f"opset {OPSET} or newer",
                cure=f"export the model again with opset {OPSET} or newer",
            ) from error
    return onnx_file.slim(model)


def _rows(model: ModelProto, key: GradientKey, batch: int) -> int:
    """How many boxes a detector gives for an image; 0 of a classifier."""
    if key.layout is None:
        return 0
    width, height = key.size_px
    name = onnx_file.input_name(model)
    shape = observe(model, lambda size: {name: np.zeros((size, 3, height, width), np.float32)}, (batch,))[
        key.output
    ].shape
    rows = shape[-1] if key.layout == "cxcywh_classes_first" else shape[-2]
    assert rows is not None, "one run leaves nothing open"
    return rows


def _with_loss(model: ModelProto, key: GradientKey, batch: int, rows: int) -> ModelProto:
    """The model for images in [0, 1], with the loss of each image as an output."""
    graph = GraphBuilder(model)
    own = list(graph.nodes)
    del graph.nodes[:]
    image = IMAGES
    if any(key.mean):
        image = graph.op("Sub", image, graph.constant(np.reshape(key.mean, (1, 3, 1, 1))))
    if any(side != 1 for side in key.std):
        image = graph.op("Div", image, graph.constant(np.reshape(key.std, (1, 3, 1, 1))))
    graph.alias(image, onnx_file.input_name(model))
    graph.nodes.extend(own)
    objectives.add_loss(graph, key, key.output, rows)
    count = batch or "batch"
    loss = helper.make_tensor_value_info(LOSS, TensorProto.FLOAT, [count])
    return graph.finish(_inputs(key, count), [*model.graph.output, loss])


def _inputs(key: GradientKey, count: int | str) -> list[ValueInfoProto]:
    number, whole = TensorProto.FLOAT, TensorProto.INT64
    width, height = key.size_px
    specs: list[tuple[str, int, list[int | str]]] = [
        (IMAGES, number, [count, 3, height, width]),
        (WEIGHTS, number, [len(key.losses)]),
    ]
    if key.layout:
        specs += [(BOXES, number, [count, "boxes", 4]), (LABELS, whole, [count, "boxes"])]
    else:
        specs += [(CLASSES, whole, [count])]
        specs += [(TARGETS, whole, [count])] if "dlr_targeted" in key.losses else []
    return [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in specs]


def example(key: GradientKey, batch: int) -> Mapping[str, NDArray[Any]]:
    """Return inputs of that batch, to run the file with: images of random pixels, all of the first class."""
    width, height = key.size_px
    feed: dict[str, NDArray[Any]] = {
        IMAGES: np.random.default_rng(0).random((batch, 3, height, width), np.float32),
        WEIGHTS: np.ones(len(key.losses), np.float32),
    }
    if key.layout:
        feed[BOXES] = np.tile(np.array([0, 0, width, height], np.float32), (batch, 1, 1))
        feed[LABELS] = np.zeros((batch, 1), np.int64)
    else:
        feed[CLASSES] = np.zeros(batch, np.int64)
        feed |= {TARGETS: np.ones(batch, np.int64)} if "dlr_targeted" in key.losses else {}
    return feed
