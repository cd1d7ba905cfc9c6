"""White box to a detector: the losses of a box criterion, with gradients in the pixels, for every attack loop.

Works with any module that gives the output of network.py ([N,P,5+C], corners in input pixels, then logits).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lisard_ros.attacks.gradient import required
from lisard_ros.attacks.model import BoxCriterion, Criterion, ModelAnswer, Transform, of_rows, pick
from lisard_ros.attacks.objective import check_boxes
from lisard_ros.attacks.torch_model import frozen_copy
from lisard_ros.errors import AttackError

from . import assign, geometry, losses
from .geometry import BOX, CLASSES, OBJECTNESS
from .network import STRIDES, level_sizes

DEFAULT_CHUNK = 16
FOUND_SCORE, FOUND_IOU = 0.25, 0.5  # a true box is found by an answer of its class with so much score and overlap


class DetectorAttackModel:
    """White box to a detector: to a frozen copy of it in eval mode. chunk: images at once."""

    def __init__(self, network: nn.Module, chunk: int = DEFAULT_CHUNK) -> None:
        """Copy the network; AttackError if it cannot be copied."""
        self._network = frozen_copy(network)
        self._chunk = chunk

    def evaluate(
        self, x: Tensor, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Loss [N], share of true boxes found [N,1], and gradient like x [N,3,H,W] in [0,1]."""
        if not isinstance(criterion, BoxCriterion):
            raise AttackError(
                "a class criterion for a detector", found=type(criterion).__name__, expected="BoxCriterion"
            )
        check_boxes(criterion, len(x))
        parts = []
        for start in range(0, max(1, len(x)), self._chunk):
            rows = slice(start, start + self._chunk)
            own = pick(criterion, rows)
            assert isinstance(own, BoxCriterion)
            parts.append(self._evaluate(x[rows].detach(), own, of_rows(transform, rows), gradient))
        return ModelAnswer(
            torch.cat([p.loss for p in parts]),
            torch.cat([p.scores for p in parts]),
            torch.cat([required(p) for p in parts]) if gradient else None,
        )

    def _evaluate(self, x: Tensor, criterion: BoxCriterion, transform: Transform | None, gradient: bool) -> ModelAnswer:
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            output = self._network(transform(x) if transform else x)
            boxes = torch.as_tensor(criterion.boxes_xyxy_px, device=output.device, dtype=output.dtype)
            labels = torch.as_tensor(criterion.labels, device=output.device).long()
            loss = attacked_loss(output, boxes, labels, criterion, (x.shape[3], x.shape[2]))
        slope = torch.autograd.grad(loss.sum(), x)[0].contiguous() if gradient else None
        return ModelAnswer(loss.detach(), found_share(output.detach(), boxes, labels)[:, None], slope)


def attacked_loss(
    output: Tensor, boxes: Tensor, labels: Tensor, criterion: BoxCriterion, size_px: tuple[int, int]
) -> Tensor:
    """What the attacker raises, [N]. size_px: width and height of the input."""
    objectness = output[..., OBJECTNESS]
    if criterion.loss == "vanish":
        return -functional.softplus(objectness).sum(1)
    if criterion.loss == "fabricate":
        return functional.logsigmoid(objectness).sum(1)
    if criterion.loss == "mislabel":
        assert criterion.targets is not None
        labels = torch.where(labels >= 0, torch.as_tensor(criterion.targets, device=labels.device), labels)
    centres, strides = geometry.positions(level_sizes(*size_px), STRIDES, boxes)
    assigned = assign.assign(output, boxes, labels, centres, strides)
    if criterion.loss == "location":
        return losses.location(output, assigned)
    classes = class_loss(output, assigned)
    if criterion.loss == "mislabel":
        return -classes - losses.location(output, assigned)
    return classes if criterion.loss == "class" else classes + losses.Weights().box * losses.location(output, assigned)


def class_loss(output: Tensor, assigned: assign.Assignment) -> Tensor:
    """Cross entropy of objectness at all positions and of the classes at assigned ones, sums per image [N]."""
    wanted = torch.zeros_like(output[..., OBJECTNESS])
    wanted[assigned.rows, assigned.columns] = 1.0
    total = functional.binary_cross_entropy_with_logits(output[..., OBJECTNESS], wanted, reduction="none").sum(1)
    own = output[assigned.rows, assigned.columns, CLASSES]
    true = functional.one_hot(assigned.labels, own.shape[1]).to(own.dtype)
    each = functional.binary_cross_entropy_with_logits(own, true, reduction="none").sum(1)
    return total.index_add(0, assigned.rows, each)


@torch.no_grad()
def found_share(output: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Share of each image's true boxes that some position finds, [N]; 1 where there are none."""
    score = output[..., CLASSES].sigmoid() * output[..., OBJECTNESS, None].sigmoid()
    best, guess = score.max(2)
    real = labels >= 0
    fits = (guess[:, None] == labels[..., None]) & (best[:, None] >= FOUND_SCORE)
    overlap = geometry.iou(boxes[:, :, None], output[:, None, :, BOX])
    found = (fits & (overlap >= FOUND_IOU)).any(2) & real
    return torch.where(real.any(1), found.sum(1) / real.sum(1).clamp(min=1), torch.ones(len(output)).to(output))
