"""What the bundle answers to each class: one accuracy over all of them hides a class that is never right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros.evaluation.statistics import Proportion

from ....evaluation.models import SHIPPED
from .results import ClassificationResults, Tracks, worst


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


def of(
    measured: ClassificationResults, own: NDArray[np.int64], labels: Sequence[str], tracks: Tracks
) -> Iterator[ClassLine]:
    """Lines of every class that occurs: clean, under the worst gray-box attack and under the strongest white-box one.

    own: class of each image, int64 [N].
    """
    for group in ("clean", "gray", "white"):
        result = worst(measured.of_groups(SHIPPED, group))
        for at in [] if result is None else np.unique(own[result.positions]):
            assert result is not None
            among = own[result.positions] == at
            answers, hits = result.answers[among], result.hits[among]
            times = np.bincount(answers[~hits], minlength=len(labels))
            likeliest = int(times.argmax())
            taken_for = labels[likeliest] if times.any() else ""
            accuracy = tracks.count(hits, result.positions[among])
            yield ClassLine(result.condition.name, labels[at], accuracy, taken_for, int(times[likeliest]))
