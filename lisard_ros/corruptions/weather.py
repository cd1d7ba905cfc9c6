"""Weather corruptions: snow, frost on the lens and fog.

Images are float32 [H, W, 3] in [0, 1]; lengths (`_px`) are pixels of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from lisard_ros.corruptions import fields, ice
from lisard_ros.corruptions.fields import Field, Image

_FALL_RAD = (math.radians(60), math.radians(120))  # flakes fall downwards, driven a little by the wind
_NEAR_SIZE = 1.8  # flakes near the camera are this much larger, and rarer by as much squared
_FLAKE = np.float32(0.97)
_SKY = np.array([0.78, 0.8, 0.82], np.float32)  # scattered daylight, slightly blue
_THINNEST = 0.35  # optical depth of the thinnest fog as a share of the densest
_ICE = np.array([0.86, 0.93, 1.0], np.float32)  # white, slightly blue
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma weights, ITU-R BT.601


@dataclass(frozen=True, slots=True)
class Snow:
    """Flakes before a whitened scene.

    share: of a normal field that they stand for, before they are drawn out (they cover about half to 0.7 of it);
    flake_px: their size; fall_px: how far they fall during the exposure; veil: how far the scene itself turns white,
    0 to 1.
    """

    share: float
    flake_px: float
    fall_px: float
    veil: float


@dataclass(frozen=True, slots=True)
class Frost:
    """cover: how far the ice on the pane has grown, 0 (clear) to 1."""

    cover: float


@dataclass(frozen=True, slots=True)
class Fog:
    """depth: optical depth of the densest fog (transmittance is exp(-depth)); roughness: of its clouds."""

    depth: float
    roughness: float


def snow(image: Image, strength: Snow, random: np.random.Generator) -> Image:
    """Whiten the scene and let flakes fall through it."""
    height, width = image.shape[:2]
    angle = random.uniform(*_FALL_RAD)
    far = _flakes(random, height, width, strength.share, strength.flake_px, strength.fall_px, angle)
    near = _flakes(
        random,
        height,
        width,
        strength.share / _NEAR_SIZE**2,
        strength.flake_px * _NEAR_SIZE,
        strength.fall_px * _NEAR_SIZE,
        angle,
    )
    flakes = np.maximum(far, near)[..., None]
    return _veiled(image, strength.veil) * (1 - flakes) + _FLAKE * flakes


def frost(image: Image, strength: Frost, random: np.random.Generator) -> Image:
    """Look through a pane with ice, which stops light of the scene and scatters light of its own."""
    height, width = image.shape[:2]
    pane = ice.cut(random, height, width)
    stops = (np.float32(strength.cover) * pane.cover)[..., None]
    return image * (1 - stops) + pane.light[..., None] * _ICE * stops


def fog(image: Image, strength: Fog, random: np.random.Generator) -> Image:
    """Mix scene and sky as light does that crosses fog of uneven density (Koschmieder 1924)."""
    height, width = image.shape[:2]
    density = _THINNEST + (1 - _THINNEST) * fields.clouds(random, height, width, strength.roughness)
    passes = np.exp(-strength.depth * density, dtype=np.float32)[..., None]
    return image * passes + _SKY * (1 - passes)


def _flakes(
    random: np.random.Generator, height: int, width: int, share: float, flake_px: float, fall_px: float, angle: float
) -> Field:
    """Opacity of falling flakes in [0, 1]: blobs where a smooth field is high, drawn out along the fall."""
    field = fields.smooth(random, height, width, flake_px)
    above = field - np.float32(NormalDist().inv_cdf(min(max(1 - share, 1e-6), 1 - 1e-6)))
    drawn = fields.convolve(np.clip(above, 0, 1), fields.stroke(fall_px, angle))
    drawn = fields.blur(drawn, 0.2 * flake_px)
    return np.clip(drawn * np.float32(1.5 * max(1.0, fall_px / flake_px / 2)), 0, 1)


def _veiled(image: Image, veil: float) -> Image:
    """Snow on the ground and in the air: bright and without colour."""
    grey = (image @ _GREY)[..., None]
    white = np.maximum(image, grey * 1.5 + 0.5)
    return image * np.float32(1 - veil) + np.minimum(white, 1) * np.float32(veil)
