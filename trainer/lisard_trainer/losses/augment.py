"""Random views of a batch: one geometric and photometric change per image, then noise for the second view.

Everything works on whole batches [N,3,H,W] on the device that holds them; every random number comes from the given
generator, which may live on the CPU or on that device. Traffic signs are mirrored only by class: most mean something
else then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lisard_ros.errors import UsageError, unknown_name

from .. import data
from ..bounds import NOT_NEGATIVE, POSITIVE, SHARE, RecipeSection, bounded


@dataclass(frozen=True, eq=False)
class Views:
    """Images [N,3,H,W] of both views (`noisy` is None when a recipe has one view) and labels, [N] or [N,M]."""

    first: Tensor
    noisy: Tensor | None
    labels: Tensor


@dataclass(frozen=True)
class Augment(RecipeSection, section="augment"):
    """Bounds of the random change of a clean view. All are drawn evenly; 0 (or 1 for factors) turns one off.

    crop_padding_px: zeros put around the image, out of which a piece of its size is cut (CIFAR, as published: 4).
    cutout_px: width of a square, centred anywhere, that takes the image's mean colour (DeVries & Taylor 2017).
    mirror_classes: half of the images of these classes are mirrored, names with commas; `left:right` where a mirror
    image of class `left` shows class `right`, and the other way round.
    """

    shift_px: float = bounded(3.0, NOT_NEGATIVE)
    rotation_deg: float = bounded(10.0, NOT_NEGATIVE)
    zoom: float = bounded(1.15, POSITIVE)
    shear: float = bounded(0.1, NOT_NEGATIVE)
    contrast_low: float = bounded(0.4, POSITIVE)
    contrast_high: float = bounded(1.4, POSITIVE)
    brightness: float = bounded(0.15, NOT_NEGATIVE)
    flip: bool = False
    mirror_classes: str = ""
    crop_padding_px: int = bounded(0, NOT_NEGATIVE)
    cutout_px: int = bounded(0, NOT_NEGATIVE)
    early_px: int = bounded(0, NOT_NEGATIVE)
    early_share: float = bounded(0.0, SHARE)

    def __post_init__(self) -> None:
        """Refuse to mirror twice."""
        super().__post_init__()
        if self.flip and self.mirror_classes:
            raise UsageError(
                "recipe key augment.mirror_classes", found=self.mirror_classes, expected="flip: false with it"
            )

    def mirror_images(self, classes: Sequence[str]) -> tuple[int, ...]:
        """What a mirror image of each class shows, as the number of a class; -1 for a class that is never mirrored.

        Raises:
            UsageError: a name that is no class, or one that is named twice.
        """
        shown = [-1] * len(classes)
        for pair in (part.strip() for part in self.mirror_classes.split(",") if part.strip()):
            names = [name.strip() for name in pair.split(":")]
            for name in names:
                if name not in classes:
                    raise unknown_name("class in recipe key augment.mirror_classes", name, classes, UsageError)
            ends = classes.index(names[0]), classes.index(names[-1])
            if len(names) > 2 or shown[ends[0]] >= 0 or shown[ends[1]] >= 0:
                raise UsageError(
                    "recipe key augment.mirror_classes", found=pair, expected="NAME or NAME:NAME, each once"
                )
            shown[ends[0]], shown[ends[1]] = ends[1], ends[0]
        return tuple(shown)

    def size_px(self, full_px: int, share_done: float) -> int:
        """Width of the view: smaller (cheaper) images for the first `early_share` of the run, if early_px is set."""
        return self.early_px if self.early_px and share_done < self.early_share else full_px

    @property
    def moves(self) -> bool:
        """Whether images are shifted, turned, zoomed or sheared."""
        return (self.shift_px, self.rotation_deg, self.zoom, self.shear) != (0, 0, 1, 0)

    @property
    def relights(self) -> bool:
        """Whether contrast or brightness change."""
        return (self.contrast_low, self.contrast_high, self.brightness) != (1, 1, 0)


FLIPPED_SHARE = 0.5

# What the published training does to CIFAR and Tiny ImageNet, and nothing else: crop out of zero padding, and flip.
PUBLISHED = Augment(
    shift_px=0,
    rotation_deg=0,
    zoom=1,
    shear=0,
    contrast_low=1,
    contrast_high=1,
    brightness=0,
    flip=True,
    crop_padding_px=4,
)


@dataclass(frozen=True)
class Noise(RecipeSection, section="noise"):
    """Noise of the second view, in units of the [0,1] pixel range.

    clip: keep noisy images within [0,1]; false, as published, lets values leave it.

    sigma is drawn evenly per image; cell_px are the widths of the squares that share one value (1 is white noise),
    drawn evenly per image; sign_share of the images get +-sigma in place of a normal value; grey_share the same
    value in all three channels. first_view_high: the first view gets white noise too, with sigma drawn evenly from 0 to
    this (0: it stays clean, as published).
    """

    sigma_low: float = bounded(0.177123, NOT_NEGATIVE)
    sigma_high: float = bounded(0.177123, NOT_NEGATIVE)
    cell_px: tuple[int, ...] = (1,)
    sign_share: float = bounded(0.0, SHARE)
    grey_share: float = bounded(0.0, SHARE)
    first_view_high: float = bounded(0.0, NOT_NEGATIVE)
    clip: bool = False


def clean_view(x: Tensor, augment: Augment, generator: torch.Generator, size_px: int) -> Tensor:
    """X float32 [N,3,H,W] in [0,1], or uint8 -> the same images float32 [N,3,size_px,size_px], moved and relit.

    Bytes are cropped and flipped as they are, at half the cost, with the same result.
    """
    if augment.moves or x.shape[-1] != size_px:
        x = _move(_unit(x), augment, generator, size_px)
    if augment.crop_padding_px:
        x = _crop(x, augment.crop_padding_px, augment.flip, generator)
    elif augment.flip:
        x = torch.where(uniform(x, 0, 1, generator) < FLIPPED_SHARE, x.flip(3), x)
    x = _unit(x)
    if augment.relights:
        x = _relight(x, augment, generator)
    return _cut_out(x, augment.cutout_px, generator) if augment.cutout_px else x


def mirror(x: Tensor, labels: Tensor, shown: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Half of the images of the classes that may be mirrored, mirrored; and the labels [N] of what they show then.

    shown: of `Augment.mirror_images`.
    """
    after = torch.tensor(shown, device=labels.device)[labels]
    chosen = (after >= 0) & (uniform(x, 0, 1, generator).flatten().to(labels.device) < FLIPPED_SHARE)
    return torch.where(chosen.view(-1, 1, 1, 1).to(x.device), x.flip(3), x), torch.where(chosen, after, labels)


def first_view(x: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    """x, with the slight white noise of the first view if there is any."""
    if not noise.first_view_high:
        return x
    noisy = x + _normal(x.shape, x, generator) * uniform(x, 0, noise.first_view_high, generator)
    return noisy.clamp_(0, 1) if noise.clip else noisy


def noisy_view(x: Tensor, noise: Noise, generator: torch.Generator) -> Tensor:
    """X plus fresh noise, pixel aligned with x, clipped only if the recipe asks for it."""
    unit = _coarse_normal(x, noise.cell_px, generator)
    if noise.grey_share:
        grey = uniform(x, 0, 1, generator) < noise.grey_share
        unit = torch.where(grey, unit[:, :1].expand_as(unit), unit)
    if noise.sign_share:
        sign = uniform(x, 0, 1, generator) < noise.sign_share
        unit = torch.where(sign, unit.sign(), unit)
    noisy = unit.mul_(uniform(x, noise.sigma_low, noise.sigma_high, generator)).add_(x)
    return noisy.clamp_(0, 1) if noise.clip else noisy


def uniform(x: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """One even random number per image [N,1,1,1]."""
    return _even((len(x), 1, 1, 1), x, generator).mul_(high - low).add_(low)


def _even(shape: tuple[int, ...], x: Tensor, generator: torch.Generator) -> Tensor:
    """Evenly drawn from [0,1) by the generator, on the device of x."""
    return torch.rand(shape, generator=generator, device=generator.device).to(x.device)


def _normal(shape: tuple[int, ...], x: Tensor, generator: torch.Generator) -> Tensor:
    """Unit normal values of the generator, on the device of x."""
    return torch.randn(shape, generator=generator, device=generator.device).to(x.device)


def _whole(high: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """One whole number from 0 to high - 1 per image [N], on the device of x."""
    return torch.randint(high, (len(x),), generator=generator, device=generator.device).to(x.device)


def _move(x: Tensor, augment: Augment, generator: torch.Generator, size_px: int) -> Tensor:
    """Random affine map about the centre; what comes in from outside repeats the border."""
    radians = math.radians(augment.rotation_deg)
    angle = uniform(x, -radians, radians, generator).flatten()
    log_zoom = math.log(augment.zoom)
    zoom = torch.exp(uniform(x, -log_zoom, log_zoom, generator)).flatten()
    shear = uniform(x, -augment.shear, augment.shear, generator).flatten()
    reach = 2 * augment.shift_px / x.shape[-1]
    shift = _even((len(x), 2, 1), x, generator).mul_(2 * reach).sub_(reach)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack([torch.stack([cos, shear - sin], 1), torch.stack([sin + shear, cos], 1)], 1)
    grid = functional.affine_grid(torch.cat([rows, shift], 2), [*x.shape[:2], size_px, size_px], align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _unit(x: Tensor) -> Tensor:
    """float32 in [0,1], from bytes if need be."""
    return data.to_unit(x) if x.dtype == torch.uint8 else x


def _crop(x: Tensor, padding_px: int, flip: bool, generator: torch.Generator) -> Tensor:
    """A piece of the image's size at a random place within zeros around it, mirrored or not."""
    count, channels, height, width = x.shape
    padded = functional.pad(x, (padding_px,) * 4)
    top, left = (_whole(2 * padding_px + 1, x, generator).view(-1, 1) for _ in range(2))
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device).expand(count, -1)
    if flip:
        columns = torch.where(uniform(x, 0, 1, generator).view(-1, 1) < FLIPPED_SHARE, columns.flip(1), columns)
    places = ((top + rows) * padded.shape[3]).unsqueeze(2) + (left + columns).unsqueeze(1)
    places = places.view(count, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, places).view(x.shape)


def _cut_out(x: Tensor, width_px: int, generator: torch.Generator) -> Tensor:
    """A square centred on any pixel becomes the image's mean colour; it may reach over the border."""
    inside = []
    for size in x.shape[2:]:
        start = (_whole(size, x, generator) - width_px // 2).view(-1, 1)
        position = torch.arange(size, device=x.device)
        inside.append((start <= position) & (position < start + width_px))
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(square, x.mean(dim=(2, 3), keepdim=True), x)


def _relight(x: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Random contrast about the image's mean and random brightness, clipped to [0,1]."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    contrast = torch.exp(uniform(x, math.log(augment.contrast_low), math.log(augment.contrast_high), generator))
    offset = uniform(x, -augment.brightness, augment.brightness, generator)
    return ((x - mean) * contrast + mean + offset).clamp_(0, 1)


def _coarse_normal(x: Tensor, cells_px: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Unit normal noise, constant over squares whose width is drawn per image from `cells_px`."""
    if cells_px == (1,):
        return _normal(x.shape, x, generator)
    _, channels, height, width = x.shape
    choice = _whole(len(cells_px), x, generator)
    out = torch.empty_like(x)
    for position, cell in enumerate(cells_px):
        chosen = torch.nonzero(choice == position).flatten()
        small = _normal((len(chosen), channels, height // cell + 2, width // cell + 2), x, generator)
        large = small.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
        # The grid has a random offset.
        top, left = torch.randint(cell, (2,), generator=generator, device=generator.device).tolist()
        out[chosen] = large[:, :, top : top + height, left : left + width]
    return out
