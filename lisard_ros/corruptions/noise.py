"""Noise corruptions: Gaussian, shot and impulse noise, each value of an image on its own.

Batches are float32 [N, H, W, 3] in [0, 1]; results may leave that range and are clipped by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Batch = NDArray[np.float32]
Randoms = Sequence[np.random.Generator]


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Low light and sensor heat. sigma: standard deviation in [0, 1] units."""

    sigma: float


@dataclass(frozen=True, slots=True)
class Shot:
    """Light comes in photons. photons: how many make a white pixel; fewer is noisier."""

    photons: float


@dataclass(frozen=True, slots=True)
class Impulse:
    """Bit errors: salt and pepper in colour. share: of the values, half of them set to 0 and half to 1."""

    share: float


def gaussian(x: Batch, strength: Gaussian, randoms: Randoms) -> Batch:
    """Add normal noise."""
    draws = np.stack([random.standard_normal(x.shape[1:], np.float32) for random in randoms])
    return x + np.float32(strength.sigma) * draws


def shot(x: Batch, strength: Shot, randoms: Randoms) -> Batch:
    """Replace the light by a Poisson count of photons."""
    counts = [random.poisson(image * strength.photons) for image, random in zip(x, randoms, strict=True)]
    return np.asarray(np.stack(counts) / strength.photons, np.float32)


def impulse(x: Batch, strength: Impulse, randoms: Randoms) -> Batch:
    """Set values to black or white; those hit at one severity are hit at all higher ones."""
    dice = np.stack([random.random(x.shape[1:], np.float32) for random in randoms])
    half = np.float32(strength.share / 2)
    return np.where(dice < half, np.float32(0), np.where(dice > 1 - half, np.float32(1), x))
