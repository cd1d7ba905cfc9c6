"""Faint details laid over an image: its own are weakened, and those of another image of the batch are added.

The idea: an attack carried over from another network weakens what speaks for the image's class and adds faint
structure of other classes, bounded by a few grey levels. So does the difference between the details of two images,
amplified until it saturates and bounded alike. No gradient of any network is used, so this is augmentation and no
adversarial example. Mixing images goes back to mixup (Zhang et al. 2018, arXiv 1710.09412); labels are not mixed
here, since what is added is fainter than what is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..bounds import NOT_NEGATIVE, SHARE, RecipeSection, bounded
from . import augment
from .augment import Noise, Views, uniform

SCALES_PX = (5, 9, 17)  # details are what remains after subtracting the mean over a square of this width
GAIN_LOW, GAIN_HIGH = 0.7, 8.0  # in standard deviations: from soft edges to almost two levels alone
LEAST_STD = 1e-3
LOOK_PX = 2  # images are compared after averaging squares of this width
ALIKE = 4  # a donor is one of so many images, of other classes, that look most like the image


@dataclass(frozen=True)
class DetailMixing(RecipeSection, section="detail_mixing"):
    """Largest amplitude in grey levels of 255 for either view (0 turns it off), and what is added.

    min_share: the smallest amplitude as a share of the largest; drawn evenly per image. own_low, own_high: how much
    of its own details an image loses, drawn evenly (0: none; 1: as much as the donor's are added). donors: any image
    of the batch (in a large one hardly ever itself), or one of those of other classes that look most alike.
    """

    first_255: float = bounded(0.0, NOT_NEGATIVE)
    noisy_255: float = bounded(0.0, NOT_NEGATIVE)
    min_share: float = bounded(0.0, SHARE)
    own_low: float = bounded(0.0, NOT_NEGATIVE)
    own_high: float = bounded(0.0, NOT_NEGATIVE)
    donors: Literal["any", "alike"] = "any"


def views(
    x: Tensor, labels: Tensor, count: int, noise: Noise, mixing: DetailMixing, generator: torch.Generator
) -> Views:
    """The clean view, and of two the noisy one, of images x [N,3,H,W] in [0,1] that are augmented already."""
    if count == 1:
        return Views(mix(x, x, labels, mixing.first_255, mixing, generator), None, labels)
    noisy = augment.noisy_view(x, noise, generator)
    first = augment.first_view(x, noise, generator)
    return Views(
        mix(first, x, labels, mixing.first_255, mixing, generator),
        mix(noisy, x, labels, mixing.noisy_255, mixing, generator),
        labels,
    )


def mix(
    view: Tensor, x: Tensor, labels: Tensor, highest_255: float, settings: DetailMixing, generator: torch.Generator
) -> Tensor:
    """The view [N,3,H,W] with faint details over it, worked out from the images x before their noise."""
    added = draw(x, labels.to(x.device), highest_255, settings, generator)
    return view if added is None else view + added


def draw(
    x: Tensor, labels: Tensor, highest_255: float, settings: DetailMixing, generator: torch.Generator
) -> Tensor | None:
    """What is added to images x [N,3,H,W] of classes labels [N]: |values| <= highest_255/255. None if that is 0."""
    if not highest_255:
        return None
    chosen = donors(x, labels, settings, generator)
    highest = highest_255 / 255
    amplitude = uniform(x, settings.min_share * highest, highest, generator)
    return difference(x, chosen, settings, generator) * amplitude


def difference(x: Tensor, chosen: Tensor, settings: DetailMixing, generator: torch.Generator) -> Tensor:
    """Details of the chosen images less a share of the own ones, amplified and cut off at -1 and 1.

    Where an image loses nothing of its own, the donor's details come with either sign.
    """
    fine = details(x, generator)
    other = fine[chosen]
    if settings.own_high:
        other = other - fine * uniform(x, settings.own_low, settings.own_high, generator)
    else:
        other = other * torch.where(uniform(x, 0, 1, generator) < 0.5, 1.0, -1.0)
    return (other * uniform(x, GAIN_LOW, GAIN_HIGH, generator)).clamp(-1, 1)


def details(x: Tensor, generator: torch.Generator) -> Tensor:
    """What is left of images [N,3,H,W] without their mean over squares of a drawn width, in standard deviations."""
    scale = SCALES_PX[int(torch.randint(len(SCALES_PX), (1,), generator=generator, device=generator.device))]
    fine = x - _blurred(x, scale)
    return fine / fine.std((1, 2, 3), keepdim=True).clamp(min=LEAST_STD)


def donors(x: Tensor, labels: Tensor, settings: DetailMixing, generator: torch.Generator) -> Tensor:
    """For each image the position [N] of its donor. Where the batch holds too few of other classes, of any."""
    order = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
    if settings.donors == "any":
        return order
    likeness = _likeness(x).masked_fill(labels[:, None] == labels[None, :], -torch.inf)
    count = min(ALIKE, len(x))
    nearest = likeness.topk(count, dim=1)
    rank = torch.randint(count, (len(x), 1), generator=generator, device=generator.device).to(x.device)
    found = nearest.values.gather(1, rank).squeeze(1) > -torch.inf
    return torch.where(found, nearest.indices.gather(1, rank).squeeze(1), order)


def _likeness(x: Tensor) -> Tensor:
    """Correlation of every two images [N,N], of their means over small squares."""
    small = functional.avg_pool2d(x, LOOK_PX).flatten(1)
    shape = functional.normalize(small - small.mean(1, keepdim=True), dim=1)
    return shape @ shape.T


def _blurred(x: Tensor, width_px: int) -> Tensor:
    """Mean over squares; the border is repeated. Rows first, then columns: 2 x width_px sums in place of its square."""
    padded = functional.pad(x, [width_px // 2] * 4, mode="replicate")
    return functional.avg_pool2d(functional.avg_pool2d(padded, (1, width_px), 1), (width_px, 1), 1)
