"""What a training is about: the part of the loop that differs between classifiers and detectors."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from lisard_ros.bundle import Bundle

from .watch import StepValues, Watch

MODULES = {"classification": "lisard_trainer.classification", "detection": "lisard_trainer.detector.training"}


@dataclass(frozen=True)
class Exported:
    """The bundle that was written, and in words how far torch and ONNX Runtime differ."""

    bundle: Bundle
    parity: str


class Task(Protocol):
    """A module of MODULES. `run` is a state.Run, `recipe` that of the task."""

    def load(self, recipe: Any, folder: str | None) -> Any:
        """Training and validation pictures of the recipe, from its folder or the given one."""

    def export(self, saved: Any, split: Any, folder: Path, name: str, command: str) -> Exported:
        """Writes a checkpoint's bundle."""

    def network(self, recipe: Any, classes: int) -> nn.Module:
        """A fresh network with everything that its training needs."""

    def start_from_imagenet(self, network: nn.Module) -> str:
        """Gives the network ImageNet weights; returns their sha256."""

    def loss(self, run: Any, part: Tensor) -> Any:
        """`total` and detached `parts` for the training pictures at the positions `part`; called in train mode."""

    def epoch_record(self, run: Any, seen: Sequence[StepValues], begun: float) -> Any:
        """Validates, and notes the epoch that began at this time.monotonic()."""

    def watch(self, classes: int) -> Watch:
        """What stops a training that has gone wrong."""

    def advice(self, run: Any) -> str | None:
        """What to say of a recipe that cannot work well."""

    def said(self, record: Any) -> str:
        """The validation figure of an epoch in words."""


def of(recipe: Any) -> Task:
    """The task of a recipe."""
    module: Any = importlib.import_module(MODULES[recipe.task])
    return module
