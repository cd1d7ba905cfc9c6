"""Blur corruptions: defocus, frosted glass, motion and zoom.

Batches are float32 [N, H, W, 3] in [0, 1]. Lengths (`_px`) are pixels of the image that is blurred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from lisard_ros.corruptions import fields
from lisard_ros.corruptions.fields import Image
from lisard_ros.corruptions.noise import Batch, Randoms

_MOST_TILT_RAD = math.pi / 4  # motion is rather sideways than up and down
_ZOOM_STEP_PX = 1.5  # by which neighbouring exposures differ at the corner
_MOST_EXPOSURES = 24


@dataclass(frozen=True, slots=True)
class Defocus:
    """The lens is out of focus. radius_px: of the disk a point becomes; softness_px: of the disk's edge."""

    radius_px: float
    softness_px: float


@dataclass(frozen=True, slots=True)
class Glass:
    """Frosted glass. Pixels are fetched from up to reach_px away, `rounds` times, between two blurs of sigma_px."""

    sigma_px: float
    reach_px: float
    rounds: float


@dataclass(frozen=True, slots=True)
class Motion:
    """The camera moves during the exposure. length_px: of the stroke a point becomes."""

    length_px: float


@dataclass(frozen=True, slots=True)
class Zoom:
    """The camera moves fast towards the scene. growth: how much larger the last exposure is than the first."""

    growth: float


def defocus(x: Batch, strength: Defocus, randoms: Randoms) -> Batch:
    """Spread every point to a disk."""
    kernel = fields.disk(strength.radius_px, strength.softness_px)
    return np.stack([fields.convolve(image, kernel) for image in x])


def glass(image: Image, strength: Glass, random: np.random.Generator) -> Image:
    """Shuffle pixels locally."""
    height, width = image.shape[:2]
    reach = np.float32(strength.reach_px + 0.5)
    shuffled = fields.blur(image, strength.sigma_px)
    for _ in range(max(1, round(strength.rounds))):
        moves = np.rint(reach * random.uniform(-1, 1, (2, height, width)).astype(np.float32))
        shuffled = fields.displace(shuffled, moves[0], moves[1], cv2.INTER_NEAREST)
    return fields.blur(shuffled, strength.sigma_px)


def motion(image: Image, strength: Motion, random: np.random.Generator) -> Image:
    """Spread every point to a stroke of a random direction."""
    return fields.convolve(image, fields.stroke(strength.length_px, random.uniform(-1, 1) * _MOST_TILT_RAD))


def zoom(x: Batch, strength: Zoom, randoms: Randoms) -> Batch:
    """Average exposures that grow from the middle."""
    return np.stack([_zoomed(image, strength.growth) for image in x])


def _zoomed(image: Image, growth: float) -> Image:
    height, width = image.shape[:2]
    corner_px = growth * math.hypot(height, width) / 2
    exposures = min(_MOST_EXPOSURES, max(3, math.ceil(corner_px / _ZOOM_STEP_PX)))
    total = np.zeros_like(image)
    for factor in np.linspace(1, 1 + growth, exposures):
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, float(factor))
        total += cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return total / np.float32(exposures)
