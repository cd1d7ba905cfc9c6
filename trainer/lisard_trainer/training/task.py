"""What the training loop asks of a task; lisard_trainer.tasks holds the tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from ..data import DataSplit
from ..recipes import BaseRecipe
from .divergence import DivergenceGuard, StepLoss, StepValues
from .records import Epoch, Records

R = TypeVar("R", bound=BaseRecipe)
S = TypeVar("S", bound=DataSplit[Any])
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
        """Training and validation images of the recipe (a DataSplit), from its folder or the given one."""

    @abstractmethod
    def describe(self, split: Any) -> str:
        """How many images each part has, in words."""

    def image_shares(self, recipe: Any, split: Any) -> Tensor | None:
        """How often each training image is wanted beside the others [N]; None: each once in an epoch."""
        return None

    # Training

    @abstractmethod
    def network(self, recipe: Any, classes: int) -> nn.Module:
        """A fresh network with everything that its training needs."""

    def guide(self, recipe: Any, classes: Sequence[str]) -> nn.Module | None:
        """A trained network beside the one that trains, if the recipe's loss asks for one: frozen, in eval mode."""
        return None

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
