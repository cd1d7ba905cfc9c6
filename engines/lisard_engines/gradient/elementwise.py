"""Rules of operators that work on each element: activations, arithmetic, choices."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .rules import Rule, Step, scaled, sum_to

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875  # defaults of ONNX
GELU_CUBIC = 0.044715
STEEP = 1e30
Slope = Callable[[Step], str]


def by(slope: Slope) -> Rule:
    """Make the rule of a function of one tensor from its derivative."""
    return lambda step: {0: step.graph.op("Mul", step.dy, slope(step))}


def relu(step: Step) -> dict[int, str]:
    """0 at 0, as torch has it. The result is never negative, so that its sign is the derivative.

    A hard sigmoid that steep is the sign, and ONNX Runtime computes it in the layout of its convolutions: the shipped
    classifier's gradient took 11 % less processor time than with Sign, which needs another layout.
    """
    return {0: step.graph.op("Mul", step.dy, step.graph.op("HardSigmoid", step.y, alpha=STEEP, beta=0.0))}


def positive(step: Step, tensor: str) -> str:
    """Whether a tensor is above 0."""
    return step.graph.op("Greater", tensor, number(step, 0))


def number(step: Step, value: float) -> str:
    """A constant number."""
    return step.graph.constant(np.float32(value))


def either(step: Step, above: str, below: str) -> dict[int, str]:
    """One derivative above 0, another at 0 and below."""
    slope = step.graph.op("Where", positive(step, step.x), above, below)
    return {0: step.graph.op("Mul", step.dy, slope)}


def leaky_relu(step: Step) -> dict[int, str]:
    """Alpha below 0."""
    return either(step, number(step, 1), number(step, step.attribute("alpha", 0.01)))


def prelu(step: Step) -> dict[int, str]:
    """A constant slope below 0."""
    slope = step.constant(1)
    assert slope is not None
    return either(step, number(step, 1), str(step.node.input[1]))


def elu(step: Step) -> dict[int, str]:
    """Y + alpha below 0."""
    return either(step, number(step, 1), step.graph.op("Add", step.y, number(step, step.attribute("alpha", 1.0))))


def celu(step: Step) -> dict[int, str]:
    """Y / alpha + 1 below 0."""
    share = step.graph.op("Div", step.y, number(step, step.attribute("alpha", 1.0)))
    return either(step, number(step, 1), step.graph.op("Add", share, number(step, 1)))


def selu(step: Step) -> dict[int, str]:
    """Y + alpha gamma below 0."""
    alpha, gamma = step.attribute("alpha", SELU_ALPHA), step.attribute("gamma", SELU_GAMMA)
    return either(step, number(step, gamma), step.graph.op("Add", step.y, number(step, alpha * gamma)))


def sigmoid(step: Step) -> str:
    """Y (1 - y)."""
    g = step.graph
    return g.op("Mul", step.y, g.op("Sub", number(step, 1), step.y))


def tanh(step: Step) -> str:
    """1 - y^2."""
    g = step.graph
    return g.op("Sub", number(step, 1), g.op("Mul", step.y, step.y))


def softsign(step: Step) -> str:
    """1 / (1 + |x|)^2."""
    g = step.graph
    root = g.op("Add", g.op("Abs", step.x), number(step, 1))
    return g.op("Reciprocal", g.op("Mul", root, root))


def erf(step: Step) -> str:
    """2 / sqrt(pi) exp(-x^2)."""
    g = step.graph
    bell = g.op("Exp", g.op("Neg", g.op("Mul", step.x, step.x)))
    return scaled(g, bell, 2 / math.sqrt(math.pi))


def gelu(step: Step) -> str:
    """Phi(x) + x phi(x), or the derivative of the form with tanh."""
    g = step.graph
    if step.attribute("approximate", "none") == "tanh":
        return _gelu_tanh(step)
    share = g.op("Add", g.op("Erf", scaled(g, step.x, math.sqrt(0.5))), number(step, 1))
    bell = g.op("Exp", scaled(g, g.op("Mul", step.x, step.x), -0.5))
    density = scaled(g, g.op("Mul", step.x, bell), 1 / math.sqrt(2 * math.pi))
    return g.op("Add", scaled(g, share, 0.5), density)


def _gelu_tanh(step: Step) -> str:
    g, root = step.graph, math.sqrt(2 / math.pi)
    square = g.op("Mul", step.x, step.x)
    inner = g.op("Mul", step.x, g.op("Add", scaled(g, square, root * GELU_CUBIC), number(step, root)))
    t = g.op("Tanh", inner)
    steep = g.op("Add", scaled(g, square, 3 * root * GELU_CUBIC), number(step, root))
    bend = g.op("Mul", g.op("Mul", step.x, steep), g.op("Sub", number(step, 1), g.op("Mul", t, t)))
    return scaled(g, g.op("Add", g.op("Add", t, number(step, 1)), bend), 0.5)


def mish(step: Step) -> str:
    """T + x sigmoid(x) (1 - t^2), t = tanh(softplus(x))."""
    g = step.graph
    t = g.op("Tanh", g.op("Softplus", step.x))
    bend = g.op("Mul", g.op("Mul", step.x, g.op("Sigmoid", step.x)), g.op("Sub", number(step, 1), g.op("Mul", t, t)))
    return g.op("Add", t, bend)


def swish(step: Step) -> str:
    """S + alpha x s (1 - s), s = sigmoid(alpha x)."""
    g, alpha = step.graph, step.attribute("alpha", 1.0)
    s = g.op("Sigmoid", scaled(g, step.x, alpha))
    bend = g.op("Mul", g.op("Mul", scaled(g, step.x, alpha), s), g.op("Sub", number(step, 1), s))
    return g.op("Add", s, bend)


def hard_sigmoid(step: Step) -> str:
    """Alpha where the result is neither 0 nor 1."""
    g = step.graph
    inside = g.op("And", positive(step, step.y), g.op("Less", step.y, number(step, 1)))
    return g.op("Where", inside, number(step, step.attribute("alpha", 0.2)), number(step, 0))


def hard_swish(step: Step) -> str:
    """0 below -3, x / 3 + 1/2 up to 3, 1 above."""
    g = step.graph
    middle = g.op("Add", scaled(g, step.x, 1 / 3), number(step, 0.5))
    low = g.op("Where", g.op("Less", step.x, number(step, -3)), number(step, 0), middle)
    return g.op("Where", g.op("Greater", step.x, number(step, 3)), number(step, 1), low)


def clip(step: Step) -> dict[int, str]:
    """1 within the limits, themselves included."""
    g = step.graph
    limits = [(kind, step.input(place)) for kind, place in (("GreaterOrEqual", 1), ("LessOrEqual", 2))]
    inside = [g.op(kind, step.x, limit) for kind, limit in limits if limit]
    if not inside:
        return {0: step.dy}
    mask = inside[0] if len(inside) == 1 else g.op("And", *inside)
    return {0: g.op("Where", mask, step.dy, number(step, 0))}


def passed(step: Step) -> dict[int, str]:
    """The gradient as it is."""
    return {0: step.dy}


def flat(step: Step) -> dict[int, str]:
    """No gradient: the result is constant almost everywhere."""
    return {}


def cast(step: Step) -> dict[int, str]:
    """Back to the kind of number that came in."""
    if not step.graph.is_float(step.y):
        return {}
    return {0: step.graph.op("CastLike", step.dy, step.x)}


def dropout(step: Step) -> dict[int, str]:
    """Nothing is dropped outside training."""
    training = step.constant(2)
    if training is not None and training.any():
        raise step.refused("is in training mode")
    return {0: step.dy}


def add(step: Step) -> dict[int, str]:
    """To every term."""
    return {i: sum_to(step.graph, step.dy, step.node.input[i], step.y) for i in step.wanted}


def subtract(step: Step) -> dict[int, str]:
    """To both terms, with a minus to the second."""
    sides = {i: step.dy if i == 0 else step.graph.op("Neg", step.dy) for i in step.wanted}
    return {i: sum_to(step.graph, side, step.node.input[i], step.y) for i, side in sides.items()}


def multiply(step: Step) -> dict[int, str]:
    """Each factor times the other."""
    g, (a, b) = step.graph, step.node.input
    sides = {i: g.op("Mul", step.dy, b if i == 0 else a) for i in step.wanted}
    return {i: sum_to(g, side, step.node.input[i], step.y) for i, side in sides.items()}


def divide(step: Step) -> dict[int, str]:
    """Dy / b, and -dy y / b."""
    g, b = step.graph, step.node.input[1]
    share = g.op("Div", step.dy, b)
    sides = {i: share if i == 0 else g.op("Neg", g.op("Mul", share, step.y)) for i in step.wanted}
    return {i: sum_to(g, side, step.node.input[i], step.y) for i, side in sides.items()}


def power(step: Step) -> dict[int, str]:
    """B x^(b - 1), of a constant exponent."""
    exponent = step.constant(1)
    assert exponent is not None
    g = step.graph
    if exponent.size == 1 and float(exponent.ravel()[0]) == 2:
        slope = scaled(g, step.x, 2)
    else:
        lowered = g.op("Pow", step.x, g.constant(exponent - 1))
        slope = g.op("Mul", lowered, g.constant(exponent))
    return {0: sum_to(g, g.op("Mul", step.dy, slope), step.x, step.y)}


def extreme(step: Step) -> dict[int, str]:
    """To the largest or smallest; equal ones share it."""
    g = step.graph
    held = [g.op("Cast", g.op("Equal", name, step.y), to=1) for name in step.node.input]
    count = held[0] if len(held) == 1 else g.op("Sum", *held)
    share = g.op("Div", step.dy, count)
    return {i: sum_to(g, g.op("Mul", share, held[i]), step.node.input[i], step.y) for i in step.wanted}


def mean(step: Step) -> dict[int, str]:
    """To every term alike."""
    share = scaled(step.graph, step.dy, 1 / len(step.node.input))
    return {i: sum_to(step.graph, share, step.node.input[i], step.y) for i in step.wanted}


def where(step: Step) -> dict[int, str]:
    """To the side that was taken."""
    g, condition = step.graph, step.node.input[0]
    zero = number(step, 0)
    sides = {i: g.op("Where", condition, *((step.dy, zero) if i == 1 else (zero, step.dy))) for i in step.wanted}
    return {i: sum_to(g, side, step.node.input[i], step.y) for i, side in sides.items()}


RULES: dict[str, Rule] = {
    "Relu": relu,
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Elu": elu,
    "Celu": celu,
    "Selu": selu,
    "Sigmoid": by(sigmoid),
    "Tanh": by(tanh),
    "Softplus": by(lambda step: step.graph.op("Sigmoid", step.x)),
    "Softsign": by(softsign),
    "Erf": by(erf),
    "Gelu": by(gelu),
    "Mish": by(mish),
    "Swish": by(swish),
    "HardSigmoid": by(hard_sigmoid),
    "HardSwish": by(hard_swish),
    "Exp": by(lambda step: step.y),
    "Log": lambda step: {0: step.graph.op("Div", step.dy, step.x)},
    "Sqrt": lambda step: {0: step.graph.op("Div", scaled(step.graph, step.dy, 0.5), step.y)},
    "Reciprocal": by(lambda step: step.graph.op("Neg", step.graph.op("Mul", step.y, step.y))),
    "Abs": by(lambda step: step.graph.op("Sign", step.x)),
    "Neg": lambda step: {0: step.graph.op("Neg", step.dy)},
    "Sin": by(lambda step: step.graph.op("Cos", step.x)),
    "Cos": by(lambda step: step.graph.op("Neg", step.graph.op("Sin", step.x))),
    "Clip": clip,
    "Identity": passed,
    "Cast": cast,
    "CastLike": cast,
    "Dropout": dropout,
    "Floor": flat,
    "Ceil": flat,
    "Round": flat,
    "Sign": flat,
    "Add": add,
    "Sum": add,
    "Sub": subtract,
    "Mul": multiply,
    "Div": divide,
    "Pow": power,
    "Max": extreme,
    "Min": extreme,
    "Mean": mean,
    "Where": where,
}
