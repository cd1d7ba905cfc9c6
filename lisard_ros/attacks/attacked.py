"""What an attack returns: the images, whether they fool the model, and what was spent on each.

`Best` collects it: of all that an attack tried for an image it keeps what fools the model, and among equals what has
the higher loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from lisard_ros.attacks.model import Array, AttackModel, Criterion, ModelAnswer, like, numbers, require_images, rows_of
from lisard_ros.attacks.objective import fooled
from lisard_ros.errors import AttackError


@dataclass(frozen=True, slots=True, eq=False)
class AttackResult:
    """Images after an attack, row by row as they went in.

    Attributes:
        x: The images, [N, C, H, W] of the given array library.
        loss: What the criterion raises, float64 [N].
        fooled: Whether each image fools the model, bool [N].
        gradients: How often the network was differentiated for each image, int64 [N].
        queries: How often it was only asked, int64 [N].
    """

    x: Array
    loss: NDArray[np.float64]
    fooled: NDArray[np.bool_]
    gradients: NDArray[np.int64]
    queries: NDArray[np.int64]


class Best:
    """The best image so far for every row, and the count of what it took."""

    def __init__(self, x: Array) -> None:
        """Start with the clean images, whose loss is not known yet."""
        require_images(x)
        count = int(x.shape[0])
        self._x = array_namespace(x).asarray(x, copy=True)
        self._loss, self._fooled = np.full(count, -np.inf), np.zeros(count, bool)
        self._gradients, self._queries = np.zeros(count, np.int64), np.zeros(count, np.int64)

    def ask(
        self, model: AttackModel, rows: NDArray[np.intp], x: Array, criterion: Criterion, *, gradient: bool = True
    ) -> ModelAnswer:
        """Evaluate candidates for some of the rows, and keep those that are better than the best so far.

        Args:
            model: The model under attack.
            rows: Which rows, whole numbers [R].
            x: A candidate for each of these rows, [R, C, H, W].
            criterion: What the attacker wants, of these rows alone.
            gradient: Whether the answer needs a gradient.

        Raises:
            AttackError: A loss is NaN.
        """
        answer = model.evaluate(x, criterion, gradient=gradient)
        self.charge(rows, answer.cost, gradient=gradient)
        loss, won = numbers(answer.loss).astype(np.float64), fooled(answer.scores, criterion)
        if np.isnan(loss).any():
            raise AttackError(
                "the attack model gave a loss that is not a number",
                found="NaN",
                expected="finite losses",
                cure="look at the network's outputs",
            )
        before = self._fooled[rows]
        better = (won & ~before) | ((won == before) & (loss > self._loss[rows]))
        if better.any():
            chosen = rows[better]
            self._loss[chosen], self._fooled[chosen] = loss[better], won[better]
            mask = np.zeros(len(self._loss), bool)
            mask[chosen] = True
            self._x[like(mask, x)] = x[like(better, x)]
        return answer

    def charge(self, rows: NDArray[np.intp], cost: int, *, gradient: bool) -> None:
        """Count what a question about these rows cost."""
        (self._gradients if gradient else self._queries)[rows] += cost

    def open(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the positions within `rows` of the images that are not fooled yet."""
        return np.flatnonzero(~self._fooled[rows])

    def images(self, rows: NDArray[np.intp]) -> Array:
        """Return the best images of these rows."""
        return rows_of(self._x, rows)

    def attacked(self) -> AttackResult:
        """Return the best images, and what was spent on them."""
        return AttackResult(self._x, self._loss, self._fooled, self._gradients, self._queries)
