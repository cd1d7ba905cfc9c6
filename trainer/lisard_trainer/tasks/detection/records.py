"""What the training of a detector notes of each epoch and of each group of steps."""

from __future__ import annotations

from dataclasses import dataclass

from ...training.records import Epoch, Records, StepRecord


@dataclass(frozen=True, kw_only=True)
class DetectionEpoch(Epoch):
    """Of a detector: means over its steps, then AP (0.50 to 0.95) and AP50 in [0,1] on the validation part.

    clean, noisy: detection loss of either view; the four after them: terms of LISArD, unweighted (terms.py).
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
class DetectionStep(StepRecord):
    """Of a detector."""

    levels: float
    instances: float
    class_agreement: float
    box_agreement: float


RECORDS = Records(DetectionEpoch, DetectionStep)
