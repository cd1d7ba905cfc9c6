"""What a training notes of each epoch and of each group of steps, whatever the task; tasks add fields of their own."""

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


@dataclass(frozen=True)
class StepRecord:
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
class Records:
    """The two record types of a task, made from their fields."""

    epoch: type[Any]
    step: type[Any]
