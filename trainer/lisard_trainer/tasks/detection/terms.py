"""LISArD's terms for a detector: each compares what the clean and the noisy view of the same scenes give.

The views are geometrically identical, so the same position means the same place. The correlation itself is the
classifier's (terms.similarity), over positions in place of images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ...losses import terms
from . import geometry
from .assign import Assignment
from .geometry import BOX, CLASSES, OBJECTNESS
from .network import Parts

FEWEST_ROWS = 2  # a correlation over one position says nothing
ROWS_PER_FEATURE = 2  # positions outside boxes are added until there are so many per channel


def levels(
    clean: Sequence[Tensor],
    noisy: Sequence[Tensor],
    inside: Sequence[Tensor],
    samples: int,
    off_weight: float,
    generator: torch.Generator,
) -> Tensor:
    """Mean over the levels of the cross-correlation loss of maps [N,C,h,w] at sampled positions.

    inside: bool [N,h*w] per level, positions inside boxes; they are half of the sample where there are enough.
    """
    parts = []
    for first, second, covered in zip(clean, noisy, inside, strict=True):
        chosen = sample(covered.flatten(), samples, ROWS_PER_FEATURE * first.shape[1], generator)
        pair = [_rows(side).index_select(0, chosen) for side in (first, second)]
        parts.append(terms.similarity(pair[0], pair[1], off_weight, normalise=True))
    return terms.mean(parts)


def _rows(x: Tensor) -> Tensor:
    """[N,C,h,w] -> [N*h*w,C], a view of channels-last memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def sample(covered: Tensor, samples: int, least: int, generator: torch.Generator) -> Tensor:
    """Distinct positions out of covered [n]: up to half of `samples` covered ones, and as many others.

    Where few positions are covered, others are added until there are `least` in all (or none left).
    """
    inside, outside = (_shuffled(which.nonzero().flatten(), generator) for which in (covered, ~covered))
    inside = inside[: max(1, samples // 2)]
    wanted = min(samples - len(inside), max(len(inside), least - len(inside)))
    return torch.cat([inside, outside[:wanted]])


def _shuffled(values: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.randperm(len(values), generator=generator, device=generator.device)
    return values[order.to(values.device)]


def instances(clean: Parts, noisy: Parts, assigned: Assignment, off_weight: float) -> Tensor:
    """Mean over both branches of the cross-correlation loss of the features at assigned positions; 0 without any."""
    if len(assigned) < FEWEST_ROWS:
        return clean.output.new_zeros(())
    pairs = [(clean.class_features, noisy.class_features), (clean.box_features, noisy.box_features)]
    return terms.mean(
        [
            terms.similarity(
                a[assigned.rows, assigned.columns], b[assigned.rows, assigned.columns], off_weight, normalise=True
            )
            for a, b in pairs
        ]
    )


def class_agreement(clean: Tensor, noisy: Tensor, assigned: Assignment) -> Tensor:
    """KL(clean || noisy) of objectness everywhere and of the classes where a box was assigned, per assigned position.

    Outputs [N,P,5+C]. The clean side receives no gradient: it is the teacher.
    """
    count = max(1, len(assigned))
    objectness = binary_kl(clean[..., OBJECTNESS], noisy[..., OBJECTNESS])
    objectness = (objectness * ~assigned.silent).sum()
    pair = (side[assigned.rows, assigned.columns, CLASSES] for side in (clean, noisy))
    return (objectness + binary_kl(*pair).sum()) / count


def binary_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL of two Bernoulli distributions given as logits, each element; no gradient to the teacher."""
    teacher = teacher.detach()
    p = teacher.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(student, p, reduction="none")
    return cross - functional.binary_cross_entropy_with_logits(teacher, p, reduction="none")


def box_agreement(clean: Tensor, noisy: Tensor, assigned: Assignment) -> Tensor:
    """Mean of 1 - GIoU between the views' boxes where a box was assigned; the clean side is the teacher."""
    first, second = (side[assigned.rows, assigned.columns, BOX] for side in (clean, noisy))
    return (1 - geometry.giou(second, first.detach())).sum() / max(1, len(assigned))
