"""Ice on a pane, drawn by procedure: crystals of needles that radiate from nuclei, feathers, and a film of fine grain.

The published corruption uses photographs of frost; these panes take their place, so that no photograph is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.corruptions import fields
from lisard_ros.corruptions.fields import Field
from lisard_ros.frames import GREY_LEVELS

PANES = 5
SIDE_PX = 640
_CUT_AT_32_PX = 100.0  # how much of a pane an image of 32 px shows; grows slower than the image,
_CUT_GROWTH = 0.62  # so that an image of 640 px shows about all of it
_NUCLEI = ((40, 90), (300, 50))  # crystals per pane and needles round each: a coarse and a fine growth
_RINGS = 5  # nodes along a needle


@dataclass(frozen=True, slots=True, eq=False)
class Ice:
    """A piece of a pane. cover: how much of the scene's light it stops, light: what it scatters; both in [0, 1]."""

    cover: Field
    light: Field


def draw() -> None:
    """Draw all panes now."""
    for number in range(PANES):
        _pane(number)


def cut(random: np.random.Generator, height: int, width: int) -> Ice:
    """Return a random part of a random pane, at the size of an image."""
    pane = _pane(int(random.integers(PANES)))
    longer = max(height, width)
    side = min(float(SIDE_PX), _CUT_AT_32_PX * (max(longer, 32) / 32) ** _CUT_GROWTH)
    rows, columns = (max(1, round(side * s / longer)) for s in (height, width))
    top, left = (int(random.integers(0, SIDE_PX - s + 1)) for s in (rows, columns))
    part = pane[top : top + rows, left : left + columns][:, :: int(random.choice((-1, 1)))]
    how = cv2.INTER_AREA if rows > height else cv2.INTER_LINEAR
    sized = cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=how) / np.float32(GREY_LEVELS)
    return Ice(np.asarray(sized[..., 0], np.float32), np.asarray(sized[..., 1], np.float32))


@lru_cache(maxsize=PANES)
def _pane(number: int) -> NDArray[np.uint8]:
    """Draw one pane, uint8 [SIDE_PX, SIDE_PX, 2] (cover, light): a fraction of a second, once per process."""
    random = np.random.default_rng([number, SIDE_PX])
    needles = np.maximum(*(_crystals(random, nuclei, spokes) for nuclei, spokes in _NUCLEI))
    patches = fields.clouds(random, SIDE_PX, SIDE_PX, 0.55)
    grain = fields.clouds(random, SIDE_PX, SIDE_PX, 0.95)
    grown = np.clip(2.4 * patches - 0.7, 0, 1)
    cover = np.clip(0.2 + 0.5 * grown + 0.6 * needles * (0.15 + 0.85 * grown) + 0.3 * (grain - 0.5), 0, 1)
    light = np.clip(0.5 + 0.2 * patches + 0.45 * needles + 0.3 * (grain - 0.5), 0, 1)
    return np.asarray(np.stack([cover, light], axis=2) * GREY_LEVELS, np.uint8)


def _crystals(random: np.random.Generator, nuclei: int, spokes: int) -> Field:
    """Brightness of needles in [0, 1]: every point belongs to the nearest nucleus, whose needles radiate."""
    seeds = np.full((SIDE_PX, SIDE_PX), 255, np.uint8)
    seeds[tuple(random.integers(0, SIDE_PX, (2, nuclei)))] = 0
    _, owner = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    centres = np.argwhere(seeds == 0).astype(np.float32)
    y, x = np.indices(seeds.shape, np.float32)
    bend = 0.012 * SIDE_PX
    y += bend * fields.smooth(random, SIDE_PX, SIDE_PX, SIDE_PX / 8)
    x += bend * fields.smooth(random, SIDE_PX, SIDE_PX, SIDE_PX / 10)
    radius, angle = cv2.cartToPolar(x - centres[owner - 1, 1], y - centres[owner - 1, 0])
    reach = SIDE_PX / math.sqrt(nuclei)
    turn = owner.astype(np.float32) * 7
    needles = np.zeros_like(radius)
    for octave in (1, 2, 4):
        rays = random.standard_normal((_RINGS, spokes * octave), np.float32)
        column = (angle * np.float32(spokes * octave / (2 * math.pi)) + turn) % np.float32(spokes * octave)
        row = np.minimum(radius / np.float32(reach), 1) * (_RINGS - 1)
        fade = np.clip(radius / np.float32(reach) * (3 if octave > 1 else 6) - (octave - 1) * 0.3, 0, 1)
        needles += fade * cv2.remap(rays, column, row, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    return np.clip(needles / 3, 0, 1) ** np.float32(0.8)
