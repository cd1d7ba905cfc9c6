"""From a graph with a loss to the same graph with the loss's gradient: reverse mode, one rule for each operator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from . import elementwise, products, reductions, shaping
from .builder import GraphBuilder
from .rules import Rule, Step, refused

RULES: dict[str, Rule] = {**elementwise.RULES, **shaping.RULES, **products.RULES, **reductions.RULES}


def gradient(graph: GraphBuilder, of: str, at: str) -> str:
    """Add the gradient of a loss to a graph whose tensors were observed.

    Args:
        graph: The forward graph.
        of: Name of the loss, one number for each image; they are taken as independent.
        at: Name of the input.

    Returns:
        The name of the gradient, a tensor like the input.

    Raises:
        BundleError: There is no rule for an operator between the two, or the loss does not depend on the input.
    """
    forward = list(graph.nodes)
    depends = _reached(graph, forward, at)
    parts: dict[str, list[str]] = {of: [graph.op("Expand", graph.constant(np.float32(1)), graph.op("Shape", of))]}
    for node in reversed(forward):
        if not any(name in parts for name in node.output):
            continue
        wanted = frozenset(i for i, name in enumerate(node.input) if name in depends)
        sums = tuple(_sum(graph, parts[name]) if name in parts else None for name in node.output)
        if not wanted and not _holds_graph(node):
            continue
        for place, part in _rule(node)(Step(graph, node, sums, wanted)).items():
            if place in wanted:
                parts.setdefault(node.input[place], []).append(part)
    if at not in parts:
        raise refused(forward[-1], "the loss does not depend on the image")
    return _sum(graph, parts[at])


def _reached(graph: GraphBuilder, nodes: Sequence[NodeProto], at: str) -> set[str]:
    """Names of the tensors of floating-point numbers that depend on the input."""
    reached = {at}
    for node in nodes:
        if any(name in reached for name in node.input):
            reached.update(name for name in node.output if name and graph.is_float(name))
    return reached


def _sum(graph: GraphBuilder, parts: list[str]) -> str:
    if len(parts) > 1:
        total = parts[0]
        for part in parts[1:]:
            total = graph.op("Add", total, part)
        parts[:] = [total]
    return parts[0]


def _rule(node: NodeProto) -> Rule:
    if _holds_graph(node):
        raise refused(node, "it holds a graph of its own")
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None:
        raise refused(node, "there is no rule for it")
    return rule


def _holds_graph(node: NodeProto) -> bool:
    """Whether a node takes tensors that its inputs do not list, as If and Loop do."""
    return any(attribute.HasField("g") for attribute in node.attribute)
