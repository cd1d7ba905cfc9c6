"""Digital corruptions: brightness and contrast of the exposure, elastic deformation, coarse pixels and JPEG.

Batches are float32 [N, H, W, 3] in [0, 1], RGB. Lengths (`_px`) are pixels of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.corruptions import fields
from lisard_ros.corruptions.fields import Image
from lisard_ros.corruptions.noise import Batch, Randoms
from lisard_ros.frames import GREY_LEVELS

_BLACK = np.float32(1e-6)


@dataclass(frozen=True, slots=True)
class Brightness:
    """Overexposure. lift: added to the value (largest channel) of every pixel; hue and saturation stay."""

    lift: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """Flat light. keep: share of the distance to the image's mean colour that is left."""

    keep: float


@dataclass(frozen=True, slots=True)
class Elastic:
    """Small regions stretch and shrink. shift_px: deviation of the displacement; cell_px: how wide a region is."""

    shift_px: float
    cell_px: float


@dataclass(frozen=True, slots=True)
class Pixelate:
    """Too few pixels, enlarged. block_px: side of the blocks."""

    block_px: float


@dataclass(frozen=True, slots=True)
class Jpeg:
    """Lossy compression. quality: of the encoder, 1 to 100."""

    quality: float


def brightness(x: Batch, strength: Brightness, randoms: Randoms) -> Batch:
    """Raise the value of every pixel; black turns grey."""
    value = x.max(axis=3, keepdims=True)
    lifted = np.minimum(value + np.float32(strength.lift), 1)
    return np.where(value < _BLACK, lifted, x * (lifted / np.maximum(value, _BLACK)))


def contrast(x: Batch, strength: Contrast, randoms: Randoms) -> Batch:
    """Pull every pixel towards the mean colour of its image."""
    mean = x.mean(axis=(1, 2), keepdims=True)
    return (x - mean) * np.float32(strength.keep) + mean


def elastic(image: Image, strength: Elastic, random: np.random.Generator) -> Image:
    """Move every pixel along a smooth random field."""
    height, width = image.shape[:2]
    right, down = (fields.smooth(random, height, width, strength.cell_px) for _ in range(2))
    shift = np.float32(strength.shift_px)
    return fields.displace(image, right * shift, down * shift)


def pixelate(x: Batch, strength: Pixelate, randoms: Randoms) -> Batch:
    """Average over blocks and enlarge these without smoothing."""
    height, width = x.shape[1:3]
    small = max(1, round(width / strength.block_px)), max(1, round(height / strength.block_px))
    coarse = [cv2.resize(image, small, interpolation=cv2.INTER_AREA) for image in x]
    return np.stack([cv2.resize(c, (width, height), interpolation=cv2.INTER_NEAREST_EXACT) for c in coarse])


def jpeg(x: Batch, strength: Jpeg, randoms: Randoms) -> Batch:
    """Encode and decode."""
    quality = round(strength.quality)
    levels = np.rint(np.clip(x, 0, 1) * GREY_LEVELS).astype(np.uint8)
    return np.asarray(
        np.stack([_through_jpeg(image, quality) for image in levels]) / np.float32(GREY_LEVELS), np.float32
    )


def _through_jpeg(rgb: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
