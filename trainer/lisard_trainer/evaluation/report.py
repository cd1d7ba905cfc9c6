"""What the reports of all tasks state: what was run, where, on which models, and whether the checks hold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from .. import provenance
from .int8 import Int8Comparison, Int8Line, compare
from .models import ModelSource, ModelsUnderTest
from .page import ReportPage
from .request import EvaluationRequest


@dataclass(frozen=True, kw_only=True)
class EvaluationReport(ABC):
    """Plain values, written as JSON as they are. A task adds its lines, and what it makes of them.

    model: name of the model under test, as lines and tables have it: that of its bundle.
    """

    schema: int
    model: str
    command: str
    commit: str
    device: str
    suite: str
    sources: tuple[ModelSource, ...]
    title: str = ""
    int8: Int8Comparison | None = None

    @property
    @abstractmethod
    def passed(self) -> bool:
        """Whether the checks hold: exit status 0."""


@dataclass(frozen=True)
class EvaluationOutcome:
    """What an evaluation found. page: the report to be read."""

    report: EvaluationReport
    page: ReportPage


def stated(
    models: ModelsUnderTest[Any], request: EvaluationRequest, metric: str, int8: Iterable[Int8Line]
) -> dict[str, Any]:
    """Fields that are filled alike for every task. metric, int8: of the comparison with the bundle's int8 file."""
    device = models.of_bundle.device
    where = "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return {
        "model": models.of_bundle.name,
        "command": request.command,
        "commit": provenance.commit(),
        "device": f"{where}, torch {torch.__version__}, float32",
        "suite": request.suite,
        "int8": compare(models.bundle, metric, int8),
    }
