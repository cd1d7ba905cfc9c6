"""What a task is: everything that depends on what is learnt, behind one interface."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lisard_ros.attacks.model import AttackModel, Criterion
from lisard_ros.attacks.placement import Floats
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import Manifest

from ..evaluation.report import EvaluationOutcome
from ..evaluation.request import EvaluationRequest, SuiteHelp, UnsupportedOption
from ..recipes.schema import DEFAULT_TASK
from ..training.task import TrainableTask

PGD_STEPS = 10
PGD_STEP_SHARE = 0.25  # of the budget: 2/255 of 8/255, as published
FGSM_NAME, PGD_NAME, TI_NAME, UNIVERSAL_NAME = "gray_fgsm", "gray_pgd10", "gray_ti_fgsm", "universal"


@dataclass(frozen=True)
class Exported:
    """The bundle that was written, and in words how far torch and ONNX Runtime differ."""

    bundle: Bundle
    parity: str


@dataclass(frozen=True, eq=False)
class AttackTargets:
    """What stored attacks are made on.

    x: images float32 [N,3,H,W] in [0,1], on the 8-bit grid. criterion: what is wanted of them. keys: hashes of the
    pixels that they were made of; none for training images. content: the area [N,4] that holds image where images are
    padded.
    """

    x: Tensor
    criterion: Criterion
    keys: tuple[str, ...] = ()
    content: Floats | None = None


@dataclass(frozen=True)
class StoredAttackPlan:
    """The attacks that travel with the bundles of a task: on known images, by name; and how many training images the
    universal perturbation and the printed patch are made on, and how many together.
    """

    attacks: tuple[str, ...]
    universal_images: int
    universal_batch: int
    patch_images: int
    patch_batch: int


class Task(TrainableTask):
    """A task whose models can be trained, exported, attacked and evaluated. `saved` and `surrogate` are Checkpoints.

    A third task is a folder beside classification/ and detection/ whose module `task` has the constant TASK.
    """

    unsupported_options: tuple[UnsupportedOption, ...] = ()
    """Options of `lisard evaluate` that the evaluation of this task does not have."""
    stored_attacks: StoredAttackPlan
    """What `lisard attack make` makes."""

    @property
    def recipe_keys(self) -> dict[str, str]:
        """What a written recipe says of its task: nothing where a recipe without the key `task` is one of it."""
        return {} if self.name == DEFAULT_TASK else {"task": self.name}

    @abstractmethod
    def export(self, saved: Any, split: Any, folder: Path, name: str, command: str) -> Exported:
        """Writes a checkpoint's bundle."""

    @abstractmethod
    def trained_network(self, saved: Any) -> nn.Module:
        """The deployed network of a checkpoint, in eval mode and with frozen parameters."""

    @abstractmethod
    def format_of_bundle(self, manifest: Manifest) -> object:
        """Classes and input size of a bundle."""

    @abstractmethod
    def format_of_checkpoint(self, saved: Any) -> object:
        """Those of a checkpoint; equal where it can attack the bundle or be compared with it."""

    @abstractmethod
    def attack_model(self, network: nn.Module) -> AttackModel:
        """Such a network as the attacks of an evaluation see it."""

    def exact_attack_model(self, network: nn.Module) -> AttackModel:
        """The same for attacks that are stored: nothing is rounded to save time."""
        return self.attack_model(network)

    @abstractmethod
    def known_targets(self, bundle: Bundle, surrogate: Any, images: Path | None) -> AttackTargets:
        """The bundle's reference images and those of a folder."""

    @abstractmethod
    def training_targets(self, dataset: Any) -> AttackTargets:
        """Training images of the surrogate, for attacks that fit any image."""

    def patch_criterion(self, criterion: Criterion) -> Criterion:
        """What a printed patch wants of training images."""
        return criterion

    @abstractmethod
    def suites(self) -> SuiteHelp:
        """What `lisard evaluate --suite` can name."""

    @abstractmethod
    def evaluate(self, request: EvaluationRequest) -> EvaluationOutcome:
        """Measures a bundle and its baselines, clean, attacked and changed. Unsupported options have their default."""
