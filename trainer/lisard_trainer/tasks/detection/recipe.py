"""The recipe of a detector (`task: detection`): everything that decides its training, typed and frozen.

It is read like every recipe (recipes.py); an unknown key is an error. A term with ratio 0 is switched off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lisard_ros.errors import UsageError

from ...bounds import NOT_NEGATIVE, SHARE_BELOW_ONE, Bounds, RecipeSection, bounded
from ...data.detection import DetectionData
from ...recipes import BaseRecipe, Optimizer
from .compose import SceneAugment
from .copy_paste import CopyPaste
from .losses import Weights


@dataclass(frozen=True)
class Levels(RecipeSection, section="levels"):
    """Cross-correlation of the two views' pyramid maps at sampled positions, half of them inside boxes.

    ratio: of this term's gradient to the detection loss's, in the pyramid maps. samples: most positions per level.
    """

    ratio: float = bounded(0.0, NOT_NEGATIVE)
    samples: int = bounded(2048, Bounds(2))
    off_weight: float = bounded(0.1, NOT_NEGATIVE)


@dataclass(frozen=True)
class InstanceTerm(RecipeSection, section="instances"):
    """Cross-correlation of what the heads' last layers see at the positions that were assigned a box."""

    ratio: float = bounded(0.0, NOT_NEGATIVE)
    off_weight: float = bounded(0.1, NOT_NEGATIVE)


@dataclass(frozen=True)
class Agreement(RecipeSection, section="agreement"):
    """Pulls the noisy view's answers to the clean view's: ratio of the class term (KL), and of the box term (GIoU)."""

    classes: float = bounded(0.0, NOT_NEGATIVE)
    boxes: float = bounded(0.0, NOT_NEGATIVE)


@dataclass(frozen=True)
class Balance(RecipeSection, section="balance"):
    """How the weights of the terms follow their gradient ratios: measured every so many steps, averaged over time.

    ema_decay: share of the old weight (of its logarithm) that each measurement keeps.
    """

    every: int = bounded(20, Bounds(1))
    ema_decay: float = bounded(0.8, SHARE_BELOW_ONE)


@dataclass(frozen=True)
class DetectorRecipe(BaseRecipe):
    """One training of a detector. `views` 1: the terms have no part either.

    neck, depth: channels of the pyramid, convolutions of each branch of a head. noisy_weight: of the detection loss on
    the noisy view, against 1 on the clean one.
    """

    task: Literal["detection"] = "detection"
    network: str = "resnet18q"
    neck: int = bounded(64, Bounds(1))
    depth: int = bounded(2, NOT_NEGATIVE)
    data: DetectionData = field(default_factory=DetectionData)
    augment: SceneAugment = field(default_factory=SceneAugment)
    copy_paste: CopyPaste = field(default_factory=CopyPaste)
    loss: Weights = field(default_factory=Weights)
    noisy_weight: float = bounded(1.0, NOT_NEGATIVE)
    levels: Levels = field(default_factory=Levels)
    instances: InstanceTerm = field(default_factory=InstanceTerm)
    agreement: Agreement = field(default_factory=Agreement)
    balance: Balance = field(default_factory=Balance)
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(epochs=60, batch_size=16, max_lr=0.02))

    def __post_init__(self) -> None:
        """Refuse terms that compare two views where there is one."""
        super().__post_init__()
        if self.views == 1 and any(self.ratios):
            raise UsageError("recipe key views", found=1, expected="2, for levels, instances or agreement")

    @property
    def ratios(self) -> tuple[float, float, float, float]:
        """Gradient ratios of the terms, in the order of step.TERMS."""
        return self.levels.ratio, self.instances.ratio, self.agreement.classes, self.agreement.boxes
