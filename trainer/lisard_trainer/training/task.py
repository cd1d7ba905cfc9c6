"""What the training loop asks of a task, of its recipe and of its images; lisard_trainer.tasks holds the tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..recipes import Init, Optimizer
from .divergence import DivergenceGuard, StepLoss, StepValues
from .records import Epoch, Records


class AnyRecipe(Protocol):
    """What the loop reads of a recipe; each key is explained in its type."""

    @property
    def task(self) -> str:
        """Name of the task: a folder of lisard_trainer.tasks."""

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
    def checkpoint_selection(self) -> str:
        """The epoch that is exported: last or best."""

    @property
    def incomplete_epochs(self) -> int:
        """How many epochs pass before every term is in force."""

    @property
    def init(self) -> Init:
        """Where the first weights come from."""

    @property
    def optimizer(self) -> Optimizer:
        """Epochs, batch and rates."""

    def as_json(self) -> str:
        """The resolved recipe as one line of JSON."""


class AnyImages(Protocol):
    """What the loop reads of the images of a task."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    def __len__(self) -> int:
        """Number of images."""

    def sha256(self) -> str:
        """Names the images."""


class AnySplit(Protocol):
    """What the loop reads of the two parts of a data set."""

    @property
    def train(self) -> AnyImages:
        """What is learnt from."""

    @property
    def validation(self) -> AnyImages:
        """What each epoch is judged by."""

    def to(self: S, device: torch.device | str) -> S:
        """Both parts on a device."""


R = TypeVar("R", bound=AnyRecipe)
S = TypeVar("S", bound=AnySplit)
E = TypeVar("E", bound=Epoch)


class TrainableTask(ABC):
    """What the loop needs of a task. `run` is a state.Run, `recipe` one of `recipe_type`.

    name: of the folder in lisard_trainer.tasks, of the recipe key `task` and of the bundle's task.
    records: types of what is noted of an epoch and of a group of steps.
    """

    name: str
    recipe_type: type[Any]
    records: Records

    # Data

    @abstractmethod
    def load(self, recipe: Any, folder: str | None) -> Any:
        """Training and validation images of the recipe (AnySplit), from its folder or the given one."""

    @abstractmethod
    def describe(self, split: Any) -> str:
        """How many images each part has, in words."""

    # Training

    @abstractmethod
    def network(self, recipe: Any, classes: int) -> nn.Module:
        """A fresh network with everything that its training needs."""

    @abstractmethod
    def start_from_imagenet(self, network: nn.Module) -> str:
        """Gives the network ImageNet weights; returns their sha256."""

    @abstractmethod
    def loss(self, run: Any, part: Tensor) -> StepLoss:
        """Loss of the training images at the positions `part`; called in train mode."""

    @abstractmethod
    def epoch_record(self, run: Any, seen: Sequence[StepValues], begun: float) -> Any:
        """Validates; the record of the epoch that began at this time.monotonic()."""

    @abstractmethod
    def divergence_guard(self, classes: int) -> DivergenceGuard:
        """What stops a training that has gone wrong."""

    @abstractmethod
    def said(self, record: Any) -> str:
        """The validation figure of an epoch in words."""

    def advice(self, run: Any) -> str | None:
        """What to say of a recipe that cannot work well."""
        return None
