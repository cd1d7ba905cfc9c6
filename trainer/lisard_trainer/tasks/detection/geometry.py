"""Boxes in torch: overlap in pairs and all against all, generalised overlap, and positions of the levels.

Boxes are corners (left, top, right, bottom) in input pixels; a box without area overlaps nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

TINY = 1e-7
BOX, OBJECTNESS, CLASSES = slice(0, 4), 4, slice(5, None)  # of a row of a detector's output


def areas(boxes: Tensor) -> Tensor:
    """Area of each box [..., 4] -> [...]; 0 where a side is negative."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union of boxes that broadcast against each other [..., 4]."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    return shared, areas(first) + areas(second) - shared


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes that broadcast against each other, in [0, 1]."""
    shared, union = overlaps(first, second)
    return shared / union.clamp(min=TINY)


def giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU in [-1, 1] (Rezatofighi et al. 2019, arXiv 1902.09630): has a gradient where boxes are apart."""
    shared, union = overlaps(first, second)
    low = torch.minimum(first[..., :2], second[..., :2])
    high = torch.maximum(first[..., 2:], second[..., 2:])
    hull = (high - low).clamp(min=0).prod(-1)
    return shared / union.clamp(min=TINY) - (hull - union) / hull.clamp(min=TINY)


def centres(height: int, width: int, stride: int, like: Tensor) -> Tensor:
    """Centres of the cells of one level in input pixels, [height * width, 2], row by row."""
    ys = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * stride
    xs = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * stride
    return torch.stack([xs.repeat(height), ys.repeat_interleave(width)], 1)


def positions(sizes: Sequence[tuple[int, int]], strides: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Centres [P, 2] and strides [P] of all levels of these heights and widths, in the order of the output."""
    places = [centres(h, w, s, like) for (h, w), s in zip(sizes, strides, strict=True)]
    each = [torch.full((len(place),), float(s)).to(like) for place, s in zip(places, strides, strict=True)]
    return torch.cat(places), torch.cat(each)
