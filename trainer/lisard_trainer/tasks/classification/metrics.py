"""How good a classifier is: the share of images whose highest logit is their label."""

from __future__ import annotations

import torch
from torch import nn

from ... import data
from ...training.distributed import Team
from ...training.divergence import arithmetic


@torch.no_grad()
def accuracy(
    network: nn.Module,
    pictures: data.Pictures,
    device: torch.device,
    precision: str,
    batch: int = 256,
    team: Team | None = None,
) -> float:
    """Share of pictures whose highest logit is their label, in eval mode; NaN if any logit is not finite.

    The processes divide the pictures.
    """
    team = team or Team()
    network.eval()
    dtype = next(network.parameters()).dtype
    own = torch.arange(team.rank, len(pictures), team.size, device=pictures.images.device)
    right = torch.zeros((), device=device, dtype=torch.float64)
    for positions in own.split(batch):
        x = data.to_unit(pictures.images[positions]).to(device, dtype, memory_format=torch.channels_last)
        with arithmetic(device, precision):
            logits = network(x)[1]
        right += (logits.argmax(1) == pictures.labels[positions].to(device)).sum()
        right += torch.where(logits.isfinite().all(), 0.0, torch.nan)
    return float(team.total(right)) / max(1, len(pictures))
