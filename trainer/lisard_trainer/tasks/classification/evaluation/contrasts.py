"""Contrasts: some models against others on the same images, such as the seeds of an arm against those of its control.

The differences of a report are all to the bundle. A question such as "what does this term add?" is about two controls,
and its answer should hold over their seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lisard_ros.errors import UsageError, unknown_name
from lisard_ros.evaluation.statistics import Interval, paired_difference

from .conditions import GRAY_WORST
from .results import ClassificationResults, common, on, worst

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
    """Every pair in every condition that all its models met, and in the worst gray-box condition of each model."""
    for pair in pairs:
        for name in [result.condition.name for result in measured.of_groups(pair.models[0], *GROUPS)] + [GRAY_WORST]:
            sides = []
            for models in (pair.models, pair.controls):
                results = [
                    worst(measured.of_groups(model, "gray")) if name == GRAY_WORST else measured.result(model, name)
                    for model in models
                ]
                sides.append([result for result in results if result is not None])
            if [len(side) for side in sides] == [len(pair.models), len(pair.controls)]:
                positions = common([result for side in sides for result in side])
                # For each image the share of the models that have it right.
                ours, theirs = (np.mean([on(result, positions) for result in side], axis=0) for side in sides)
                difference = paired_difference(ours, theirs, [tracks[at] for at in positions], seed)
                yield ModelComparison(pair.models, pair.controls, name, difference)
