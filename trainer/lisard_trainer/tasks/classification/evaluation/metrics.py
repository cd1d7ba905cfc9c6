"""How good a classifier is: the share of images whose highest logit is their label."""

from __future__ import annotations

import torch
from torch import nn

from .... import data
from ....training.distributed import Team
from ....training.divergence import arithmetic


@torch.no_grad()
def accuracy(
    network: nn.Module,
    dataset: data.ImageDataset,
    device: torch.device,
    precision: str,
    batch: int = 256,
    team: Team | None = None,
) -> float:
    """Share of images whose highest logit is their label, in eval mode; NaN if any logit is not finite.

    The processes divide the images.
    """
    team = team or Team()
    network.eval()
    dtype = next(network.parameters()).dtype
    own = torch.arange(team.rank, len(dataset), team.size, device=dataset.images.device)
    right = torch.zeros((), device=device, dtype=torch.float64)
    for positions in own.split(batch):
        x = data.to_unit(dataset.images[positions]).to(device, dtype, memory_format=torch.channels_last)
        with arithmetic(device, precision):
            logits = network(x)[1]
        right += (logits.argmax(1) == dataset.labels[positions].to(device)).sum()
        right += torch.where(logits.isfinite().all(), 0.0, torch.nan)
    return float(team.total(right)) / max(1, len(dataset))
