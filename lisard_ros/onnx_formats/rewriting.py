"""Changes to a foreign ONNX file, so that it has one float32 input [N, 3, H, W] and one output of a bundle's layout.

Only operators that every opset and TensorRT have are put in. Package onnx is imported when a file must be changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle.manifest import Activation, InputSpec
from lisard_ros.errors import BackendError
from lisard_ros.onnx_formats.files import InputFormat

IMAGE, CLASSES, DETECTIONS = "lisard_image", "lisard_scores", "lisard_detections"
LUMA_RGB = (0.299, 0.587, 0.114)  # ITU-R BT.601, what OpenCV and Pillow make gray images with


@dataclass(frozen=True, slots=True, eq=False)
class BoxSource:
    """Where boxes [N, Q, 4] come from: an output, or four of its columns, and what turns them into a layout's boxes.

    matrix: float [4, 4] that the row (four numbers) is multiplied by, or None to leave them.
    """

    tensor: str
    columns: tuple[int, ...] = ()
    matrix: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class ScoreSource:
    """Where scores [N, Q, K] come from: an output and the columns of the classes; activation: applied before."""

    tensor: str
    columns: tuple[int, ...] = ()
    activation: Activation = "none"


@dataclass(frozen=True, slots=True)
class ListSource:
    """Where a list of detections comes from: score and class of each, as outputs [N, M], or columns of [N, M, 6]."""

    scores: str
    classes: str
    score_column: int | None = None
    class_column: int | None = None


def with_usual_input(data: bytes, image_input: InputFormat, spec: InputSpec) -> bytes:
    """Return the file with a float32 input [N, 3, H, W] of the size in `spec`; what it took before is made inside it.

    A file that is usual but for a free size is left as it is without package onnx: TensorRT alone needs a fixed one.
    """
    if image_input.is_usual and None not in (image_input.width_px, image_input.height_px):
        return data
    try:
        graph = _Graph(data)
    except BackendError:
        if image_input.is_usual:
            return data
        raise
    if image_input.is_usual:
        graph.fix_sides(image_input.name, spec)
    else:
        graph.replace_input(image_input, spec)
    return graph.dump()


def with_flat_classes(data: bytes, output: str) -> bytes:
    """Return the file with float32 [N, C] from an output [N, C, 1, 1] or of another type."""
    graph = _Graph(data)
    flat = graph.add("Flatten", [graph.as_float(output)], axis=1)
    return graph.dump_with(CLASSES, flat, ("classes",))


def with_classes_first(data: bytes, boxes: BoxSource, scores: ScoreSource) -> bytes:
    """Return the file with one output of the layout `cxcywh_classes_first`."""
    graph = _Graph(data)
    located = graph.boxes(boxes)
    classes = graph.as_float(scores.tensor)
    if scores.activation == "softmax":
        classes = graph.add("Softmax", [classes], axis=2)
    elif scores.activation == "sigmoid":
        classes = graph.add("Sigmoid", [classes])
    if scores.columns:
        classes = graph.columns(classes, scores.columns)
    rows = graph.add("Concat", [located, classes], axis=2)
    return graph.dump_with(DETECTIONS, graph.add("Transpose", [rows], perm=[0, 2, 1]), ("channels", "boxes"))


def with_list(data: bytes, boxes: BoxSource, source: ListSource) -> bytes:
    """Return the file with one output of the layout `xyxy_score_class`."""
    graph = _Graph(data)
    parts = [graph.boxes(boxes)]
    for tensor, column in ((source.scores, source.score_column), (source.classes, source.class_column)):
        value = graph.as_float(tensor)
        parts.append(graph.columns(value, (column,)) if column is not None else graph.reshape(value, (0, 0, 1)))
    return graph.dump_with(DETECTIONS, graph.add("Concat", parts, axis=2), ("boxes", "columns"))


class _Graph:
    """A model that is edited: new nodes in front of its input, or behind its outputs."""

    def __init__(self, data: bytes) -> None:
        try:
            import onnx
        except ImportError as error:
            raise BackendError(
                "the ONNX file must be changed to become a bundle, which takes a package that is not installed",
                found=str(error),
                expected="onnx",
                cure="pip install onnx",
            ) from error
        self._onnx = onnx
        self._model = onnx.load_model_from_string(data)
        self._graph = self._model.graph
        self._taken = {name for node in self._graph.node for name in node.output}

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        name = self._new(kind)
        self._graph.node.append(self._onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, values: NDArray[Any]) -> str:
        """Append a constant; a node rather than a weight, because old files list their weights among the inputs."""
        return self.add("Constant", [], value=self._onnx.numpy_helper.from_array(values))

    def reshape(self, tensor: str, shape: tuple[int, ...]) -> str:
        return self.add("Reshape", [tensor, self.constant(np.array(shape, np.int64))])

    def columns(self, tensor: str, columns: Sequence[int]) -> str:
        return self.add("Gather", [tensor, self.constant(np.array(columns, np.int64))], axis=2)

    def as_float(self, tensor: str) -> str:
        """The tensor as float32; itself where it is declared as such."""
        declared = {value.name: value.type.tensor_type.elem_type for value in self._graph.output}
        float32 = int(self._onnx.TensorProto.FLOAT)
        return tensor if declared.get(tensor) == float32 else self.add("Cast", [tensor], to=float32)

    def boxes(self, source: BoxSource) -> str:
        """Boxes [N, Q, 4] as a layout wants them."""
        value = self.as_float(source.tensor)
        value = self.columns(value, source.columns) if source.columns else self.reshape(value, (0, -1, 4))
        return value if source.matrix is None else self.add("MatMul", [value, self.constant(source.matrix)])

    def fix_sides(self, name: str, spec: InputSpec) -> None:
        """Declare the size of the images of the usual input."""
        (declared,) = [value for value in self._graph.input if value.name == name]
        sides = declared.type.tensor_type.shape.dim
        for dim, side in zip(sides[1:], (3, spec.height, spec.width), strict=True):
            dim.dim_value = side

    def replace_input(self, image_input: InputFormat, spec: InputSpec) -> None:
        """Make what the file took (`image_input`) from float32 [N, 3, H, W], as `normalise` gives it."""
        before = list(self._graph.node)
        del self._graph.node[:]
        value = IMAGE
        if image_input.channels == 1:
            luma = LUMA_RGB if spec.colour == "rgb" else LUMA_RGB[::-1]
            value = self.add("Conv", [value, self.constant(np.array(luma, np.float32).reshape(1, 3, 1, 1))])
        if image_input.axes == "nhwc":
            value = self.add("Transpose", [value], perm=[0, 2, 3, 1])
        if image_input.dtype == "uint8":
            value = self.add("Floor", [self.add("Add", [value, self.constant(np.array(0.5, np.float32))])])
        to = "" if image_input.dtype == "uint8" and self._only_cast(before, image_input.name) else image_input.dtype
        kinds = {"float16": "FLOAT16", "float64": "DOUBLE", "uint8": "UINT8"}
        name = image_input.name
        if to in kinds:
            cast = int(getattr(self._onnx.TensorProto, kinds[to]))
            self._graph.node.append(self._onnx.helper.make_node("Cast", [value], [name], to=cast))
        else:
            self._graph.node.append(self._onnx.helper.make_node("Identity", [value], [name]))
        if image_input.size_input:
            self._fix_size(image_input.size_input, image_input.batch or 1, spec)
        self._graph.node.extend(before)
        kept = [value for value in self._graph.input if value.name not in (image_input.name, image_input.size_input)]
        del self._graph.input[:]
        shape = [image_input.batch or "batch", 3, spec.height, spec.width]
        image = self._onnx.helper.make_tensor_value_info(IMAGE, self._onnx.TensorProto.FLOAT, shape)
        self._graph.input.extend([image, *kept])

    def dump_with(self, name: str, tensor: str, axes: tuple[str, ...]) -> bytes:
        """Return the bytes of the file with `tensor` as its one output, and without what only others needed."""
        self._graph.node.append(self._onnx.helper.make_node("Identity", [tensor], [name], name=name))
        del self._graph.output[:]
        shape = ["batch", *axes]
        self._graph.output.append(self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape))
        self._prune()
        return self.dump()

    def dump(self) -> bytes:
        """Return the bytes of the file."""
        return bytes(self._model.SerializeToString())

    def _new(self, kind: str) -> str:
        name = next(f"lisard_{kind.lower()}_{n}" for n in count(1) if f"lisard_{kind.lower()}_{n}" not in self._taken)
        self._taken.add(name)
        return name

    def _fix_size(self, name: str, batch: int, spec: InputSpec) -> None:
        """Give the input of the image's size the size of the model's input, so that boxes come in its pixels."""
        (declared,) = [value for value in self._graph.input if value.name == name]
        kind = self._onnx.helper.tensor_dtype_to_np_dtype(declared.type.tensor_type.elem_type)
        size = np.tile(np.array([[spec.width, spec.height]], kind), (batch, 1))
        value = self._onnx.numpy_helper.from_array(size)
        self._graph.node.append(self._onnx.helper.make_node("Constant", [], [name], value=value))

    def _only_cast(self, nodes: Sequence[Any], name: str) -> bool:
        """Whether nothing but casts to float32 reads a tensor; whole numbers in float32 then give the same.

        TensorRT takes 8-bit integers at the border of a network only.
        """
        readers = [node for node in nodes if name in _reads(node)]
        return all(node.op_type == "Cast" and node.attribute[0].i == self._onnx.TensorProto.FLOAT for node in readers)

    def _prune(self) -> None:
        needed = {value.name for value in self._graph.output}
        kept = []
        for node in reversed(self._graph.node):  # sorted, as ONNX demands: readers come after what they read
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(_reads(node))
        del self._graph.node[:]
        self._graph.node.extend(reversed(kept))


def _reads(node: Any) -> Iterable[str]:
    """Names that a node reads, in its branches and loops as well."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            names |= {value.name for value in graph.output}
            for inner in graph.node:
                names |= set(_reads(inner))
    return names
