"""What a training notes of each epoch and of each group of steps, by task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Epoch(ABC):
    """What one epoch came to, whatever the task: the mean loss of its steps, and the learning rate of the last one."""

    epoch: int
    loss: float
    seconds: float
    rate: float = 0.0

    @property
    @abstractmethod
    def score(self) -> float:
        """What the best epoch is chosen by; the higher, the better."""


@dataclass(frozen=True, kw_only=True)
class EpochRecord(Epoch):
    """Of a classifier: unweighted means of the loss's terms, accuracy in [0,1] on the validation tracks."""

    cross_entropy: float
    similarity: float
    validation_accuracy: float
    consistency: float = 0.0
    gradient: float = 0.0

    @property
    def score(self) -> float:
        return self.validation_accuracy


@dataclass(frozen=True, kw_only=True)
class DetectionEpoch(Epoch):
    """Of a detector: means over its steps, then AP (0.50 to 0.95) and AP50 in [0,1] on the validation part.

    clean, noisy: detection loss of either view; the four after them: terms of LISArD, unweighted (detector/terms.py).
    """

    clean: float
    noisy: float
    levels: float
    instances: float
    class_agreement: float
    box_agreement: float
    validation_ap: float
    validation_ap50: float

    @property
    def score(self) -> float:
        return self.validation_ap


@dataclass(frozen=True)
class Step:
    """Means over the steps since the row before: `step` is the last of them, counted from 1.

    loss: the total. clean, noisy: of either view, unweighted, as are the terms that a task adds.
    """

    step: int
    epoch: int
    images_per_s: float
    rate: float
    loss: float
    clean: float
    noisy: float


@dataclass(frozen=True)
class StepRecord(Step):
    """Of a classifier."""

    similarity: float
    consistency: float
    gradient: float


@dataclass(frozen=True)
class DetectionStep(Step):
    """Of a detector."""

    levels: float
    instances: float
    class_agreement: float
    box_agreement: float


@dataclass(frozen=True)
class Kinds:
    """The two records of a task, made from their fields."""

    epoch: type[Any]
    step: type[Any]


KINDS = {"classification": Kinds(EpochRecord, StepRecord), "detection": Kinds(DetectionEpoch, DetectionStep)}
