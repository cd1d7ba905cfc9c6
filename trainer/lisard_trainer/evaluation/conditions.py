"""What every condition of an evaluation has: a name, and who is attacked in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

CLEAN = "clean"
Attacked = Literal["nobody", "surrogate", "each model"]


class EvaluationCondition(ABC):
    """One condition: what is done to the images or to the model. Its type is a frozen dataclass of the task."""

    name: str

    @property
    @abstractmethod
    def attacked(self) -> Attacked:
        """On whom the images are made."""

    @property
    @abstractmethod
    def surrogate_name(self) -> str:
        """The surrogate that is attacked; '' for the only one, and where none is."""

    @property
    def answered_by_surrogates(self) -> bool:
        """Whether surrogates answer although none of them is attacked."""
        return self.name == CLEAN
