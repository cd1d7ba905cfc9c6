"""What every rule is given and what several of them need: the step back through one node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from lisard_ros.errors import BundleError

from .builder import GraphBuilder


@dataclass(frozen=True, slots=True)
class Step:
    """One node on the way back.

    Attributes:
        graph: Where nodes are added.
        node: The node of the forward graph.
        gradients: Of the loss in each of its outputs, None where the loss does not depend on one.
        wanted: Positions of the inputs whose gradient is needed.
    """

    graph: GraphBuilder
    node: NodeProto
    gradients: tuple[str | None, ...]
    wanted: frozenset[int]

    @property
    def dy(self) -> str:
        """The gradient in the first output."""
        if self.gradients[0] is None:
            raise self.refused("uses an output beside its first one")
        return self.gradients[0]

    @property
    def x(self) -> str:
        """The first input."""
        return str(self.node.input[0])

    @property
    def y(self) -> str:
        """The first output."""
        return str(self.node.output[0])

    def input(self, position: int) -> str | None:
        """Return the name of an input, or None when it is left out."""
        return self.node.input[position] or None if position < len(self.node.input) else None

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute as plain Python, or the default."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def constant(self, position: int) -> NDArray[Any] | None:
        """Return the values of an input that does not depend on the image, None when it is left out.

        Raises:
            BundleError: It depends on the image or on the batch.
        """
        name = self.input(position)
        if name is None:
            return None
        value = self.graph.value(name)
        if value is None:
            raise self.refused(f"takes its input {position} from the image")
        return value

    def sides(self, name: str, first: int = 0) -> list[int]:
        """Return the sides of a forward tensor from an axis on; refuses one that depends on the batch."""
        return [self.side(name, axis) for axis in range(first, len(self.graph.shape(name)))]

    def side(self, name: str, axis: int) -> int:
        """Return the length of one axis of a forward tensor; refuses one that depends on the batch."""
        side = self.graph.shape(name)[axis]
        if side is None:
            raise self.refused(f"works along the batch, shape {self.graph.shape(name)}")
        return side

    def axis(self, name: str, axis: int) -> int:
        """Return an axis counted from the front."""
        return axis % max(1, len(self.graph.shape(name)))

    def refused(self, why: str) -> BundleError:
        """Build the error for a node that the gradient cannot pass."""
        return refused(self.node, why)


Rule = Callable[[Step], "dict[int, str]"]


def refused(node: NodeProto, why: str) -> BundleError:
    """Build the error for a node that the gradient cannot pass: it names the operator and the node."""
    domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
    return BundleError(
        "no gradient can be derived of this model",
        found=f"operator {domain}{node.op_type} (node {node.name or node.output[0]!r}): {why}",
        expected="operators that docs/attack_tests.md lists",
        cure="attack it from a surrogate bundle, or without gradients (attack/square)",
    )


def scaled(graph: GraphBuilder, tensor: str, factor: float) -> str:
    """Multiply by a number, unless it is 1."""
    return tensor if factor == 1 else graph.op("Mul", tensor, graph.constant(np.float32(factor)))


def sum_to(graph: GraphBuilder, gradient: str, source: str, result: str) -> str:
    """Undo broadcasting: sum a gradient of the shape of `result` to the shape of `source`, both forward tensors."""
    small, large = graph.shape(source), graph.shape(result)
    missing = len(large) - len(small)
    repeated = [missing + i for i, side in enumerate(small) if side == 1 and large[missing + i] != 1]
    if repeated:
        gradient = graph.op("ReduceSum", gradient, graph.ints(*repeated), keepdims=1)
    if missing:
        gradient = graph.op("ReduceSum", gradient, graph.ints(*range(missing)), keepdims=0)
    return gradient


def along(graph: GraphBuilder, tensor: str, matrix: NDArray[Any], axis: int, rank: int) -> str:
    """Multiply along one axis: out[..., i, ...] = sum_j matrix[i, j] tensor[..., j, ...]."""
    if axis == rank - 1:
        return graph.op("MatMul", tensor, graph.constant(matrix.T))
    if axis == rank - 2:
        return graph.op("MatMul", graph.constant(matrix), tensor)
    order = [*(i for i in range(rank) if i != axis), axis]
    turned = graph.op("MatMul", graph.op("Transpose", tensor, perm=order), graph.constant(matrix.T))
    return graph.op("Transpose", turned, perm=[order.index(i) for i in range(rank)])


def select(graph: GraphBuilder, gradient: str, chosen: NDArray[np.integer], side: int, axis: int, rank: int) -> str:
    """Undo out[i] = in[chosen[i]] along one axis of that side: what was taken from one place is summed there."""
    matrix = np.zeros((side, len(chosen)), np.float32)
    matrix[chosen, np.arange(len(chosen))] = 1
    return along(graph, gradient, matrix, axis, rank)
