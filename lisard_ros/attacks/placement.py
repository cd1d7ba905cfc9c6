"""Where a printed patch lies in a picture and how a camera sees it there: random place, size, turn and light.

A patch is [3, S, S] in [0, 1], S by S flat squares of print. All about it is NumPy; the pictures it is laid on,
[N, 3, H, W] in [0, 1], are of any array library. Laying is linear but for the clipping of the light, so `Layout.pull`
is its exact derivative and any oracle's gradient reaches the patch.

The changes are those of Thys et al. 2019 (arXiv 1904.08653, section 3.3): turned up to 20 degrees, other sizes, other
brightness and contrast. No perspective, no blur, no colours that a printer lacks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from lisard_ros.attacks.model import Array, Goal, like, numbers
from lisard_ros.attacks.model import Boxes as BoxGoal
from lisard_ros.errors import AttackError, unknown_name

Floats = NDArray[np.float64]
Where = Literal["anywhere", "on", "beside"]
WHERE: tuple[Where, ...] = get_args(Where)
MIN_SIDE_PX = 3.0  # a smaller patch is a speck, and is left out
_TRIES = 64  # places that are tried for each patch
_FEWEST_POINTS, _MOST_POINTS = 2, 8  # by which a pixel is sampled along each axis
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Placement:
    """The draw of places. where: `anywhere` in the picture (one patch), `on` or `beside` each true box (one for each).

    share_low, share_high: area of a patch as a share of the box's, or with `anywhere` of the picture without padding.
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
class Sites:
    """What there is room for in N pictures, in input pixels.

    content: float [N, 4], corners of the picture within its padding. boxes: float [N, M, 4], corners of the true boxes;
    known: bool [N, M], False where an entry is none.
    """

    content: Floats
    boxes: Floats
    known: NDArray[np.bool_]

    def rows(self, chosen: NDArray[np.integer] | slice) -> Sites:
        """Return the sites of some of the pictures."""
        return Sites(self.content[chosen], self.boxes[chosen], self.known[chosen])


def sites_of(x: Array, goal: Goal | None = None, content: Floats | None = None) -> Sites:
    """Return the sites of pictures `x`: boxes if the goal has some; all of each picture where no content is given."""
    count, _, height, width = (int(length) for length in x.shape)
    whole = np.tile(np.array([0.0, 0.0, width, height]), (count, 1)) if content is None else content
    if isinstance(goal, BoxGoal):
        return Sites(np.asarray(whole, np.float64), np.asarray(goal.boxes_xyxy_px, np.float64), goal.labels >= 0)
    return Sites(np.asarray(whole, np.float64), np.zeros((count, 0, 4)), np.zeros((count, 0), bool))


@dataclass(frozen=True, slots=True)
class Spot:
    """One patch in a picture. row: number of the picture; box: of the box it is for, or -1.

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


def draw(placement: Placement, sites: Sites, randoms: Sequence[np.random.Generator]) -> tuple[Spot, ...]:
    """Draw the spots of all pictures; randoms: one source for each picture, so that its neighbours do not matter.

    A patch for which no place is found (too small, or it would hide more than it may) is left out.
    """
    return tuple(spot for row, random in enumerate(randoms) for spot in _draw_one(placement, sites, row, random))


def randoms_of(x: NDArray[np.floating], seed: int) -> list[np.random.Generator]:
    """Return a source for each picture of `x` [N, 3, H, W], by its grey levels and the seed: it has the same wherever
    and whenever it comes."""
    levels = np.rint(x * 255).astype(np.uint8)
    digests = (hashlib.blake2b(picture.tobytes(), digest_size=8).digest() for picture in levels)
    return [np.random.default_rng([seed, int.from_bytes(digest, "little")]) for digest in digests]


def _draw_one(placement: Placement, sites: Sites, row: int, random: np.random.Generator) -> list[Spot]:
    true = sites.boxes[row][sites.known[row]]
    numbers_of_true = np.flatnonzero(sites.known[row])
    anywhere = placement.where == "anywhere"
    aims = [(-1, sites.content[row])] if anywhere else list(zip(numbers_of_true.tolist(), true, strict=True))
    hidden, spots = np.zeros(len(true)), list[Spot]()
    for number, area in aims:
        looks, places = random.random(4), random.random((_TRIES, 3))
        spot = _sized(placement, row, number, area, looks)
        centres = _centres(placement.where, spot, area, places)
        covered = covers(spot, centres, true)
        fits = _inside(spot, centres, sites.content[row])
        fits &= (hidden + covered <= placement.hides + _ROUNDING).all(axis=1)
        if spot.side_px >= MIN_SIDE_PX and fits.any():
            first = int(fits.argmax())
            hidden += covered[first]
            spots.append(_moved(spot, *centres[first].tolist()))
    return spots


def _sized(placement: Placement, row: int, box: int, area: Floats, looks: Floats) -> Spot:
    """A spot that has no place yet. looks: [4], in [0, 1): share, turn, contrast, light."""
    width, height = float(area[2] - area[0]), float(area[3] - area[1])
    share = placement.share_low + looks[0] * (placement.share_high - placement.share_low)
    turn, contrast, light = (2 * looks[1:] - 1).tolist()
    turn *= math.radians(placement.turn_deg)
    side = math.sqrt(max(0.0, share * width * height))
    if placement.where != "beside":  # it must lie within what it is laid on
        side = min(side, width / _spread(turn), height / _spread(turn))
    return Spot(row, box, 0.0, 0.0, side, turn, 1 + contrast * placement.contrast, light * placement.brightness)


def _centres(where: Where, spot: Spot, area: Floats, places: Floats) -> Floats:
    """Candidates [T, 2] for the centre, from random numbers [T, 3] in [0, 1)."""
    low, high = area[:2], area[2:]
    if where != "beside":
        return low + spot.half_px + places[:, :2] * (high - low - 2 * spot.half_px)
    distance = spot.half_px + 1 + places[:, 2] * spot.side_px / 2
    along = low + places[:, :1] * (high - low)
    edge = np.floor(places[:, 1] * 4).astype(int)  # left, top, right, bottom
    across = np.where(edge < 2, area[edge] - distance, area[edge] + distance)
    upright = edge % 2 == 0
    return np.stack([np.where(upright, across, along[:, 0]), np.where(upright, along[:, 1], across)], axis=1)


def covers(spot: Spot, centres: Floats, boxes: Floats) -> Floats:
    """Share of each box [M, 4] that the patch hides at each centre [T, 2] at most: by the square around its pixels."""
    low = np.floor(centres - spot.half_px)[:, None]
    high = np.ceil(centres + spot.half_px)[:, None]
    common = np.clip(np.minimum(high, boxes[:, 2:]) - np.maximum(low, boxes[:, :2]), 0, None).prod(axis=2)
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return np.minimum(common, spot.side_px**2) / np.maximum(area, _ROUNDING)


def hidden_shares(sites: Sites, spots: Sequence[Spot]) -> Floats:
    """Share of each true box that patches hide together at most, [N, M]."""
    hidden = np.zeros(sites.known.shape)
    for spot in spots:
        hidden[spot.row] += covers(spot, np.array([[spot.x_px, spot.y_px]]), sites.boxes[spot.row])[0]
    return np.where(sites.known, hidden, 0.0)


def _inside(spot: Spot, centres: Floats, content: Floats) -> NDArray[np.bool_]:
    room = (centres - spot.half_px >= content[:2] - _ROUNDING) & (centres + spot.half_px <= content[2:] + _ROUNDING)
    return np.asarray(room.all(axis=1))


def _moved(spot: Spot, x_px: float, y_px: float) -> Spot:
    return Spot(spot.row, spot.box, x_px, y_px, spot.side_px, spot.turn_rad, spot.contrast, spot.light)


def _spread(turn_rad: float) -> float:
    """Side of the upright square around a turned one of side 1."""
    return abs(math.cos(turn_rad)) + abs(math.sin(turn_rad))


# Laying ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Footprint:
    """Pixels [P] that a spot touches (rows one after the other), and the print behind each point of them [P, k * k].

    Points beside the patch have the number S * S, which is none.
    """

    pixels: NDArray[np.intp]
    prints: NDArray[np.intp]
    cover: Floats


class Layout:
    """Patches of S by S squares at their spots in pictures of one size."""

    def __init__(self, spots: Sequence[Spot], side: int, size_px: tuple[int, int]) -> None:
        """side: S. size_px: width and height of the pictures."""
        self._spots, self._side, (self._width, self._height) = tuple(spots), side, size_px
        self._prints = [_footprint(spot, side, size_px) for spot in self._spots]

    def lay(self, x: Array, patch: Floats) -> Array:
        """Return the pictures `x` with the patch in them; pixels that it does not touch keep their bits."""
        xp = array_namespace(x)
        left, ink = self._composed(int(x.shape[0]), patch)
        return xp.clip(x * like(left, x) + like(ink, x), 0.0, 1.0)

    def pull(self, gradient: Array, patch: Floats) -> Floats:
        """Turn the gradients in the laid pictures, [N, 3, H, W], into that of their sum in `patch`, [3, S, S]."""
        slopes = np.array(numbers(gradient), np.float64).reshape(-1, 3, self._height * self._width)
        pulled = np.zeros((3, self._side**2 + 1))
        for spot, found in zip(reversed(self._spots), reversed(self._prints), strict=True):
            own = slopes[spot.row][:, found.pixels]
            pulled += self._gathered(own, found) * _brightened_slope(patch, spot)
            slopes[spot.row][:, found.pixels] = own * (1 - found.cover)  # what lies below is seen through the rest
        return pulled[:, :-1].reshape(3, self._side, self._side)

    def _composed(self, count: int, patch: Floats) -> tuple[Floats, Floats]:
        """What is left of the picture [N, 1, H, W], and what the patches add [N, 3, H, W]."""
        left = np.ones((count, 1, self._height * self._width))
        ink = np.zeros((count, 3, self._height * self._width))
        for spot, found in zip(self._spots, self._prints, strict=True):
            own = _padded(brightened(patch, spot))[:, found.prints].mean(axis=2)
            at = found.pixels
            left[spot.row][:, at] *= 1 - found.cover
            ink[spot.row][:, at] = ink[spot.row][:, at] * (1 - found.cover) + own
        area = (self._height, self._width)
        return left.reshape(count, 1, *area), ink.reshape(count, 3, *area)

    def _gathered(self, slopes: Floats, found: _Footprint) -> Floats:
        points = found.prints.shape[1]
        where, size = found.prints.ravel(), self._side**2 + 1
        return np.stack([np.bincount(where, np.repeat(own / points, points), size) for own in slopes])


def brightened(patch: Floats, spot: Spot) -> Floats:
    """The patch in the light of a spot, [3, S, S]."""
    return np.clip(_raw(patch, spot), 0.0, 1.0)


def _raw(patch: Floats, spot: Spot) -> Floats:
    return spot.contrast * (patch - 0.5) + 0.5 + spot.light


def _brightened_slope(patch: Floats, spot: Spot) -> Floats:
    """Derivative of `brightened`, [3, S * S + 1]: nothing where it is clipped, and for the print that is none."""
    raw = _raw(patch, spot)
    return _padded(np.where((raw >= 0) & (raw <= 1), spot.contrast, 0.0))


def _padded(patch: Floats) -> Floats:
    return np.concatenate([patch.reshape(3, -1), np.zeros((3, 1))], axis=1)


def _footprint(spot: Spot, side: int, size_px: tuple[int, int]) -> _Footprint:
    """Sample every pixel near the spot at k by k points."""
    count = min(_MOST_POINTS, max(_FEWEST_POINTS, math.ceil(side / spot.side_px)))
    columns, rows = (
        _pixels(at, spot.half_px, length) for at, length in zip((spot.x_px, spot.y_px), size_px, strict=True)
    )
    across, down = (_points(columns, count) - spot.x_px)[None, :], (_points(rows, count) - spot.y_px)[:, None]
    cosine, sine = math.cos(spot.turn_rad), math.sin(spot.turn_rad)
    u = np.floor(((cosine * across + sine * down) / spot.side_px + 0.5) * side).astype(np.intp)
    v = np.floor(((cosine * down - sine * across) / spot.side_px + 0.5) * side).astype(np.intp)
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
