"""What was measured: for each model and column which images were answered right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros.evaluation.statistics import Proportion, clustered, proportion

from ....evaluation.runner import TORCH
from .conditions import ClassificationCondition


@dataclass(frozen=True, eq=False)
class ClassificationResult:
    """One model in one column: positions of the images, its answers and their scores, and which are right.

    unrounded: which were right before the attacked images were rounded (attacks on the model itself only).
    radius_l2: certified radii in pixel units, NaN where it abstained or is wrong (certificates only).
    """

    model: str
    backend: str
    column: ClassificationCondition
    positions: NDArray[np.int64]
    answers: NDArray[np.int16]
    scores: NDArray[np.float32]
    hits: NDArray[np.bool_]
    unrounded: NDArray[np.bool_] | None = None
    radius_l2: NDArray[np.float32] | None = None

    @property
    def accuracy(self) -> Proportion:
        """Share of right answers, as if every image were a track of its own."""
        return proportion(int(self.hits.sum()), len(self.hits))


class ClassificationResults:
    """All rows, found by model and column."""

    def __init__(self, rows: Iterable[ClassificationResult]) -> None:
        """Rows in the order of the report."""
        self.rows = tuple(rows)
        self._found = {(row.model, row.column.name, row.backend): row for row in self.rows}

    def row(self, model: str, column: str, backend: str = TORCH) -> ClassificationResult | None:
        """The row of a model, None when the column was not measured for it."""
        return self._found.get((model, column, backend))

    def columns(self, model: str, *groups: str) -> tuple[ClassificationResult, ...]:
        """The rows of a model in torch, of these groups."""
        return tuple(r for r in self.rows if r.model == model and r.backend == TORCH and r.column.group in groups)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all models."""
        return tuple(dict.fromkeys(row.model for row in self.rows))


@dataclass(frozen=True)
class Tracks:
    """The track of each image: frames of one track resemble each other, and an interval must know that."""

    names: tuple[str, ...]

    def count(self, hits: NDArray[np.bool_], positions: NDArray[np.int64]) -> Proportion:
        """Share of right answers with its interval; positions: of the images that were answered."""
        return clustered(hits, [self.names[at] for at in positions])


def common(rows: Sequence[ClassificationResult]) -> NDArray[np.int64]:
    """Positions of the images that every row has."""
    positions = rows[0].positions
    for row in rows[1:]:
        positions = np.intersect1d(positions, row.positions)
    return positions


def on(row: ClassificationResult, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these images a row has right."""
    return row.hits[np.searchsorted(row.positions, positions)]


def worst(rows: Sequence[ClassificationResult]) -> ClassificationResult | None:
    """The row of lowest accuracy, the first of equals; None of none."""
    return min(rows, key=lambda row: row.accuracy.share) if rows else None
