"""Faint details of other training pictures laid over a picture: noise with the structure of pictures.

The idea, for which there is no control yet: an attack carried over from another network adds faint structure of other
classes, bounded by a few grey levels; so do the details of another picture of the batch, amplified until they saturate
and bounded alike. No gradient of any network is used, so this is augmentation and no adversarial example.
Mixing pictures goes back to mixup (Zhang et al. 2018, arXiv 1710.09412); labels are not mixed here, since what is added
is fainter than what is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SCALES_PX = (5, 9, 17)  # details are what remains after subtracting the mean over a square of this width
GAIN_LOW, GAIN_HIGH = 0.7, 8.0  # in standard deviations: from soft edges to almost two levels alone
LEAST_STD = 1e-3


@dataclass(frozen=True)
class Overlay:
    """Largest amplitude in grey levels of 255 for either view, drawn evenly per picture from 0; 0 turns it off."""

    first_255: float = 0.0
    noisy_255: float = 0.0


def add(x: Tensor, highest_255: float, generator: torch.Generator) -> Tensor:
    """x [N,3,H,W] plus details of other pictures of the batch, |difference| <= highest_255/255; not clipped."""
    if not highest_255:
        return x
    donors = x[torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)]
    return x + details(donors, generator) * _even(x, 0, highest_255 / 255, generator)


def details(x: Tensor, generator: torch.Generator) -> Tensor:
    """Signed details of pictures [N,3,H,W] in [-1,1], each with a gain and a sign of its own."""
    scale = SCALES_PX[int(torch.randint(len(SCALES_PX), (1,), generator=generator, device=generator.device))]
    fine = x - _blurred(x, scale)
    fine = fine / fine.std((1, 2, 3), keepdim=True).clamp(min=LEAST_STD)
    gain = _even(x, GAIN_LOW, GAIN_HIGH, generator)
    sign = torch.where(_even(x, 0, 1, generator) < 0.5, 1.0, -1.0)
    return (fine * gain * sign).clamp(-1, 1)


def _blurred(x: Tensor, width_px: int) -> Tensor:
    """Mean over squares; the border is repeated."""
    return functional.avg_pool2d(functional.pad(x, [width_px // 2] * 4, mode="replicate"), width_px, 1)


def _even(x: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """One even random number per picture [N,1,1,1]."""
    drawn = torch.rand(len(x), 1, 1, 1, generator=generator, device=generator.device)
    return drawn.mul_(high - low).add_(low).to(x.device)
