"""The recipe of a detector (`task: detection`): everything that decides its training, typed and frozen.

It is read like every recipe (recipes.py); an unknown key is an error. A term with ratio 0 is switched off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lisard_ros.errors import UsageError

from ...data.detection import DetectionData
from ...recipes import BaseRecipe, Optimizer
from .compose import SceneAugment
from .losses import Weights


@dataclass(frozen=True)
class Levels:
    """Cross-correlation of the two views' pyramid maps at sampled positions, half of them inside boxes.

    ratio: of this term's gradient to the detection loss's, in the pyramid maps. samples: most positions per level.
    """

    ratio: float = 0.0
    samples: int = 2048
    off_weight: float = 0.1


@dataclass(frozen=True)
class InstanceTerm:
    """Cross-correlation of what the heads' last layers see at the positions that were assigned a box."""

    ratio: float = 0.0
    off_weight: float = 0.1


@dataclass(frozen=True)
class Agreement:
    """Pulls the noisy view's answers to the clean view's: ratio of the class term (KL), and of the box term (GIoU)."""

    classes: float = 0.0
    boxes: float = 0.0


@dataclass(frozen=True)
class Balance:
    """How the weights of the terms follow their gradient ratios: measured every so many steps, averaged over time.

    ema_decay: share of the old weight (of its logarithm) that each measurement keeps.
    """

    every: int = 20
    ema_decay: float = 0.8


@dataclass(frozen=True)
class DetectorRecipe(BaseRecipe):
    """One training of a detector. `views` 1: the terms have no part either.

    neck, depth: channels of the pyramid, convolutions of each branch of a head. noisy_weight: of the detection loss on
    the noisy view, against 1 on the clean one.
    """

    task: Literal["detection"] = "detection"
    network: str = "resnet18q"
    neck: int = 64
    depth: int = 2
    data: DetectionData = field(default_factory=DetectionData)
    augment: SceneAugment = field(default_factory=SceneAugment)
    loss: Weights = field(default_factory=Weights)
    noisy_weight: float = 1.0
    levels: Levels = field(default_factory=Levels)
    instances: InstanceTerm = field(default_factory=InstanceTerm)
    agreement: Agreement = field(default_factory=Agreement)
    balance: Balance = field(default_factory=Balance)
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(epochs=60, batch_size=16, max_lr=0.02))

    def __post_init__(self) -> None:
        """Refuse combinations that would train something else than they say."""
        super().__post_init__()
        if self.views == 1 and any(self.ratios):
            raise UsageError("recipe key views", found=1, expected="2, for levels, instances or agreement")
        if min(self.ratios) < 0 or self.noisy_weight < 0:
            raise UsageError("recipe keys of the terms", found=self.ratios, expected="ratios of 0 or more")
        if self.balance.every < 1 or not 0 <= self.balance.ema_decay < 1:
            raise UsageError("recipe key balance", found=self.balance, expected="every >= 1, 0 <= ema_decay < 1")
        if self.neck < 1 or self.depth < 0 or self.levels.samples < 2:
            raise UsageError(
                "recipe keys neck, depth, levels.samples",
                found=(self.neck, self.depth, self.levels.samples),
                expected="neck >= 1, depth >= 0, samples >= 2",
            )

    @property
    def ratios(self) -> tuple[float, float, float, float]:
        """Gradient ratios of the terms, in the order of step.TERMS."""
        return self.levels.ratio, self.instances.ratio, self.agreement.classes, self.agreement.boxes
