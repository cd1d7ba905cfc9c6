"""Certified L2 radii by randomised smoothing for the pictures of one part.

Source: Cohen et al. 2019 (arXiv 1902.02918), section 3.2, CERTIFY. Noise is not clipped, as the theorem demands.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import smoothing
from .cache import Arrays
from .columns import Certificate
from .making import Part
from .subjects import Subject

GREY_LEVELS = 255
BATCH = 256
ABSTAINED = -1


def certify(subject: Subject, part: Part, certificate: Certificate) -> Arrays:
    """For each picture the smoothed answer (-1: abstained), the share of its votes, and its radius in pixel units."""
    rows = [_one(subject, part, row, certificate) for row in range(len(part.own))]
    answers, scores, radii = zip(*rows, strict=True)
    return {
        "answers": np.array(answers, np.int16), "scores": np.array(scores, np.float32),
        "radius_l2": np.array(radii, np.float32),
    }  # fmt: skip


def _one(subject: Subject, part: Part, row: int, certificate: Certificate) -> tuple[int, float, float]:
    """Draws of a picture depend on its place in the column alone, not on the part it is in."""
    random = np.random.default_rng([certificate.seed, part.start + row])
    sigma = certificate.sigma_255 / GREY_LEVELS
    x = torch.from_numpy(part.x[row]).to(subject.device)
    chosen = int(_votes(subject.network, x, sigma, certificate.choose, random).argmax())
    votes = _votes(subject.network, x, sigma, certificate.draws, random)
    hits = int(votes[chosen]) if chosen < len(votes) else 0
    radius = smoothing.radius_l2(hits, certificate.draws, certificate.alpha, sigma)
    return (ABSTAINED if radius is None else chosen), hits / certificate.draws, np.nan if radius is None else radius


@torch.no_grad()
def _votes(
    network: nn.Module, x: torch.Tensor, sigma: float, draws: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """How often each class wins under noise."""
    wins = [network(x + noise.to(x.device)).argmax(1).cpu().numpy() for noise in _noise(x, sigma, draws, random)]
    return np.bincount(np.concatenate(wins))


def _noise(x: torch.Tensor, sigma: float, draws: int, random: np.random.Generator) -> Iterator[torch.Tensor]:
    for start in range(0, draws, BATCH):
        count = min(BATCH, draws - start)
        yield torch.from_numpy(random.standard_normal((count, *x.shape), np.float32) * np.float32(sigma))
