"""What was measured: which images were answered right, by model and condition, by class, and in comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lisard_ros.errors import UsageError, unknown_name
from lisard_ros.evaluation.statistics import Interval, Proportion, clustered, paired_difference, proportion

from ....evaluation.deployed import INT8
from ....evaluation.int8 import Int8Line
from ....evaluation.results import EvaluationResult, EvaluationResults
from .suites import GRAY_WORST, ClassificationCondition

GROUPS = ("clean", "gray", "white", "query", "sweep", "noise", "corruption")
SYNTAX = "MODEL[,MODEL...]:BASELINE[,BASELINE...], for example linear_1,linear_2:noise_1,noise_2"


@dataclass(frozen=True, eq=False)
class ClassificationResult(EvaluationResult[ClassificationCondition]):
    """One model in one condition: positions of the images, its answers and their scores, and which are right.

    unrounded: which were right before the attacked images were rounded (attacks on the model itself only).
    radius_l2: certified radii in pixel units, NaN where it abstained or is wrong (certificates only).
    """

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


ClassificationResults: TypeAlias = EvaluationResults[ClassificationResult]


@dataclass(frozen=True)
class ImageTracks:
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


@dataclass(frozen=True)
class ComparedModels:
    """Whose mean accuracy is compared with whose: names of measured models."""

    models: tuple[str, ...]
    baselines: tuple[str, ...]


@dataclass(frozen=True)
class ModelComparison:
    """Mean accuracy of `models` minus that of `baselines` on the same images, interval by bootstrap.

    The interval is about other images, not about other seeds: those that took part are given.
    """

    models: tuple[str, ...]
    baselines: tuple[str, ...]
    condition: str
    difference: Interval


def parse_comparisons(words: Sequence[str], measured: Sequence[str]) -> tuple[ComparedModels, ...]:
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


def comparisons(
    measured: ClassificationResults, pairs: Sequence[ComparedModels], tracks: Sequence[str], seed: int
) -> Iterator[ModelComparison]:
    """Every pair in every condition that all its models met, and in the worst gray-box condition of each model."""
    for pair in pairs:
        for name in [result.condition.name for result in measured.of_groups(pair.models[0], *GROUPS)] + [GRAY_WORST]:
            sides = []
            for models in (pair.models, pair.baselines):
                results = [
                    worst(measured.of_groups(model, "gray")) if name == GRAY_WORST else measured.result(model, name)
                    for model in models
                ]
                sides.append([result for result in results if result is not None])
            if [len(side) for side in sides] == [len(pair.models), len(pair.baselines)]:
                positions = common([result for side in sides for result in side])
                # For each image the share of the models that have it right.
                ours, theirs = (np.mean([on(result, positions) for result in side], axis=0) for side in sides)
                difference = paired_difference(ours, theirs, [tracks[at] for at in positions], seed)
                yield ModelComparison(pair.models, pair.baselines, name, difference)


@dataclass(frozen=True)
class ClassLine:
    """The bundle's answers (torch) to the images of one class in one condition.

    taken_for: the wrong answer that is given most often, and how `often`; empty and 0 where all are right.
    """

    condition: str
    label: str
    accuracy: Proportion
    taken_for: str
    often: int


def by_class(
    measured: ClassificationResults, model: str, own: NDArray[np.int64], labels: Sequence[str], tracks: ImageTracks
) -> Iterator[ClassLine]:
    """Lines of every class that occurs: clean, under the worst gray-box attack and under the strongest white-box one.

    model: name of the bundle's. own: class of each image, int64 [N].
    """
    for group in ("clean", "gray", "white"):
        result = worst(measured.of_groups(model, group))
        for at in [] if result is None else np.unique(own[result.positions]):
            assert result is not None
            among = own[result.positions] == at
            answers, hits = result.answers[among], result.hits[among]
            times = np.bincount(answers[~hits], minlength=len(labels))
            likeliest = int(times.argmax())
            taken_for = labels[likeliest] if times.any() else ""
            accuracy = tracks.count(hits, result.positions[among])
            yield ClassLine(result.condition.name, labels[at], accuracy, taken_for, int(times[likeliest]))


def int8_lines(measured: ClassificationResults, tracks: ImageTracks, seed: int) -> Iterator[Int8Line]:
    """The bundle's int8 file in every condition in which it was asked."""
    for result in measured.of_backend(INT8):
        fp32 = measured.result(result.model, result.condition.name)
        assert fp32 is not None, "the network answers wherever the file does"
        groups = [tracks.names[at] for at in result.positions]
        difference = paired_difference(result.hits, fp32.hits, groups, seed)
        shares = fp32.accuracy.share, result.accuracy.share
        yield Int8Line(result.condition.name, len(result.hits), *shares, difference)
