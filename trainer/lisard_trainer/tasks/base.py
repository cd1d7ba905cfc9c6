"""What a task is: everything that depends on what is learnt, behind one interface."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lisard_ros.attacks import store
from lisard_ros.attacks.gradient import PGD
from lisard_ros.attacks.mifgsm import MIFGSM, GradientSmoothing
from lisard_ros.attacks.model import AttackModel, Criterion
from lisard_ros.attacks.placement import Floats
from lisard_ros.bundle import Bundle

from ..evaluation.request import EvaluationOutcome, EvaluationRequest, SuiteHelp, UnsupportedOption
from ..training.task import TrainableTask

PGD_STEPS = 10
PGD_STEP_SHARE = 0.25  # of the budget: 2/255 of 8/255, as published


@dataclass(frozen=True)
class Exported:
    """The bundle that was written, and in words how far torch and ONNX Runtime differ."""

    bundle: Bundle
    parity: str


@dataclass(frozen=True)
class PerturbationSettings:
    """Budget in whole grey levels (Linf), and the seed of every random number."""

    eps_255: int = 8
    seed: int = 0

    @property
    def eps(self) -> float:
        """The budget in [0, 1]."""
        return self.eps_255 / 255

    @property
    def pgd(self) -> PGD:
        """PGD-10 as published."""
        return PGD(eps=self.eps, step=PGD_STEP_SHARE * self.eps, steps=PGD_STEPS)

    @property
    def smoothed(self) -> MIFGSM:
        """TI-FGSM with PGD's steps: of the attacks on a surrogate, the one that carries over between detectors."""
        return MIFGSM(self.eps, PGD_STEPS, step=PGD_STEP_SHARE * self.eps, smoothing=GradientSmoothing())


@dataclass(frozen=True, eq=False)
class Perturbations:
    """In grey levels: of known images by name, [N,3,H,W] with their keys, and `shared` [1,3,H,W] for any image."""

    deltas: Mapping[str, store.Deltas]
    keys: tuple[str, ...]
    shared: store.Deltas


@dataclass(frozen=True, eq=False)
class PatchStudio:
    """What a printed patch is made on: the attacker's network and images x [N,3,H,W] in [0,1], what is wanted of them,
    the area [N,4] that holds image where they are padded, and how many are attacked together.
    """

    attack_model: AttackModel
    x: Tensor
    criterion: Criterion
    content: Floats | None
    batch: int


class Task(TrainableTask):
    """A task whose models can be trained, exported, attacked and evaluated. `saved` and `surrogate` are Checkpoints.

    A third task is a folder beside classification/ and detection/ whose module `task` has the constant TASK.
    """

    unsupported_options: tuple[UnsupportedOption, ...] = ()
    """Options of `lisard evaluate` that the evaluation of this task does not have."""

    @abstractmethod
    def export(self, saved: Any, split: Any, folder: Path, name: str, command: str) -> Exported:
        """Writes a checkpoint's bundle."""

    @abstractmethod
    def trained_network(self, saved: Any) -> nn.Module:
        """The deployed network of a checkpoint, in eval mode and with frozen parameters."""

    @abstractmethod
    def attack_model(self, network: nn.Module) -> AttackModel:
        """Such a network as the attacks of an evaluation see it."""

    @abstractmethod
    def perturb(
        self, bundle: Bundle, surrogate: Any, images: Path | None, training: str | None, settings: PerturbationSettings
    ) -> Perturbations:
        """Attacks the surrogate on the bundle's reference images and those of a folder; and on training images, for
        one perturbation that fits any image.
        """

    @abstractmethod
    def patch_studio(self, surrogate: Any, training: str | None) -> PatchStudio:
        """What a printed patch is made on: the surrogate and training images."""

    @abstractmethod
    def suites(self) -> SuiteHelp:
        """What `lisard evaluate --suite` can name."""

    @abstractmethod
    def evaluate(self, request: EvaluationRequest) -> EvaluationOutcome:
        """Measures a bundle and its controls, clean, attacked and changed. Unsupported options are at their default."""
