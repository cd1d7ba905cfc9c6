"""Where a printed patch lies in an image and how a camera sees it there: random place, size, turn and light.

A patch is [3, S, S] in [0, 1], S by S flat squares of print. All about it is NumPy; the images it is rendered
into, [N, 3, H, W] in [0, 1], are of any array library. Rendering is linear but for the clipping of the light, so
`PatchRenderer.vjp` is its exact derivative and any attack model's gradient reaches the patch.

The changes are those of Thys et al. 2019 (arXiv 1904.08653, section 3.3): turned up to 20 degrees, other sizes, other
brightness and contrast. No perspective, no blur, no limits of a printer's colours.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from lisard_ros.attacks.model import Array, BoxCriterion, Criterion, like, numbers
from lisard_ros.errors import AttackError, unknown_name
from lisard_ros.frames import GREY_LEVELS

Floats = NDArray[np.float64]
Where = Literal["anywhere", "on", "beside"]
WHERE: tuple[Where, ...] = get_args(Where)
MIN_SIDE_PX = 3.0  # a smaller patch is a speck, and is left out
_TRIES = 64  # places that are tried for each patch
_FEWEST_POINTS, _MOST_POINTS = 2, 8  # by which a pixel is sampled along each axis
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Placement:
    """The draw of places. where: `anywhere` in the image (one patch), `on` or `beside` each true box (one for each).

    share_low, share_high: area of a patch as a share of the box's, or with `anywhere` of the image without padding.
    hides: the largest share of any true box that patches may hide together. turn_deg: turned by at most so much, either
    way. contrast, brightness: seen as (1 +- contrast) (p - 1/2) + 1/2 +- brightness, clipped to [0, 1].
    """

    where: Where = "anywhere"
    share_low: float = 0.05
    share_high: float = 0.1
    hides: float = 0.0
    turn_deg: float = 20.0
    contrast: float = 0.2
    brightness: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a draw that cannot be made, or that hides more than it declares; NaN included."""
        if self.where not in WHERE:
            raise unknown_name("placement of a patch", str(self.where), WHERE, AttackError)
        ranges = (
            0 < self.share_low <= self.share_high <= 4,
            0 <= self.hides <= 1,
            0 <= self.turn_deg <= 180,
            0 <= self.contrast < 1,
            0 <= self.brightness < 1,
        )
        if not all(ranges) or (self.where == "anywhere" and self.share_high > 1):
            raise AttackError(
                "impossible placement of a patch",
                found=self,
                expected="0 < share_low <= share_high <= 4 (anywhere: 1), 0 <= hides <= 1, 0 <= turn_deg "
                "<= 180, 0 <= contrast, brightness < 1",
            )
        if self.where == "on" and self.hides < self.share_high:
            raise AttackError(
                "a patch on a box hides that much of it",
                found=f"hides {self.hides}",
                expected=f">= share_high, {self.share_high}",
            )


def on_boxes(share: float) -> Placement:
    """On every true box, of half to all of this share of its area, and hiding no more of it."""
    return Placement("on", share / 2, share, hides=share)


def beside_boxes(share: float) -> Placement:
    """Beside every true box, of half to all of this share of its area, and hiding nothing of any."""
    return Placement("beside", share / 2, share, hides=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class PlacementRegions:
    """What there is room for in N images, in input pixels.

    content: float [N, 4], corners of the image within its padding. boxes: float [N, M, 4], corners of the true boxes;
    known: bool [N, M], False where an entry is none.
    """

    content: Floats
    boxes: Floats
    known: NDArray[np.bool_]

    def rows(self, chosen: NDArray[np.integer] | slice) -> PlacementRegions:
        """Return the regions of some of the images."""
        return PlacementRegions(self.content[chosen], self.boxes[chosen], self.known[chosen])


def regions_of(x: Array, criterion: Criterion | None = None, content: Floats | None = None) -> PlacementRegions:
    """Return the regions of images `x`: boxes if the criterion has some; the whole image where no content is given."""
    count, _, height, width = (int(length) for length in x.shape)
    whole = np.tile(np.array([0.0, 0.0, width, height]), (count, 1)) if content is None else content
    if isinstance(criterion, BoxCriterion):
        return PlacementRegions(
            np.asarray(whole, np.float64), np.asarray(criterion.boxes_xyxy_px, np.float64), criterion.labels >= 0
        )
    return PlacementRegions(np.asarray(whole, np.float64), np.zeros((count, 0, 4)), np.zeros((count, 0), bool))


@dataclass(frozen=True, slots=True)
class PatchPlacement:
    """One patch in an image. row: number of the image; box: of the box it is for, or -1.

    x_px, y_px: its centre; side_px: its side; turn_rad: clockwise; contrast: factor; light: what is added.
    """

    row: int
    box: int
    x_px: float
    y_px: float
    side_px: float
    turn_rad: float
    contrast: float
    light: float

    @property
    def half_px(self) -> float:
        """Half the side of the upright square around it."""
        return self.side_px / 2 * _spread(self.turn_rad)


def draw(
    placement: Placement, regions: PlacementRegions, randoms: Sequence[np.random.Generator]
) -> tuple[PatchPlacement, ...]:
    """Draw the placements in all images; randoms: one source for each image, so that its neighbours do not matter.

    A patch for which no place is found (too small, or it would hide more than it may) is left out.
    """
    return tuple(placed for row, random in enumerate(randoms) for placed in _draw_one(placement, regions, row, random))


def randoms_of(x: NDArray[np.floating], seed: int) -> list[np.random.Generator]:
    """Return a source for each image of `x` [N, 3, H, W], by its grey levels and the seed: it has the same wherever
    and whenever it comes.
    """
    levels = np.rint(x * GREY_LEVELS).astype(np.uint8)
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in levels)
    return [np.random.default_rng([seed, int.from_bytes(digest, "little")]) for digest in digests]


def _draw_one(
    placement: Placement, regions: PlacementRegions, row: int, random: np.random.Generator
) -> list[PatchPlacement]:
    true = regions.boxes[row][regions.known[row]]
    numbers_of_true = np.flatnonzero(regions.known[row])
    anywhere = placement.where == "anywhere"
    aims = [(-1, regions.content[row])] if anywhere else list(zip(numbers_of_true.tolist(), true, strict=True))
    hidden, placements = np.zeros(len(true)), list[PatchPlacement]()
    for number, area in aims:
        looks, places = random.random(4), random.random((_TRIES, 3))
        placed = _sized(placement, row, number, area, looks)
        centres = _centres(placement.where, placed, area, places)
        covered = covers(placed, centres, true)
        low, high = regions.content[row][:2] - _ROUNDING, regions.content[row][2:] + _ROUNDING
        fits = ((centres - placed.half_px >= low) & (centres + placed.half_px <= high)).all(axis=1)
        fits &= (hidden + covered <= placement.hides + _ROUNDING).all(axis=1)
        if placed.side_px >= MIN_SIDE_PX and fits.any():
            first = int(fits.argmax())
            hidden += covered[first]
            x_px, y_px = centres[first].tolist()
            placements.append(replace(placed, x_px=x_px, y_px=y_px))
    return placements


def _sized(placement: Placement, row: int, box: int, area: Floats, looks: Floats) -> PatchPlacement:
    """A placement that has no centre yet. looks: [4], in [0, 1): share, turn, contrast, light."""
    width, height = float(area[2] - area[0]), float(area[3] - area[1])
    share = placement.share_low + looks[0] * (placement.share_high - placement.share_low)
    turn, contrast, light = (2 * looks[1:] - 1).tolist()
    turn *= math.radians(placement.turn_deg)
    side = math.sqrt(max(0.0, share * width * height))
    if placement.where != "beside":  # it must lie within what it covers
        side = min(side, width / _spread(turn), height / _spread(turn))
    return PatchPlacement(
        row, box, 0.0, 0.0, side, turn, 1 + contrast * placement.contrast, light * placement.brightness
    )


def _centres(where: Where, placed: PatchPlacement, area: Floats, places: Floats) -> Floats:
    """Candidates [T, 2] for the centre, from random numbers [T, 3] in [0, 1)."""
    low, high = area[:2], area[2:]
    if where != "beside":
        return low + placed.half_px + places[:, :2] * (high - low - 2 * placed.half_px)
    distance = placed.half_px + 1 + places[:, 2] * placed.side_px / 2
    along = low + places[:, :1] * (high - low)
    edge = np.floor(places[:, 1] * 4).astype(int)  # left, top, right, bottom
    across = np.where(edge < 2, area[edge] - distance, area[edge] + distance)
    upright = edge % 2 == 0
    return np.stack([np.where(upright, across, along[:, 0]), np.where(upright, along[:, 1], across)], axis=1)


def covers(placed: PatchPlacement, centres: Floats, boxes: Floats) -> Floats:
    """Share of each box [M, 4] that the patch hides at each centre [T, 2] at most: by the square around its pixels."""
    low = np.floor(centres - placed.half_px)[:, None]
    high = np.ceil(centres + placed.half_px)[:, None]
    common = np.clip(np.minimum(high, boxes[:, 2:]) - np.maximum(low, boxes[:, :2]), 0, None).prod(axis=2)
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return np.minimum(common, placed.side_px**2) / np.maximum(area, _ROUNDING)


def hidden_shares(regions: PlacementRegions, placements: Sequence[PatchPlacement]) -> Floats:
    """Share of each true box that patches hide together at most, [N, M]."""
    hidden = np.zeros(regions.known.shape)
    for placed in placements:
        hidden[placed.row] += covers(placed, np.array([[placed.x_px, placed.y_px]]), regions.boxes[placed.row])[0]
    return np.where(regions.known, hidden, 0.0)


def _spread(turn_rad: float) -> float:
    """Side of the upright square around a turned one of side 1."""
    return abs(math.cos(turn_rad)) + abs(math.sin(turn_rad))


# Rendering ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Footprint:
    """Pixels [P] that a patch touches (rows one after the other), and the print behind each point of them [P, k * k].

    Points beside the patch have the number S * S, which is none.
    """

    pixels: NDArray[np.intp]
    prints: NDArray[np.intp]
    cover: Floats


class PatchRenderer:
    """Renders patches of S by S squares at their placements into images of one size."""

    def __init__(self, placements: Sequence[PatchPlacement], side: int, size_px: tuple[int, int]) -> None:
        """side: S. size_px: width and height of the images."""
        self._placements, self._side, (self._width, self._height) = tuple(placements), side, size_px
        self._footprints = [_footprint(placed, side, size_px) for placed in self._placements]

    def render(self, x: Array, patch: Floats) -> Array:
        """Return the images `x` with the patch in them; pixels that it does not touch keep their bits."""
        xp = array_namespace(x)
        left, ink = self._composed(int(x.shape[0]), patch)
        return xp.clip(x * like(left, x) + like(ink, x), 0.0, 1.0)

    def vjp(self, gradient: Array, patch: Floats) -> Floats:
        """Turn gradients in the rendered images, [N, 3, H, W], into that of their sum in `patch`, [3, S, S]."""
        slopes = np.array(numbers(gradient), np.float64).reshape(-1, 3, self._height * self._width)
        product = np.zeros((3, self._side**2 + 1))
        for placed, footprint in zip(reversed(self._placements), reversed(self._footprints), strict=True):
            below = slopes[placed.row][:, footprint.pixels]
            points = footprint.prints.shape[1]
            where, size = footprint.prints.ravel(), self._side**2 + 1
            in_print = [np.bincount(where, np.repeat(slope / points, points), size) for slope in below]
            product += np.stack(in_print) * _brightened_slope(patch, placed)
            slopes[placed.row][:, footprint.pixels] = below * (1 - footprint.cover)  # patches below show through
        return product[:, :-1].reshape(3, self._side, self._side)

    def _composed(self, count: int, patch: Floats) -> tuple[Floats, Floats]:
        """What is left of the image [N, 1, H, W], and what the patches add [N, 3, H, W]."""
        left = np.ones((count, 1, self._height * self._width))
        ink = np.zeros((count, 3, self._height * self._width))
        for placed, footprint in zip(self._placements, self._footprints, strict=True):
            colour = _padded(brightened(patch, placed))[:, footprint.prints].mean(axis=2)
            at = footprint.pixels
            left[placed.row][:, at] *= 1 - footprint.cover
            ink[placed.row][:, at] = ink[placed.row][:, at] * (1 - footprint.cover) + colour
        area = (self._height, self._width)
        return left.reshape(count, 1, *area), ink.reshape(count, 3, *area)


def brightened(patch: Floats, placed: PatchPlacement) -> Floats:
    """The patch in the light of a placement, [3, S, S]."""
    return np.clip(_raw(patch, placed), 0.0, 1.0)


def _raw(patch: Floats, placed: PatchPlacement) -> Floats:
    return placed.contrast * (patch - 0.5) + 0.5 + placed.light


def _brightened_slope(patch: Floats, placed: PatchPlacement) -> Floats:
    """Derivative of `brightened`, [3, S * S + 1]: nothing where it is clipped, and for the print that is none."""
    raw = _raw(patch, placed)
    return _padded(np.where((raw >= 0) & (raw <= 1), placed.contrast, 0.0))


def _padded(patch: Floats) -> Floats:
    return np.concatenate([patch.reshape(3, -1), np.zeros((3, 1))], axis=1)


def _footprint(placed: PatchPlacement, side: int, size_px: tuple[int, int]) -> _Footprint:
    """Sample every pixel near the patch at k by k points."""
    count = min(_MOST_POINTS, max(_FEWEST_POINTS, math.ceil(side / placed.side_px)))
    columns, rows = (
        _pixels(at, placed.half_px, length) for at, length in zip((placed.x_px, placed.y_px), size_px, strict=True)
    )
    across, down = (_points(columns, count) - placed.x_px)[None, :], (_points(rows, count) - placed.y_px)[:, None]
    cosine, sine = math.cos(placed.turn_rad), math.sin(placed.turn_rad)
    u = np.floor(((cosine * across + sine * down) / placed.side_px + 0.5) * side).astype(np.intp)
    v = np.floor(((cosine * down - sine * across) / placed.side_px + 0.5) * side).astype(np.intp)
    inside = (u >= 0) & (u < side) & (v >= 0) & (v < side)
    points = np.where(inside, v * side + u, side * side).reshape(len(rows), count, len(columns), count)
    prints = points.transpose(0, 2, 1, 3).reshape(-1, count * count)
    pixels = (rows[:, None] * size_px[0] + columns[None, :]).ravel()
    cover = (prints < side * side).mean(axis=1)
    touched = cover > 0
    return _Footprint(pixels[touched], prints[touched], cover[touched])


def _pixels(centre: float, half: float, length: int) -> NDArray[np.intp]:
    return np.arange(max(0, math.floor(centre - half)), min(length, math.ceil(centre + half)), dtype=np.intp)


def _points(pixels: NDArray[np.intp], count: int) -> Floats:
    return (pixels[:, None] + (np.arange(count) + 0.5) / count).ravel()
