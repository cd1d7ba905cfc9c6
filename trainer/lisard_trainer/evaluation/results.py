"""All results of an evaluation, found by model and condition."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .conditions import EvaluationCondition
from .deployed import TORCH

C = TypeVar("C", bound=EvaluationCondition)
R = TypeVar("R", bound="EvaluationResult[Any]")


@dataclass(frozen=True, eq=False)
class EvaluationResult(Generic[C]):
    """One model on a backend (TORCH, or a file of the bundle) in one condition."""

    model: str
    backend: str
    condition: C


class EvaluationResults(Generic[R]):
    """Results in the order of the report."""

    def __init__(self, results: Iterable[R]) -> None:
        """Keeps them."""
        self.results = tuple(results)
        self._by_name = {(r.model, r.condition.name, r.backend): r for r in self.results}

    def result(self, model: str, condition: str, backend: str = TORCH) -> R | None:
        """The result of a model, None when the condition was not measured for it."""
        return self._by_name.get((model, condition, backend))

    def of_backend(self, backend: str) -> tuple[R, ...]:
        """The results of all models on a backend."""
        return tuple(r for r in self.results if r.backend == backend)

    def of_groups(self, model: str, *groups: str) -> tuple[R, ...]:
        """The results of a model in torch, in these groups of conditions."""
        return tuple(r for r in self.of_backend(TORCH) if r.model == model and r.condition.group in groups)
