"""Rules of operators that move elements: shapes, joins, cuts, padding, choices by constant places, scaling."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from .rules import Rule, Step, along, scaled, select, sum_to


def reshaped(step: Step) -> dict[int, str]:
    """Back to the shape that came in."""
    return {0: step.graph.reshape_like(step.dy, step.x)}


def transpose(step: Step) -> dict[int, str]:
    """The inverse order."""
    rank = len(step.graph.shape(step.x))
    order = step.attribute("perm", list(range(rank))[::-1])
    return {0: step.graph.op("Transpose", step.dy, perm=[order.index(axis) for axis in range(rank)])}


def expand(step: Step) -> dict[int, str]:
    """The sum over what was repeated."""
    return {0: sum_to(step.graph, step.dy, step.x, step.y)}


def concat(step: Step) -> dict[int, str]:
    """To each part its own."""
    g, axis = step.graph, step.axis(step.y, step.attribute("axis"))
    sides = [step.side(name, axis) for name in step.node.input]
    if len(sides) == 1:
        return {0: step.dy}
    parts = g.ops("Split", step.dy, g.ints(*sides), outputs=len(sides), axis=axis)
    return {i: parts[i] for i in step.wanted}


def split(step: Step) -> dict[int, str]:
    """The parts together; of an unused one zeros."""
    g = step.graph
    axis = step.axis(step.x, step.attribute("axis", 0))
    parts = [
        gradient or g.op("Expand", g.constant(np.float32(0)), g.shape_tensor(name))
        for gradient, name in zip(step.gradients, step.node.output, strict=True)
    ]
    return {0: parts[0] if len(parts) == 1 else g.op("Concat", *parts, axis=axis)}


def slice_(step: Step) -> dict[int, str]:
    """Zeros around what was cut out."""
    starts, ends, axes, steps = (step.constant(place) for place in (1, 2, 3, 4))
    assert starts is not None and ends is not None
    rank = len(step.graph.shape(step.x))
    along_axes = range(len(starts)) if axes is None else [int(axis) % rank for axis in axes.ravel()]
    strides = [1] * len(starts) if steps is None else [int(stride) for stride in steps.ravel()]
    gradient, pads = step.dy, np.zeros((2, rank), np.int64)
    for start, end, axis, stride in zip(starts.ravel(), ends.ravel(), along_axes, strides, strict=True):
        if stride == 1 and start == 0 and end >= np.iinfo(np.int32).max:
            continue  # the whole axis, whatever its length
        side = step.side(step.x, axis)
        chosen = np.arange(side)[slice(*_limits(int(start), int(end), stride, side))]
        if stride == 1 and len(chosen):
            pads[:, axis] = chosen[0], side - 1 - chosen[-1]
        else:
            gradient = select(step.graph, gradient, chosen, side, axis, rank)
    return {0: padded(step, gradient, pads)}


def _limits(start: int, end: int, stride: int, side: int) -> tuple[int, int | None, int]:
    """ONNX clamps what Python would count from the back a second time."""
    first, last = (place + side if place < 0 else place for place in (start, end))
    if stride > 0:
        return max(0, min(first, side)), max(0, min(last, side)), stride
    last = max(-1, min(last, side - 1))
    return max(0, min(first, side - 1)), None if last == -1 else last, stride


def padded(step: Step, tensor: str, pads: NDArray[np.int64]) -> str:
    """Put zeros around a tensor, or cut with negative numbers; pads [2, rank]: before and behind."""
    if not pads.any():
        return tensor
    return step.graph.op("Pad", tensor, step.graph.ints(*(int(n) for n in pads.ravel())))


def pad(step: Step) -> dict[int, str]:
    """What was there before; a copied border adds to where it came from."""
    rank = len(step.graph.shape(step.x))
    given, axes = step.constant(1), step.constant(3)
    assert given is not None
    pads = np.zeros((2, rank), np.int64)
    pads[:, list(range(rank)) if axes is None else axes.ravel() % rank] = given.reshape(2, -1)
    mode = step.attribute("mode", "constant")
    if mode == "constant":
        return {0: padded(step, step.dy, -pads)}
    gradient = step.dy
    for axis in np.flatnonzero(pads.any(axis=0)):
        side = step.side(step.x, int(axis))
        if (pads[:, axis] < 0).any():
            raise step.refused(f"cuts in mode {mode}")
        chosen = np.pad(np.arange(side), tuple(pads[:, axis]), mode=mode)
        gradient = select(step.graph, gradient, chosen, side, int(axis), rank)
    return {0: gradient}


def tile(step: Step) -> dict[int, str]:
    """The sum over all copies."""
    repeats = step.constant(1)
    assert repeats is not None
    gradient, rank = step.dy, len(step.graph.shape(step.x))
    for axis in np.flatnonzero(repeats.ravel() != 1):
        side = step.side(step.x, int(axis))
        chosen = np.tile(np.arange(side), int(repeats.ravel()[axis]))
        gradient = select(step.graph, gradient, chosen, side, int(axis), rank)
    return {0: gradient}


def gather(step: Step) -> dict[int, str]:
    """To the constant places that were taken."""
    places = step.constant(1)
    assert places is not None
    g, rank = step.graph, len(step.graph.shape(step.x))
    axis = step.axis(step.x, step.attribute("axis", 0))
    side, gradient = step.side(step.x, axis), step.dy
    if places.ndim == 0:
        gradient = g.op("Unsqueeze", gradient, g.ints(axis))
    elif places.ndim > 1:
        shape = [0] * axis + [places.size] + step.sides(step.x, axis + 1)
        gradient = g.op("Reshape", gradient, g.ints(*shape))
    return {0: select(g, gradient, places.ravel() % side, side, axis, rank)}


def top_k(step: Step) -> dict[int, str]:
    """To the places of the values; the second output of the node names them."""
    g, indices = step.graph, second_output(step)
    zeros = g.op("Expand", g.constant(np.float32(0)), g.shape_tensor(step.x))
    axis = step.attribute("axis", -1)
    return {0: g.op("ScatterElements", zeros, indices, step.dy, axis=axis)}


def second_output(step: Step) -> str:
    """Return the second output of a node of the forward graph, which is named if it was left out."""
    outputs = step.node.output
    if len(outputs) == 1:
        outputs.append("")
    outputs[1] = outputs[1] or f"{outputs[0]}_indices"
    return str(outputs[1])


def depth_to_space(step: Step) -> dict[int, str]:
    """Blocks back to channels, in the order they came from."""
    g, block = step.graph, step.attribute("blocksize")
    if step.attribute("mode", "DCR") == "DCR":
        return {0: g.op("SpaceToDepth", step.dy, blocksize=block)}
    channels, height, width = step.sides(step.x, 1)
    inner = g.ints(-1, channels // block**2, height, block, width, block)
    turned = g.op("Transpose", g.op("Reshape", step.dy, inner), perm=[0, 1, 3, 5, 2, 4])
    return {0: g.op("Reshape", turned, g.ints(-1, channels, height, width))}


def space_to_depth(step: Step) -> dict[int, str]:
    """Channels back to blocks."""
    return {0: step.graph.op("DepthToSpace", step.dy, blocksize=step.attribute("blocksize"))}


def resize(step: Step) -> dict[int, str]:
    """Scaling is linear and works along each axis by itself: the transposed matrices of the axes, one after another.

    Enlarging by a whole factor with nearest values is the sum over blocks.
    """
    source, result = step.graph.shape(step.x), step.graph.shape(step.y)
    changed = [axis for axis, (a, b) in enumerate(zip(source, result, strict=True)) if a != b]
    if step.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise step.refused("crops while it scales")
    gradient, matrices = step.dy, {axis: _axis_matrix(step, axis) for axis in changed}
    factors = [_repeats(matrix) for matrix in matrices.values()]
    if changed == [2, 3] and len(source) == 4 and all(factors):
        means = step.graph.op("AveragePool", gradient, kernel_shape=factors, strides=factors)
        return {0: scaled(step.graph, means, math.prod(factors))}
    for axis, matrix in matrices.items():
        gradient = along(step.graph, gradient, matrix.T, axis, len(source))
    return {0: gradient}


def _repeats(matrix: NDArray[np.float32]) -> int:
    """Return how often each value is repeated by a matrix [out, in], or 0 when that is not all that it does."""
    large, small = matrix.shape
    factor = large // small if small else 0
    fits = factor * small == large and np.array_equal(matrix, np.repeat(np.eye(small), factor, axis=0))
    return factor if fits else 0


def _axis_matrix(step: Step, axis: int) -> NDArray[np.float32]:
    """Return what a Resize node does along one axis as a matrix [out, in], by scaling the rows of the unit matrix."""
    sizes, scales = step.input(3), step.constant(2)
    before, after = step.side(step.x, axis), step.side(step.y, axis)
    scale = None
    if not sizes and scales is not None:
        axes = step.attribute("axes")
        place = axis if axes is None else [a % len(step.graph.shape(step.x)) for a in axes].index(axis)
        scale = float(scales.ravel()[place])
    if step.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise step.refused("keeps the aspect ratio")
    kept = {a.name: helper.get_attribute_value(a) for a in step.node.attribute if a.name != "axes"}
    version = max(entry.version for entry in step.graph.model.opset_import if entry.domain in ("", "ai.onnx"))
    return _resized_unit(before, after, scale, tuple(sorted(kept.items())), version)


@functools.lru_cache(maxsize=64)
def _resized_unit(
    before: int, after: int, scale: float | None, attributes: Sequence[tuple[str, object]], version: int
) -> NDArray[np.float32]:
    shape = [before, 1, before, 1]
    node = helper.make_node("Resize", ["x", "", "scales" if scale else "", "" if scale else "sizes"], ["y"])
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes)
    given = numpy_helper.from_array(
        np.array([1, 1, scale, 1], np.float32) if scale else np.array([before, 1, after, 1], np.int64),
        "scales" if scale else "sizes",
    )
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [given],
    )
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": np.eye(before, dtype=np.float32).reshape(shape)})
    return np.asarray(answer.reshape(before, after).T, np.float32)


RULES: dict[str, Rule] = {
    "Reshape": reshaped,
    "Flatten": reshaped,
    "Squeeze": reshaped,
    "Unsqueeze": reshaped,
    "Transpose": transpose,
    "Expand": expand,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Pad": pad,
    "Tile": tile,
    "Gather": gather,
    "TopK": top_k,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Resize": resize,
}
