"""What was measured: for each model and condition which images were answered right."""

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
    """One model in one condition: positions of the images, its answers and their scores, and which are right.

    unrounded: which were right before the attacked images were rounded (attacks on the model itself only).
    radius_l2: certified radii in pixel units, NaN where it abstained or is wrong (certificates only).
    """

    model: str
    backend: str
    condition: ClassificationCondition
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
    """All results, found by model and condition."""

    def __init__(self, results: Iterable[ClassificationResult]) -> None:
        """Results in the order of the report."""
        self.results = tuple(results)
        self._by_name = {(r.model, r.condition.name, r.backend): r for r in self.results}

    def result(self, model: str, condition: str, backend: str = TORCH) -> ClassificationResult | None:
        """The result of a model, None when the condition was not measured for it."""
        return self._by_name.get((model, condition, backend))

    def of_groups(self, model: str, *groups: str) -> tuple[ClassificationResult, ...]:
        """The results of a model in torch, in these groups of conditions."""
        return tuple(r for r in self.results if r.model == model and r.backend == TORCH and r.condition.group in groups)


@dataclass(frozen=True)
class Tracks:
    """The track of each image: frames of one track resemble each other, and an interval must know that."""

    names: tuple[str, ...]

    def count(self, hits: NDArray[np.bool_], positions: NDArray[np.int64]) -> Proportion:
        """Share of right answers with its interval; positions: of the images that were answered."""
        return clustered(hits, [self.names[at] for at in positions])


def common(results: Sequence[ClassificationResult]) -> NDArray[np.int64]:
    """Positions of the images that every result has."""
    positions = results[0].positions
    for result in results[1:]:
        positions = np.intersect1d(positions, result.positions)
    return positions


def on(result: ClassificationResult, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these images a result has right."""
    return result.hits[np.searchsorted(result.positions, positions)]


def worst(results: Sequence[ClassificationResult]) -> ClassificationResult | None:
    """The result of lowest accuracy, the first of equals; None of none."""
    return min(results, key=lambda result: result.accuracy.share) if results else None
