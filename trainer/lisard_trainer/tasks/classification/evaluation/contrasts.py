"""Contrasts: some models against others on the same images, such as the seeds of an arm against those of its control.

The differences of a report are all to the bundle. A question such as "what does this term add?" is about two controls,
and its answer should hold over their seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros.errors import UsageError, unknown_name
from lisard_ros.evaluation.statistics import Interval, paired_difference

from .conditions import GRAY_WORST
from .rows import ClassificationResult, ClassificationResults, common, on, worst

GROUPS = ("clean", "gray", "white", "query", "sweep", "noise", "corruption")
SYNTAX = "MODEL[,MODEL...]:CONTROL[,CONTROL...], for example linear_1,linear_2:noise_1,noise_2"


@dataclass(frozen=True)
class ComparedModels:
    """Whose mean accuracy is compared with whose: names of measured models."""

    models: tuple[str, ...]
    controls: tuple[str, ...]


@dataclass(frozen=True)
class ModelComparison:
    """Mean accuracy of `models` minus that of `controls` on the same images, interval by bootstrap over tracks.

    The interval is about other images, not about other seeds: those that took part are given.
    """

    models: tuple[str, ...]
    controls: tuple[str, ...]
    condition: str
    difference: Interval


def parse(words: Sequence[str], measured: Sequence[str]) -> tuple[ComparedModels, ...]:
    """Reads each of `words`, written as SYNTAX says; every name must be one of `measured`."""
    pairs = []
    for word in words:
        sides = [tuple(side.split(",")) for side in word.split(":")]
        if len(sides) != 2 or not all(name for side in sides for name in side):
            raise UsageError("--compare", found=repr(word), expected=SYNTAX)
        for name in (name for side in sides for name in side):
            if name not in measured:
                raise unknown_name("model of --compare", name, measured)
        pairs.append(ComparedModels(*sides))
    return tuple(pairs)


def of(
    measured: ClassificationResults, pairs: Sequence[ComparedModels], tracks: Sequence[str], seed: int
) -> Iterator[ModelComparison]:
    """Every pair in every column that all its models met, and in the worst gray-box column of each model."""
    for pair in pairs:
        for first in measured.columns(pair.models[0], *GROUPS):
            sides = [_in_column(measured, names, first.column.name) for names in (pair.models, pair.controls)]
            if all(sides):
                yield _contrast(pair, first.column.name, sides, tracks, seed)
        sides = [_in_worst(measured, names) for names in (pair.models, pair.controls)]
        if all(sides):
            yield _contrast(pair, GRAY_WORST, sides, tracks, seed)


def _in_column(measured: ClassificationResults, names: Sequence[str], column: str) -> list[ClassificationResult]:
    """The row of each model, nothing when one was not measured there."""
    rows = [row for name in names if (row := measured.row(name, column)) is not None]
    return rows if len(rows) == len(names) else []


def _in_worst(measured: ClassificationResults, names: Sequence[str]) -> list[ClassificationResult]:
    """The lowest gray-box row of each model, nothing when one met no gray-box attack."""
    rows = [row for name in names if (row := worst(measured.columns(name, "gray"))) is not None]
    return rows if len(rows) == len(names) else []


def _contrast(
    pair: ComparedModels, condition: str, sides: Sequence[list[ClassificationResult]], tracks: Sequence[str], seed: int
) -> ModelComparison:
    positions = common([row for rows in sides for row in rows])
    ours, theirs = (_mean(rows, positions) for rows in sides)
    interval = paired_difference(ours, theirs, [tracks[at] for at in positions], seed)
    return ModelComparison(pair.models, pair.controls, condition, interval)


def _mean(rows: Sequence[ClassificationResult], positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each image the share of the models that have it right."""
    return np.asarray(np.mean([on(row, positions) for row in rows], axis=0), np.float64)
