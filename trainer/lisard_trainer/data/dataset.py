"""Labelled images in memory: one uint8 array with labels, tracks and paths, on any device, and its two parts.

Frames of one track show the same thing a moment apart, so a track is never divided between training and validation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

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

    def rows(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 [n,3,H,W] and labels [n] at these positions, for a batch."""
        index = positions.to(self.images.device)
        return self.images.index_select(0, index), self.labels.index_select(0, index)

    def to(self, device: torch.device | str) -> ImageDataset:
        """The same images with images and labels on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def sha256(self) -> str:
        """Hash of every pixel, label and track, so that a card can name its data."""
        digest = hashlib.sha256(self.images.cpu().numpy().tobytes())
        digest.update(self.labels.cpu().numpy().tobytes())
        digest.update("\n".join(self.tracks).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Split:
    """Training and validation images with no track in common."""

    train: ImageDataset
    validation: ImageDataset

    def to(self, device: torch.device | str) -> Split:
        """Both parts on a device."""
        return Split(self.train.to(device), self.validation.to(device))


def check_batch(batch: int, available: int) -> None:
    """Batch statistics need two images, and a batch must exist at all."""
    if 2 <= batch <= available:
        return
    enough = f"2 to {available}" if available >= 2 else f"two training images or more, of which there are {available}"
    raise DataError(
        "batch size", found=batch, expected=enough, cure="change optimizer.batch_size in the recipe, or the data"
    )


def batches(
    count: int, batch: int, generator: torch.Generator, shuffle: bool = True, drop_last: bool = True
) -> Iterator[Tensor]:
    """Index batches of one epoch on the generator's device.

    shuffle: a fresh random order; else one random order for all epochs, as CIFAR's files have it, drawn without the
    generator: data that are stored class by class would teach nothing in theirs.
    drop_last: a last, smaller batch is left out. If it is kept, a batch of one is not: batch statistics need two.
    """
    device = generator.device
    if shuffle:
        order = torch.randperm(count, generator=generator, device=device)
    else:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(count)).to(device)
    smallest = batch if drop_last else min(batch, 2)
    for start in range(0, count - smallest + 1, batch):
        yield order[start : start + batch]


def to_unit(images: Tensor) -> Tensor:
    """uint8 -> float32 in [0,1]."""
    return images.float().div_(255)
