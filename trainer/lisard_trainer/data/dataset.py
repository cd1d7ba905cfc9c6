"""Labelled images in memory: one uint8 array with labels, tracks and paths, on any device, and its two parts.

Frames of one track show the same thing a moment apart, so a track is never divided between training and validation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from lisard_ros.errors import DataError


@dataclass(frozen=True)
class ImageDataset:
    """Labelled images: images uint8 [N,3,H,W] RGB, labels int64 [N]; N tracks and paths relative to the folder."""

    images: Tensor
    labels: Tensor
    tracks: tuple[str, ...]
    paths: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, positions: np.ndarray) -> ImageDataset:
        """The images at these positions, in this order."""
        names = [int(i) for i in positions]
        index = torch.from_numpy(np.asarray(positions, dtype=np.int64)).to(self.images.device)
        return ImageDataset(
            self.images[index],
            self.labels[index],
            tuple(self.tracks[i] for i in names),
            tuple(self.paths[i] for i in names),
            self.classes,
        )

    def to(self, device: torch.device | str) -> ImageDataset:
        """The same images with images and labels on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def sha256(self) -> str:
        """Hash of every pixel, label and track, so that a card can name its data."""
        digest = hashlib.sha256(self.images.cpu().numpy().tobytes())
        digest.update(self.labels.cpu().numpy().tobytes())
        digest.update("\n".join(self.tracks).encode())
        return digest.hexdigest()


class Images(Protocol):
    """Images in memory, whatever is known of each."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names."""

    def __len__(self) -> int:
        """How many."""

    def to(self: L, device: torch.device | str) -> L:
        """The same images on a device."""

    def sha256(self) -> str:
        """Hash of all that is learnt from."""


L = TypeVar("L", bound=Images)
P = TypeVar("P", bound="DataSplit[Any]")


@dataclass(frozen=True)
class DataSplit(Generic[L]):
    """Training and validation images; no track, and no image, is in both."""

    train: L
    validation: L

    def to(self: P, device: torch.device | str) -> P:
        """Both parts on a device."""
        return replace(self, train=self.train.to(device), validation=self.validation.to(device))


class Split(DataSplit[ImageDataset]):
    """Training and validation images with no track in common."""


def check_batch(batch: int, available: int) -> None:
    """Batch statistics need two images, and a batch must exist at all."""
    if 2 <= batch <= available:
        return
    enough = f"2 to {available}" if available >= 2 else f"two training images or more, of which there are {available}"
    raise DataError(
        "batch size", found=batch, expected=enough, cure="change optimizer.batch_size in the recipe, or the data"
    )


def batches(
    count: int,
    batch: int,
    generator: torch.Generator,
    shuffle: bool = True,
    drop_last: bool = True,
    shares: Tensor | None = None,
) -> Iterator[Tensor]:
    """Index batches of one epoch on the generator's device.

    shuffle: a fresh random order; else one random order for all epochs, as CIFAR's files have it, drawn without the
    generator: data that are stored class by class would teach nothing in theirs.
    drop_last: a last, smaller batch is left out. If it is kept, a batch of one is not: batch statistics need two.
    shares: how often each image is wanted beside the others [count]; an image comes as often as that says, rounded up
    or down. None: each once.
    """
    device = generator.device
    if shares is not None:
        order = _repeated(shares.to(device), generator)
    elif shuffle:
        order = torch.randperm(count, generator=generator, device=device)
    else:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(count)).to(device)
    smallest = batch if drop_last else min(batch, 2)
    for start in range(0, count - smallest + 1, batch):
        yield order[start : start + batch]


def _repeated(shares: Tensor, generator: torch.Generator) -> Tensor:
    """As many positions as there are shares, each by its share, in random order (systematic sampling)."""
    count = len(shares)
    order = torch.randperm(count, generator=generator, device=shares.device)
    ends = shares.double()[order].cumsum(0) * (count / shares.double().sum())
    start = torch.rand((), generator=generator, device=shares.device, dtype=torch.float64)
    ends[-1] = count  # rounding of the sum must not lose the last one
    marks = (ends + start).floor().long()
    repeats = marks.diff(prepend=marks.new_zeros(1))
    chosen = order.repeat_interleave(repeats)
    return chosen[torch.randperm(count, generator=generator, device=shares.device)]


def subset(count: int, wanted: int) -> np.ndarray:
    """Positions of `wanted` of `count` images, evenly spread; a smaller subset lies within every larger one.

    Columns of different sizes can so be compared on the smaller. The order is van der Corput's (bits reversed).
    """
    bits = max(1, (count - 1).bit_length())
    numbers = np.arange(2**bits, dtype=np.int64)
    order = sum(((numbers >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
    return np.sort(np.asarray(order)[np.asarray(order) < count][:wanted])


def to_unit(images: Tensor) -> Tensor:
    """uint8 -> float32 in [0,1]."""
    return images.float().div_(255)
