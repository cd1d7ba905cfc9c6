"""What the training of a classifier notes of each epoch and of each group of steps."""

from __future__ import annotations

from dataclasses import dataclass

from ...training.records import Epoch, Records, StepRecord


@dataclass(frozen=True, kw_only=True)
class ClassificationEpoch(Epoch):
    """Of a classifier: unweighted means of the loss's terms, accuracy in [0,1] on the validation tracks."""

    cross_entropy: float
    similarity: float
    validation_accuracy: float
    consistency: float = 0.0
    gradient: float = 0.0

    @property
    def score(self) -> float:
        return self.validation_accuracy


@dataclass(frozen=True)
class ClassificationStep(StepRecord):
    """Of a classifier."""

    similarity: float
    consistency: float
    gradient: float


RECORDS = Records(ClassificationEpoch, ClassificationStep)
