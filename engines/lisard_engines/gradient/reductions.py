"""Rules of operators that sum over axes: reductions, softmax, norms, global pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .rules import Rule, Step, scaled


def axes_of(step: Step) -> list[int]:
    """Return the axes that a reduction sums over, counted from the front; none: it changes nothing."""
    given = step.constant(1)
    rank = len(step.graph.shape(step.x))
    if given is None or not given.size:
        return [] if step.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(int(axis) % rank for axis in given.ravel())


def kept(step: Step, tensor: str, axes: Sequence[int]) -> str:
    """Give a tensor like the result its summed axes back, of length 1."""
    if step.attribute("keepdims", 1) or not axes:
        return tensor
    return step.graph.op("Unsqueeze", tensor, step.graph.ints(*axes))


def like_input(step: Step, tensor: str) -> str:
    """Repeat a gradient along the summed axes."""
    return step.graph.op("Expand", tensor, step.graph.shape_tensor(step.x))


def count(step: Step, axes: Sequence[int]) -> int:
    """Return how many elements are summed to one."""
    shape = step.graph.shape(step.x)
    if any(shape[axis] is None for axis in axes):
        raise step.refused("averages over the batch")
    return math.prod(int(shape[axis] or 0) for axis in axes)


def reduce_sum(step: Step) -> dict[int, str]:
    """To every term."""
    return {0: like_input(step, kept(step, step.dy, axes_of(step)))}


def reduce_mean(step: Step) -> dict[int, str]:
    """To every term alike."""
    axes = axes_of(step)
    return {0: like_input(step, scaled(step.graph, kept(step, step.dy, axes), 1 / count(step, axes)))}


def reduce_extreme(step: Step) -> dict[int, str]:
    """To the largest or smallest; equal ones share it."""
    axes, g = axes_of(step), step.graph
    if not axes:
        return {0: step.dy}
    return {0: _to_extremes(step, kept(step, step.dy, axes), kept(step, step.y, axes), g.ints(*axes))}


def _to_extremes(step: Step, dy: str, y: str, axes: str) -> str:
    g = step.graph
    held = g.op("Cast", g.op("Equal", step.x, y), to=1)
    share = g.op("Div", dy, g.op("ReduceSum", held, axes, keepdims=1))
    return g.op("Mul", held, share)


def reduce_l1(step: Step) -> dict[int, str]:
    """The sign of each term."""
    return {0: step.graph.op("Mul", kept(step, step.dy, axes_of(step)), step.graph.op("Sign", step.x))}


def reduce_l2(step: Step) -> dict[int, str]:
    """X / y."""
    axes, g = axes_of(step), step.graph
    return {0: g.op("Mul", step.x, g.op("Div", kept(step, step.dy, axes), kept(step, step.y, axes)))}


def reduce_sum_square(step: Step) -> dict[int, str]:
    """2 x."""
    g = step.graph
    return {0: scaled(g, g.op("Mul", step.x, kept(step, step.dy, axes_of(step))), 2)}


def reduce_log_sum_exp(step: Step) -> dict[int, str]:
    """The softmax."""
    axes, g = axes_of(step), step.graph
    share = g.op("Exp", g.op("Sub", step.x, kept(step, step.y, axes)))
    return {0: g.op("Mul", share, kept(step, step.dy, axes))}


def softmax(step: Step) -> dict[int, str]:
    """Y (dy - sum(dy y))."""
    g, axes = step.graph, step.graph.ints(step.attribute("axis", -1))
    total = g.op("ReduceSum", g.op("Mul", step.dy, step.y), axes, keepdims=1)
    return {0: g.op("Mul", step.y, g.op("Sub", step.dy, total))}


def log_softmax(step: Step) -> dict[int, str]:
    """Dy - softmax(x) sum(dy)."""
    g, axes = step.graph, step.graph.ints(step.attribute("axis", -1))
    total = g.op("ReduceSum", step.dy, axes, keepdims=1)
    return {0: g.op("Sub", step.dy, g.op("Mul", g.op("Exp", step.y), total))}


def global_average_pool(step: Step) -> dict[int, str]:
    """To every position alike."""
    return {0: like_input(step, scaled(step.graph, step.dy, 1 / math.prod(step.sides(step.x, 2))))}


def global_max_pool(step: Step) -> dict[int, str]:
    """To the largest position; equal ones share it."""
    axes = range(2, len(step.graph.shape(step.x)))
    return {0: _to_extremes(step, step.dy, step.y, step.graph.ints(*axes))}


def batch_normalization(step: Step) -> dict[int, str]:
    """Scale / sqrt(variance + epsilon), of stored statistics."""
    if step.attribute("training_mode", 0):
        raise step.refused("is in training mode")
    scale, variance = step.constant(1), step.constant(4)
    assert scale is not None and variance is not None
    factor = scale / np.sqrt(variance + step.attribute("epsilon", 1e-5))
    shape = (-1, *([1] * (len(step.graph.shape(step.x)) - 2)))
    return {0: step.graph.op("Mul", step.dy, step.graph.constant(factor.reshape(shape)))}


def layer_normalization(step: Step) -> dict[int, str]:
    """Over the last axes."""
    rank = len(step.graph.shape(step.x))
    axes = range(step.attribute("axis", -1) % rank, rank)
    return {0: _normalised(step, str(step.node.input[1]), axes)}


def instance_normalization(step: Step) -> dict[int, str]:
    """Over the positions of each channel."""
    scale, rank = step.constant(1), len(step.graph.shape(step.x))
    assert scale is not None
    return {0: _normalised(step, step.graph.constant(scale.reshape(-1, *([1] * (rank - 2)))), range(2, rank))}


def _normalised(step: Step, scale: str, over: range) -> str:
    """Inv (g - mean(g) - n mean(g n)), with g = dy scale and n the normalised input."""
    g, axes = step.graph, step.graph.ints(*over)
    away = g.op("Sub", step.x, g.op("ReduceMean", step.x, axes, keepdims=1))
    variance = g.op("ReduceMean", g.op("Mul", away, away), axes, keepdims=1)
    inverse = g.op("Reciprocal", g.op("Sqrt", g.op("Add", variance, g.constant(step.attribute("epsilon", 1e-5)))))
    normal, wanted = g.op("Mul", away, inverse), g.op("Mul", step.dy, scale)
    shared = g.op("ReduceMean", g.op("Mul", wanted, normal), axes, keepdims=1)
    rest = g.op("Sub", g.op("Sub", wanted, g.op("ReduceMean", wanted, axes, keepdims=1)), g.op("Mul", normal, shared))
    return g.op("Mul", inverse, rest)


def lp_normalization(step: Step) -> dict[int, str]:
    """(dy - y sum(dy y)) / norm, of the Euclidean norm."""
    if step.attribute("p", 2) != 2:
        raise step.refused("is not of the Euclidean norm")
    g, axes = step.graph, step.graph.ints(step.attribute("axis", -1))
    norm = g.op("ReduceL2", step.x, axes, keepdims=1)
    total = g.op("ReduceSum", g.op("Mul", step.dy, step.y), axes, keepdims=1)
    return {0: g.op("Div", g.op("Sub", step.dy, g.op("Mul", step.y, total)), norm)}


RULES: dict[str, Rule] = {
    "ReduceSum": reduce_sum,
    "ReduceMean": reduce_mean,
    "ReduceMax": reduce_extreme,
    "ReduceMin": reduce_extreme,
    "ReduceL1": reduce_l1,
    "ReduceL2": reduce_l2,
    "ReduceSumSquare": reduce_sum_square,
    "ReduceLogSumExp": reduce_log_sum_exp,
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "BatchNormalization": batch_normalization,
    "LayerNormalization": layer_normalization,
    "InstanceNormalization": instance_normalization,
    "LpNormalization": lp_normalization,
}
