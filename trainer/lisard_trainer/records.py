"""What a training notes of each epoch and of each group of steps, by task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch came to: means over its steps, accuracy in [0,1] on the validation tracks.

    Loss terms unweighted; `rate` is the learning rate of the weights in the last step.
    """

    epoch: int
    loss: float
    cross_entropy: float
    similarity: float
    validation_accuracy: float
    seconds: float
    consistency: float = 0.0
    gradient: float = 0.0
    rate: float = 0.0

    @property
    def score(self) -> float:
        """What the best epoch is chosen by."""
        return self.validation_accuracy


@dataclass(frozen=True)
class StepRecord:
    """Means over the steps since the row before: `step` is the last of them, counted from 1; loss terms unweighted."""

    step: int
    epoch: int
    images_per_s: float
    rate: float
    loss: float
    clean: float
    noisy: float
    similarity: float
    consistency: float
    gradient: float


@dataclass(frozen=True)
class DetectionEpoch:
    """One epoch of a detector: means over its steps, then AP (0.50 to 0.95) and AP50 in [0,1] on the validation part.

    clean, noisy: detection loss of either view; the four after them: terms of LISArD, unweighted (detector/terms.py).
    """

    epoch: int
    loss: float
    clean: float
    noisy: float
    levels: float
    instances: float
    class_agreement: float
    box_agreement: float
    validation_ap: float
    validation_ap50: float
    seconds: float
    rate: float

    @property
    def score(self) -> float:
        """What the best epoch is chosen by."""
        return self.validation_ap


@dataclass(frozen=True)
class DetectionStep:
    """Means over the steps since the row before, as in StepRecord."""

    step: int
    epoch: int
    images_per_s: float
    rate: float
    loss: float
    clean: float
    noisy: float
    levels: float
    instances: float
    class_agreement: float
    box_agreement: float


@dataclass(frozen=True)
class Kinds:
    """The two records of a task."""

    epoch: type[Any]
    step: type[Any]


KINDS = {"classification": Kinds(EpochRecord, StepRecord), "detection": Kinds(DetectionEpoch, DetectionStep)}
