"""Which positions shall predict which box: simplified optimal transport (SimOTA), for a whole batch at once.

A box takes as many positions as its best overlaps sum up to, the cheapest ones near its centre; cost is classification
loss plus overlap loss. Source: Ge et al. 2021, YOLOX (arXiv 2107.08430) section 2.3. Nothing here has a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...data.detection import IGNORED
from . import geometry
from .geometry import BOX, CLASSES, OBJECTNESS

RADIUS = 2.5  # candidates lie within so many strides of a box's centre, per axis
MOST_POSITIONS = 10  # per box
OVERLAP_WEIGHT = 3.0
FAR = 1e5  # cost of a position that is no candidate
MOST_PAIRS = 8_000_000  # pairs of box and position that are compared at once


@dataclass(frozen=True)
class Assignment:
    """Positions that shall predict a box, P in all, in a batch of N images.

    rows, columns: int64 [P], image and position. boxes: float [P,4]. labels: int64 [P]. overlaps: float [P], the IoU
    of box and prediction when they were matched. silent: bool [N,positions], in ignored regions: teach nothing there.
    """

    rows: Tensor
    columns: Tensor
    boxes: Tensor
    labels: Tensor
    overlaps: Tensor
    silent: Tensor

    def __len__(self) -> int:
        return len(self.rows)


@torch.no_grad()
def assign(output: Tensor, boxes: Tensor, labels: Tensor, centres: Tensor, strides: Tensor) -> Assignment:
    """Output [N,P,5+C] of the detector; boxes [N,M,4] and labels [N,M] as in Scenes; positions as in geometry."""
    output = output.detach().float()
    step = max(1, MOST_PAIRS // max(1, boxes.shape[1] * output.shape[1]))
    parts = [
        _assign(output[at : at + step], boxes[at : at + step], labels[at : at + step], centres, strides, at)
        for at in range(0, len(output), step)
    ]
    names = ("rows", "columns", "boxes", "labels", "overlaps", "silent")
    return Assignment(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def _assign(output: Tensor, boxes: Tensor, labels: Tensor, centres: Tensor, strides: Tensor, first: int) -> Assignment:
    real = labels >= 0
    silent = _within(centres, boxes, labels == IGNORED)
    if not real.any():
        nothing = torch.zeros(0, dtype=torch.int64, device=output.device)
        return Assignment(nothing, nothing, boxes.new_zeros(0, 4), nothing, boxes.new_zeros(0), silent)
    middles = (boxes[..., :2] + boxes[..., 2:]) / 2
    away = (centres[None, None] - middles[:, :, None]).abs().amax(-1)
    candidate = (away < RADIUS * strides) & real[..., None]  # [N,M,P]
    overlap = geometry.iou(boxes[:, :, None], output[:, None, :, BOX]) * candidate
    cost = _class_cost(output, labels) - OVERLAP_WEIGHT * overlap.clamp(min=1e-8).log() + FAR * ~candidate
    taken = _cheapest(cost, overlap, candidate)
    # A position that several boxes want goes to the one that it costs least.
    owner = cost.masked_fill(~taken, float("inf")).argmin(1)
    rows, columns = taken.any(1).nonzero(as_tuple=True)
    own = owner[rows, columns]
    return Assignment(rows + first, columns, boxes[rows, own], labels[rows, own], overlap[rows, own, columns], silent)


def _class_cost(output: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of the score (class times objectness) for each box's class and against the others, [N,M,P]."""
    score = (output[..., CLASSES].sigmoid() * output[..., OBJECTNESS, None].sigmoid()).sqrt()
    score = score.clamp(1e-6, 1 - 1e-6)
    against = -(1 - score).log()  # [N,P,C]
    wanted = functional.one_hot(labels.clamp(min=0), score.shape[2]).to(score.dtype)  # [N,M,C]
    change = (-score.log() - against).transpose(1, 2)  # [N,C,P]
    return against.sum(-1)[:, None] + wanted @ change


def _cheapest(cost: Tensor, overlap: Tensor, candidate: Tensor) -> Tensor:
    """The k cheapest candidates of each box, k the sum of its best overlaps, one at least; bool [N,M,P]."""
    most = min(MOST_POSITIONS, cost.shape[2])
    wanted = overlap.topk(most, dim=2).values.sum(2).int().clamp(min=1)  # [N,M]
    order = cost.topk(most, dim=2, largest=False).indices
    kept = torch.arange(most, device=cost.device) < wanted[..., None]
    taken = torch.zeros_like(candidate).scatter_(2, order, kept)
    return taken & candidate


def _within(centres: Tensor, boxes: Tensor, which: Tensor) -> Tensor:
    """Whether a position lies in one of the chosen boxes, [N,P]."""
    inside = torch.zeros(len(boxes), len(centres), dtype=torch.bool, device=boxes.device)
    for column in which.any(0).nonzero().flatten().tolist():  # few images have such regions
        low, high = boxes[:, column, None, :2], boxes[:, column, None, 2:]
        own = ((centres >= low) & (centres < high)).all(-1)
        inside |= own & which[:, column, None]
    return inside


def inside_boxes(centres: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Whether a position lies in any box of its image, bool [N,P]."""
    low, high = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    own = ((centres >= low) & (centres < high)).all(-1) & (labels >= 0)[..., None]
    return own.any(1)
