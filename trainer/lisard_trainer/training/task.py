"""What a training is about: the part of the loop that differs between classifiers and detectors, and what both have."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from lisard_ros.bundle import Bundle

from ..recipes import Optimiser, Start
from .divergence import StepValues, Watch
from .records import Epoch

MODULES = {
    "classification": "lisard_trainer.tasks.classification.training",
    "detection": "lisard_trainer.tasks.detection.training",
}


class AnyRecipe(Protocol):
    """What the loop reads of a Recipe or a DetectorRecipe; each key is explained there."""

    @property
    def task(self) -> str:
        """A key of MODULES."""

    @property
    def name(self) -> str:
        """Of the run."""

    @property
    def seed(self) -> int:
        """Of every random number."""

    @property
    def precision(self) -> str:
        """Arithmetic, or auto."""

    @property
    def select(self) -> str:
        """The epoch that is exported: last or best."""

    @property
    def incomplete_epochs(self) -> int:
        """How many epochs pass before every term is in force."""

    @property
    def start(self) -> Start:
        """Where the first weights come from."""

    @property
    def optimiser(self) -> Optimiser:
        """Epochs, batch and rates."""

    def as_json(self) -> str:
        """The resolved recipe as one line of JSON."""


class AnyPictures(Protocol):
    """What the loop reads of Pictures or Scenes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    def __len__(self) -> int:
        """Number of pictures."""

    def sha256(self) -> str:
        """Names the pictures."""


class AnySplit(Protocol):
    """What the loop reads of a Split or a SceneSplit."""

    @property
    def train(self) -> AnyPictures:
        """What is learnt from."""

    @property
    def validation(self) -> AnyPictures:
        """What each epoch is judged by."""

    def to(self: S, device: torch.device | str) -> S:
        """Both parts on a device."""


R = TypeVar("R", bound=AnyRecipe)
S = TypeVar("S", bound=AnySplit)
E = TypeVar("E", bound=Epoch)


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
