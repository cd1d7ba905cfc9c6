"""A printed patch as a camera sees it: on an object or at a fixed place, turned, tilted, in changing light.

A patch is [3, S, S] in [0, 1], S by S flat squares of print. `placement.py` draws and renders patches to make them,
with a derivative and without perspective; here they are only shown. Random sources are the caller's: of an image for
how it shows the patch, of all images for a fixed place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.attacks.placement import MIN_SIDE_PX, Floats, Placement
from lisard_ros.errors import AttackError

Place = Literal["object", "fixed"]
TILT_DEG = 30.0  # at most, about the upright and the level axis
_DISTANCE = 4.0  # of the camera, in sides of the patch
_REACH = 1.0  # no corner of a view is farther from its middle, in sides of a square of the same area
_PLANES = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])  # top left, then clockwise
_FEWEST_POINTS, _MOST_POINTS = 2, 8  # by which a pixel is sampled along each axis


@dataclass(frozen=True, slots=True, eq=False)
class SeenPatch:
    """One patch in an image.

    Attributes:
        corners_px: Float [4, 2], x and y of the corners of the print: top left, top right, bottom right, bottom left.
        contrast: It is seen as contrast (p - 1/2) + 1/2 + light, clipped to [0, 1].
        light: As above.
    """

    corners_px: Floats
    contrast: float = 1.0
    light: float = 0.0

    @property
    def area_px(self) -> float:
        """How many pixels it covers."""
        return _area(self.corners_px)


@dataclass(frozen=True, slots=True)
class PatchView:
    """The draw of views: how large a patch is and how it may be turned, tilted and lit.

    Attributes:
        place: `object`: on each object, at a place drawn for each image; `fixed`: at one place of all images.
        share: Its area as a share of the object's or, at a fixed place, of the image's, above 0 and at most 1. It is
            less where it would not fit.
        turn_deg: It is turned by at most so much, either way.
        tilt_deg: It is tilted out of the image's plane by at most so much, about each axis.
        contrast: The factor of the contrast is 1 +- this.
        brightness: What is added to the pixels is +- this.
    """

    place: Place
    share: float
    turn_deg: float = 20.0
    tilt_deg: float = TILT_DEG
    contrast: float = 0.2
    brightness: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a draw that cannot be made; NaN included."""
        ranges = (
            0 < self.share <= 1,
            0 <= self.turn_deg <= 180,
            0 <= self.tilt_deg <= 60,
            0 <= self.contrast < 1,
            0 <= self.brightness < 1,
        )
        if not all(ranges):
            raise AttackError(
                "impossible view of a patch",
                found=self,
                expected="0 < share <= 1, 0 <= turn_deg <= 180, 0 <= tilt_deg <= 60, 0 <= contrast, brightness < 1",
            )


def view_of(place: Place, share: float, made_for: Placement) -> PatchView:
    """Return the draw for a stored patch: turned and lit as it was made for, and tilted besides."""
    return PatchView(place, share, made_for.turn_deg, TILT_DEG, made_for.contrast, made_for.brightness)


def draw_views(
    view: PatchView, areas: Floats, random: np.random.Generator, fixed: np.random.Generator
) -> tuple[SeenPatch, ...]:
    """Draw how an image shows the patch.

    Args:
        view: What is drawn from.
        areas: Corners [M, 4] in pixels that get a patch each: of the objects, or of the one image; each patch lies
            within its area.
        random: The source of this image.
        fixed: The source of the fixed place, equal for every image; not used for objects.

    Returns:
        One patch for each area in which one can be seen.
    """
    seen = []
    for area in areas:
        looks, where = 2 * random.random(5) - 1, random.random(2)
        size = np.maximum(area[2:] - area[:2], 0.0)
        quad = _quad(math.radians(view.turn_deg) * looks[0], *(math.radians(view.tilt_deg) * looks[1:3]))
        side = math.sqrt(view.share * float(size.prod()))
        if view.place == "fixed":
            room = np.maximum(size - 2 * _REACH * side, 0.0)
            centre = area[:2] + (size - room) / 2 + fixed.random(2) * room
        else:
            centre = area[:2] + where * size
        span = quad.max(axis=0) - quad.min(axis=0)
        side = min(side, *(size / span))
        half = side * span / 2
        centre = np.clip(centre, area[:2] + half, np.maximum(area[2:] - half, area[:2] + half))
        if side >= MIN_SIDE_PX:
            corners = np.clip(centre + side * quad, area[:2], area[2:])  # the last bits of rounding
            seen.append(SeenPatch(corners, 1 + looks[3] * view.contrast, looks[4] * view.brightness))
    return tuple(seen)


def lay(image: NDArray[np.floating], patch: Floats, seen: Sequence[SeenPatch]) -> Floats:
    """Return an image [3, H, W] in [0, 1] with the patch [3, S, S] in it; later ones lie above earlier ones.

    Each pixel is the mean of what is seen at points within it; those that no patch touches keep their value.
    """
    laid = np.array(image, np.float64)
    for one in seen:
        _lay(laid, np.clip(one.contrast * (patch - 0.5) + 0.5 + one.light, 0.0, 1.0), one.corners_px)
    return laid


def content_of(image: NDArray[np.floating], pad: float) -> Floats:
    """Return the corners [4] of what lies within the padding of an image [3, H, W].

    Padding is rows and columns at its edges with no other value than `pad`. An image of nothing else counts as a whole.
    """
    shown = np.abs(image - pad).max(axis=0) > 1e-3  # less than half a grey level
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    if not len(rows):
        return np.array([0.0, 0.0, *shown.shape[::-1]])
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def _quad(turn: float, tilt: float, nod: float) -> Floats:
    """Corners [4, 2] of a square turned in its plane, then tilted about two axes; of area 1, its bounds centred."""
    cosine, sine = math.cos(turn), math.sin(turn)
    flat = _PLANES @ np.array([[cosine, sine], [-sine, cosine]])
    x, depth = flat[:, 0] * math.cos(tilt), flat[:, 0] * math.sin(tilt)
    y, depth = flat[:, 1] * math.cos(nod) - depth * math.sin(nod), flat[:, 1] * math.sin(nod) + depth * math.cos(nod)
    corners = np.stack([x, y], axis=1) * (_DISTANCE / (_DISTANCE + depth))[:, None]
    corners /= math.sqrt(_area(corners))
    return np.asarray(corners - (corners.max(axis=0) + corners.min(axis=0)) / 2, np.float64)


def _area(corners: Floats) -> float:
    x, y = corners.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _lay(image: Floats, patch: Floats, corners: Floats) -> None:
    side, size = patch.shape[1], np.array(image.shape[:0:-1])
    low = np.clip(np.floor(corners.min(axis=0)), 0, size).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)), low, size).astype(int)
    count = min(_MOST_POINTS, max(_FEWEST_POINTS, math.ceil(side / math.sqrt(_area(corners)))))
    x, y = (start + (np.arange((end - start) * count) + 0.5) / count for start, end in zip(low, high, strict=True))
    of_print = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    start = corners.min(axis=0)  # near 0 the 32 bits of OpenCV are exact enough
    matrix = cv2.getPerspectiveTransform(np.asarray(corners - start, np.float32), of_print)
    points = np.stack([*np.broadcast_arrays(x[None, :] - start[0], y[:, None] - start[1]), np.ones((len(y), len(x)))])
    across, down, scale = np.tensordot(matrix, points, 1)
    u, v = np.floor(across / scale).astype(int), np.floor(down / scale).astype(int)
    inside = (u >= 0) & (u < side) & (v >= 0) & (v < side)
    ink = np.where(inside, patch[:, np.clip(v, 0, side - 1), np.clip(u, 0, side - 1)], 0.0)
    below = image[:, low[1] : high[1], low[0] : high[0]]
    below *= 1 - _means(inside[None].astype(np.float64), count)
    below += _means(ink, count)


def _means(points: Floats, count: int) -> Floats:
    """Means [C, h, w] of count by count points each, of [C, h * count, w * count]."""
    channels, height, width = points.shape
    blocks = points.reshape(channels, height // count, count, width // count, count)
    return np.asarray(blocks.mean(axis=(2, 4)))
