"""The detection loss: objectness everywhere, class and box where a box was assigned; means over the assigned positions.

Objectness and class learn how well the box fits (their target is the IoU), so that the score ranks boxes. Sources: Ge
et al. 2021 (arXiv 2107.08430); box loss 1 - GIoU, Rezatofighi et al. 2019 (arXiv 1902.09630); the weight on easy
negatives, Lin et al. 2017 (arXiv 1708.02002).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...bounds import NOT_NEGATIVE, RecipeSection, bounded
from . import geometry
from .assign import Assignment
from .geometry import BOX, CLASSES, OBJECTNESS


@dataclass(frozen=True)
class Weights(RecipeSection, section="loss"):
    """Weights of the parts; focal_gamma: exponent that makes easy negatives count less (0: plain cross entropy)."""

    box: float = bounded(5.0, NOT_NEGATIVE)
    objectness: float = bounded(1.0, NOT_NEGATIVE)
    classes: float = bounded(1.0, NOT_NEGATIVE)
    focal_gamma: float = bounded(0.0, NOT_NEGATIVE)


@dataclass(frozen=True)
class LossParts:
    """Parts of the loss, unweighted; each a mean over the assigned positions (or over one, where there are none)."""

    box: Tensor
    objectness: Tensor
    classes: Tensor

    def total(self, weights: Weights) -> Tensor:
        """Weighted sum."""
        return weights.box * self.box + weights.objectness * self.objectness + weights.classes * self.classes


def detection(output: Tensor, assigned: Assignment, weights: Weights) -> LossParts:
    """Loss of one view. output: [N,P,5+C] of the detector, in at least 32 bit."""
    count = max(1, len(assigned))
    predicted = output[assigned.rows, assigned.columns]
    overlap = geometry.iou(predicted[:, BOX], assigned.boxes)
    box = (1 - geometry.giou(predicted[:, BOX], assigned.boxes)).sum() / count
    wanted = functional.one_hot(assigned.labels, output.shape[2] - CLASSES.start).to(output.dtype)
    wanted = wanted * overlap.detach()[:, None]
    classes = functional.binary_cross_entropy_with_logits(predicted[:, CLASSES], wanted, reduction="sum") / count
    return LossParts(box, _objectness(output, assigned, overlap.detach(), weights.focal_gamma) / count, classes)


def _objectness(output: Tensor, assigned: Assignment, overlap: Tensor, gamma: float) -> Tensor:
    logits = output[..., OBJECTNESS]
    wanted = torch.zeros_like(logits)
    wanted[assigned.rows, assigned.columns] = overlap.to(logits.dtype)
    each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    if gamma:
        each = each * torch.where(wanted > 0, 1.0, logits.detach().sigmoid() ** gamma)
    taught = ~assigned.silent
    taught[assigned.rows, assigned.columns] = True
    return (each * taught).sum()


def location(output: Tensor, assigned: Assignment) -> Tensor:
    """Sum of 1 - GIoU of each image's assigned positions, [N]: what an attack on boxes raises."""
    predicted = output[assigned.rows, assigned.columns]
    each = 1 - geometry.giou(predicted[:, BOX], assigned.boxes)
    return torch.zeros(len(output), dtype=each.dtype, device=each.device).index_add(0, assigned.rows, each)
