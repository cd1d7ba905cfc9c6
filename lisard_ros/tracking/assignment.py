"""The best one-to-one choice of pairs, exactly: few rows and columns, no library.

Shortest augmenting paths with potentials (Jonker and Volgenant 1987, "A shortest augmenting path algorithm for dense
and sparse linear assignment problems"); the column that a path goes on with is found by NumPy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(benefits: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Choose pairs of rows and columns with the largest total benefit, each row and column at most once.

    Args:
        benefits: [N, M]; a pair whose benefit is not positive (or NaN) is never chosen.

    Returns:
        Pairs (row, column), rows rising.
    """
    gains = np.where(benefits > 0, benefits, 0.0)
    rows, columns = np.flatnonzero(gains.any(axis=1)), np.flatnonzero(gains.any(axis=0))
    if not len(rows):
        return []
    gains = gains[np.ix_(rows, columns)]
    chosen = gains.argmax(axis=1)
    if len(set(chosen.tolist())) < len(chosen):  # else each row has its best column, which nothing can exceed
        chosen = _shortest_paths(gains)
    pairs = zip(rows.tolist(), chosen.tolist(), strict=True)
    return [(row, int(columns[column])) for row, column in pairs if column < len(columns)]


def _shortest_paths(gains: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the column of each row; a number from M on stands for none. Every row may stay alone at no benefit."""
    count = len(gains)
    alone = np.where(np.eye(count, dtype=bool), 0.0, np.inf)
    costs = np.concatenate([np.where(gains > 0, -gains, np.inf), alone], axis=1)
    prices = np.zeros(costs.shape[1])
    row_prices = np.zeros(count)
    owner = np.full(costs.shape[1], -1)
    for start in range(count):
        distances = np.full(costs.shape[1], np.inf)
        came_from = np.full(costs.shape[1], -1)
        done = np.zeros(costs.shape[1], bool)
        row, column, reached = start, -1, 0.0
        while row >= 0:  # until the nearest column is free
            lengths = reached + costs[row] - row_prices[row] - prices
            nearer = ~done & (lengths < distances)
            distances[nearer], came_from[nearer] = lengths[nearer], column
            column = int(np.where(done, np.inf, distances).argmin())
            done[column], reached, row = True, distances[column], owner[column]
        passed = done & (distances < reached)
        row_prices[owner[passed]] += reached - distances[passed]
        row_prices[start] += reached
        prices[passed] -= reached - distances[passed]
        while column >= 0:
            before = came_from[column]
            owner[column] = start if before < 0 else owner[before]
            column = before
    chosen = np.zeros(count, np.intp)
    taken = np.flatnonzero(owner >= 0)
    chosen[owner[taken]] = taken
    return chosen
