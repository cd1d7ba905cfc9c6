"""Random views of a batch: one geometric and photometric change per picture, then noise for the second view.

Everything works on whole batches [N,3,H,W]; every random number comes from the given generator. Traffic signs are
never flipped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augment:
    """Bounds of the random change of a clean view. All are drawn evenly; 0 (or 1 for factors) turns one off."""

    shift_px: float = 3.0
    rotation_deg: float = 10.0
    zoom: float = 1.15
    shear: float = 0.1
    contrast_low: float = 0.4
    contrast_high: float = 1.4
    brightness: float = 0.15
    flip: bool = False
    early_px: int = 0
    early_share: float = 0.0

    def size_px(self, full_px: int, share_done: float) -> int:
        """Width of the view: smaller (cheaper) pictures for the first `early_share` of the run, if early_px is set."""
        return self.early_px if self.early_px and share_done < self.early_share else full_px


@dataclass(frozen=True)
class Noise:
    """Noise of the second view, in units of the [0,1] pixel range and not clipped (as published).

    sigma is drawn evenly per picture; cell_px are the widths of the squares that share one value (1 is white noise),
    drawn evenly per picture; sign_share of the pictures get +-sigma in place of a normal value; grey_share the same
    value in all three channels. first_view_high: the first view gets white noise too, with sigma drawn evenly from 0 to
    this (0: it stays clean, as published).
    """

    sigma_low: float = 0.177123
    sigma_high: float = 0.177123
    cell_px: tuple[int, ...] = (1,)
    sign_share: float = 0.0
    grey_share: float = 0.0
    first_view_high: float = 0.0


def clean_view(x: Tensor, augment: Augment, generator: torch.Generator, size_px: int) -> Tensor:
    """x float32 [N,3,H,W] in [0,1] -> the same pictures [N,3,size_px,size_px], moved and relit."""
    x = _move(x, augment, generator, size_px)
    if augment.flip:
        x = torch.where(_uniform(x, 0, 1, generator) < 0.5, x.flip(3), x)
    return _relight(x, augment, generator)


def first_view(x: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    """x, with the slight white noise of the first view if there is any."""
    if not noise.first_view_high:
        return x
    return x + torch.randn(x.shape, generator=generator) * _uniform(x, 0, noise.first_view_high, generator)


def noisy_view(x: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    """x plus fresh noise, pixel aligned with x and not clipped."""
    return x + _draw(x, noise, generator)


def _uniform(x: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """One number per picture [N,1,1,1]."""
    return torch.rand(len(x), 1, 1, 1, generator=generator).mul_(high - low).add_(low)


def _move(x: Tensor, augment: Augment, generator: torch.Generator, size_px: int) -> Tensor:
    """Random affine map about the centre; what comes in from outside repeats the border."""
    radians = math.radians(augment.rotation_deg)
    angle = _uniform(x, -radians, radians, generator).flatten()
    log_zoom = math.log(augment.zoom)
    zoom = torch.exp(_uniform(x, -log_zoom, log_zoom, generator)).flatten()
    shear = _uniform(x, -augment.shear, augment.shear, generator).flatten()
    reach = 2 * augment.shift_px / x.shape[-1]
    shift = torch.rand(len(x), 2, 1, generator=generator).mul_(2 * reach).sub_(reach)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack([torch.stack([cos, shear - sin], 1), torch.stack([sin + shear, cos], 1)], 1)
    grid = functional.affine_grid(torch.cat([rows, shift], 2), [*x.shape[:2], size_px, size_px], align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _relight(x: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Random contrast about the picture's mean and random brightness, clipped to [0,1]."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    contrast = torch.exp(_uniform(x, math.log(augment.contrast_low), math.log(augment.contrast_high), generator))
    offset = _uniform(x, -augment.brightness, augment.brightness, generator)
    return ((x - mean) * contrast + mean + offset).clamp_(0, 1)


def _draw(x: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    unit = _coarse_normal(x, noise.cell_px, generator)
    if noise.grey_share:
        grey = _uniform(x, 0, 1, generator) < noise.grey_share
        unit = torch.where(grey, unit[:, :1].expand_as(unit), unit)
    if noise.sign_share:
        sign = _uniform(x, 0, 1, generator) < noise.sign_share
        unit = torch.where(sign, unit.sign(), unit)
    return unit * _uniform(x, noise.sigma_low, noise.sigma_high, generator)


def _coarse_normal(x: Tensor, cells_px: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Unit normal noise, constant over squares whose width is drawn per picture from `cells_px`."""
    if cells_px == (1,):
        return torch.randn(x.shape, generator=generator)
    choice = torch.randint(len(cells_px), (len(x),), generator=generator)
    out = torch.empty(x.shape)
    for position, cell in enumerate(cells_px):
        chosen = torch.nonzero(choice == position).flatten()
        out[chosen] = _cells(len(chosen), x.shape[1:], cell, generator)
    return out


def _cells(count: int, shape: torch.Size, cell_px: int, generator: torch.Generator) -> Tensor:
    """`count` pictures of unit normal squares with a random offset of the grid."""
    channels, height, width = shape
    rows, columns = height // cell_px + 2, width // cell_px + 2
    small = torch.randn(count, channels, rows, columns, generator=generator)
    large = small.repeat_interleave(cell_px, 2).repeat_interleave(cell_px, 3)
    top, left = torch.randint(cell_px, (2,), generator=generator).tolist()
    return large[:, :, top : top + height, left : left + width]
