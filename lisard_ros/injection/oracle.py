"""What an attack may ask of a model: goals, the evaluation it gets back, and the protocol between them.

Arrays are of whatever array library the oracle uses (NumPy, torch); attacks find out through array-api-compat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = Any
Transform = Callable[[Array], Array]


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """Untargeted: drive each picture away from its true class. indices: int [N]; the loss to raise is theirs."""

    indices: NDArray[np.integer]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Targeted: drive each picture towards a class. indices: int [N]; the loss to raise is minus the target's."""

    indices: NDArray[np.integer]


Goal = Label | Target


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A model's answer to an attack, detached and never reduced over the batch.

    loss: [N], what the attacker wants to raise. scores: [N, K]. gradient: d loss[i] / d x[i] like x, or None when the
    oracle can only be queried.
    """

    loss: Array
    scores: Array
    gradient: Array | None


class Oracle(Protocol):
    """A model under attack. x: [N, 3, H, W] in [0, 1].

    transform: differentiable change applied to x before the model (for expectation over transformations).
    """

    def evaluate(self, x: Array, goal: Goal, transform: Transform | None = None) -> Evaluation:
        """Return loss, scores and, if the oracle knows it, the gradient."""


class Randomness(Protocol):
    """A source of random numbers that gives NumPy arrays, so that every array library sees the same draws."""

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Draw from [low, high); numpy.random.Generator fits."""


def pick(goal: Goal, rows: NDArray[np.integer] | slice) -> Goal:
    """Return the same goal for some of the rows."""
    return type(goal)(goal.indices[rows])
