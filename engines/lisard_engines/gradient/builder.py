"""An ONNX graph that grows: new nodes and constants, and the shape of every tensor it began with.

Shapes are observed, not inferred: the model is run with two batch sizes, and what differs depends on the batch. Small
whole-number tensors that do not differ are known too, such as the sizes that exporters compute out of shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from lisard_ros.errors import BundleError

Shape = tuple["int | None", ...]
Feed = Callable[[int], Mapping[str, NDArray[Any]]]
SMALL = 64  # elements of a whole-number tensor whose values are kept
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True, slots=True)
class Observed:
    """A tensor of the forward graph. shape: None where it depends on the batch; values: of small whole numbers."""

    shape: Shape
    dtype: np.dtype[Any]
    values: NDArray[Any] | None


class GraphBuilder:
    """Nodes and constants put behind those of a model; the model itself is not changed."""

    def __init__(self, model: ModelProto, observed: Mapping[str, Observed] | None = None) -> None:
        """Begin with the nodes of a model; observed: of its tensors, needed by rules alone."""
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self.nodes: list[NodeProto] = list(self.model.graph.node)
        self._observed = dict(observed or {})
        self._constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                self._constants[node.output[0]] = _constant_value(node)
        self._added: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._number = 0
        self._prefix = _free_prefix(model)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs, and return their names."""
        self._number += 1
        names = [f"{self._prefix}{self._number}_{kind}" + (f"_{i}" if i else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names

    def alias(self, tensor: str, name: str) -> None:
        """Give a tensor a second name; runtimes take the node for it out again."""
        self.nodes.append(helper.make_node("Identity", [tensor], [name], name=f"{self._prefix}{name}"))

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Return the name of a constant; equal ones are kept once."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        array = array.reshape(np.shape(value))  # ascontiguousarray makes a scalar a row
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._added:
            name = f"{self._prefix}c{len(self._added)}"
            self._added[key] = name
            self._constants[name] = array
            self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        return self._added[key]

    def ints(self, *values: int) -> str:
        """Return the name of a constant row of whole numbers."""
        return self.constant(np.array(values, np.int64), np.int64)

    def value(self, name: str) -> NDArray[Any] | None:
        """Return what a tensor holds whatever the image, or None."""
        if name in self._constants:
            return self._constants[name]
        return self._observed[name].values if name in self._observed else None

    def shape(self, name: str) -> Shape:
        """Return the shape of a constant or of a tensor of the forward graph; None where it depends on the batch."""
        if name in self._constants:
            return tuple(self._constants[name].shape)
        return self._observed[name].shape

    def is_float(self, name: str) -> bool:
        """Tell whether a tensor can carry a gradient."""
        if name in self._constants:
            return self._constants[name].dtype in _FLOATS
        return name in self._observed and self._observed[name].dtype in _FLOATS

    def shape_tensor(self, name: str) -> str:
        """Return the name of a tensor with the shape that a forward tensor has when the graph runs."""
        shape = self.shape(name)
        if shape.count(None) == 0:
            return self.ints(*(side for side in shape if side is not None))
        return self.op("Shape", name)

    def reshape_like(self, tensor: str, name: str) -> str:
        """Give a tensor the shape of a forward tensor of as many elements."""
        shape = self.shape(name)
        if shape.count(None) <= 1 and 0 not in shape:
            return self.op("Reshape", tensor, self.ints(*(-1 if side is None else side for side in shape)))
        return self.op("Reshape", tensor, self.op("Shape", name))

    def finish(self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> ModelProto:
        """Return the whole as a model with these inputs and outputs."""
        done = ModelProto()
        done.CopyFrom(self.model)
        for part, values in (("node", self.nodes), ("input", inputs), ("output", outputs)):
            del getattr(done.graph, part)[:]
            getattr(done.graph, part).extend(values)
        del done.graph.value_info[:]
        return done


def observe(model: ModelProto, feed: Feed, batches: Sequence[int]) -> dict[str, Observed]:
    """Run a model and note every tensor of it.

    Args:
        model: With weights as initialisers.
        feed: Makes the inputs of a batch of that size.
        batches: Sizes to run, one if the model is fixed to it.

    Raises:
        BundleError: ONNX Runtime cannot run the model.
    """
    names = list(dict.fromkeys(n for node in model.graph.node for n in node.output if n))
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
        runs = []
        for batch in batches:
            inputs = dict(feed(batch))
            runs.append({**inputs, **dict(zip(names, session.run(names, inputs), strict=True))})
    except Exception as error:  # ONNX Runtime raises its own untyped family
        raise BundleError(
            "the model cannot be run to find the shapes of its tensors",
            found=" ".join(str(error).split())[:300],
            expected="a model that ONNX Runtime runs on a processor",
            cure="export the model again",
        ) from error
    return {name: _compare([run[name] for run in runs]) for name in runs[0] if isinstance(runs[0][name], np.ndarray)}


def _compare(values: Sequence[NDArray[Any]]) -> Observed:
    first, last = values[0], values[-1]
    if first.ndim != last.ndim:
        return Observed((None,) * first.ndim, first.dtype, None)
    shape = tuple(a if a == b else None for a, b in zip(first.shape, last.shape, strict=True))
    whole = first.dtype.kind in "iub" and first.size <= SMALL and np.array_equal(first, last)
    return Observed(shape, first.dtype, first if whole else None)


def _constant_value(node: NodeProto) -> NDArray[Any]:
    (attribute,) = node.attribute
    value = helper.get_attribute_value(attribute)
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _free_prefix(model: ModelProto) -> str:
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    names |= {tensor.name for tensor in model.graph.initializer}
    prefix = "g"
    while any(name.startswith(prefix) and name[len(prefix) : len(prefix) + 1].isalnum() for name in names):
        prefix += "_"
    return prefix
