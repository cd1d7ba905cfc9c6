"""Building blocks of the corruptions: smooth random fields, kernels and filters on images.

Images are float32 [H, W, 3] in [0, 1]; fields are float32 [H, W]. Every random number comes from the generator given.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Field = NDArray[np.float32]
Kernel = NDArray[np.float32]

_BORDER = cv2.BORDER_REFLECT_101
_OVERSAMPLING = 8  # sub-pixels per pixel and axis, to measure how much of a pixel a shape covers
_SAMPLES_PER_PX = 4  # along a stroke


def smooth(random: np.random.Generator, height: int, width: int, cell_px: float) -> Field:
    """Return a random field that is smooth over `cell_px`: mean about 0, deviation 1 at the nodes and less between.

    Normal numbers on a grid of that spacing, laid at a random phase and joined by bicubic interpolation.
    """
    cell = max(cell_px, 1.0)
    rows, columns = (math.ceil(side / cell) + 4 for side in (height, width))
    nodes = random.standard_normal((rows, columns), np.float32)
    shift_y, shift_x = random.uniform(0, 1, 2)
    place = np.array([[1 / cell, 0, 1 + shift_x], [0, 1 / cell, 1 + shift_y]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(nodes, place, (width, height), flags=flags, borderMode=_BORDER), np.float32)


def clouds(random: np.random.Generator, height: int, width: int, roughness: float) -> Field:
    """Return fractal clouds in [0, 1]: octaves of smooth fields, each half as wide and `roughness` times as strong.

    The widest octave spans the longer side. roughness: 0 < r < 1; small is soft, large is grainy.
    """
    longer = max(height, width)
    total = np.zeros((height, width), np.float32)
    for octave in range(max(1, int(math.log2(longer)))):
        total += np.float32(roughness**octave) * smooth(random, height, width, longer / 2**octave / 2)
    low, high = float(total.min()), float(total.max())
    return np.asarray((total - low) / max(high - low, 1e-6), np.float32)


def disk(radius_px: float, softness_px: float) -> Kernel:
    """Return a disk that sums to 1, its edge softened by a Gaussian: how an open lens spreads a point."""
    reach = math.ceil(radius_px + 3 * softness_px)
    around = (np.arange((2 * reach + 1) * _OVERSAMPLING) + 0.5) / _OVERSAMPLING - reach - 0.5
    inside = (np.hypot(around[:, None], around[None, :]) <= max(radius_px, 0.5 / _OVERSAMPLING)).astype(np.float32)
    side = 2 * reach + 1
    cover = inside.reshape(side, _OVERSAMPLING, side, _OVERSAMPLING).mean((1, 3))
    soft = cv2.GaussianBlur(cover, (0, 0), max(softness_px, 1e-3), borderType=cv2.BORDER_CONSTANT)
    return np.asarray(soft / soft.sum(), np.float32)


def stroke(length_px: float, angle_rad: float) -> Kernel:
    """Return a straight stroke that sums to 1, centred: how a steady movement during the exposure spreads a point.

    angle_rad: 0 is to the right, growing downwards. Lengths up to one pixel blur nothing.
    """
    half = max(length_px - 1, 0) / 2
    reach = math.ceil(half) + 1
    along = np.linspace(-half, half, 2 * math.ceil(half * _SAMPLES_PER_PX) + 1)
    x, y = reach + along * math.cos(angle_rad), reach + along * math.sin(angle_rad)
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right_share, lower_share = x - left, y - top
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - lower_share) * np.abs(1 - right - right_share)
            np.add.at(kernel, (np.minimum(top + down, 2 * reach), np.minimum(left + right, 2 * reach)), share)
    return np.asarray(kernel / kernel.sum(), np.float32)


def convolve(image: NDArray[np.float32], kernel: Kernel) -> NDArray[np.float32]:
    """Apply a kernel to an image or field; the border mirrors the inside."""
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=_BORDER), np.float32)


def blur(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Apply a Gaussian blur; a deviation that spreads nothing leaves the image as it is."""
    if sigma_px < 0.1:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=_BORDER), np.float32)


def displace(image: Image, right_px: Field, down_px: Field, how: int = cv2.INTER_LINEAR) -> Image:
    """Fetch every pixel from where the fields point to, relative to itself; the border mirrors the inside."""
    height, width = image.shape[:2]
    x = right_px + np.arange(width, dtype=np.float32)[None, :]
    y = down_px + np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(cv2.remap(image, x, y, how, borderMode=_BORDER), np.float32)
