"""A printed patch: one square of print that raises the loss wherever it lies, by expectation over placements.

Sources: expectation over transformations, Athalye et al. 2018 (arXiv 1707.07397) eq. 2; patches against classifiers,
Brown et al. 2017 (arXiv 1712.09665), against detectors Liu et al. 2018 (DPatch, arXiv 1806.02299) and Thys et al. 2019
(arXiv 1904.08653), whose Adam and rate are taken. The patch is not bounded by a budget: it may show anything in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lisard_ros.attacks.gradient import gradient_of
from lisard_ros.attacks.model import Array, AttackModel, Criterion, pick, require_images, rows_of
from lisard_ros.attacks.placement import Floats, PatchRenderer, Placement, PlacementRegions, draw
from lisard_ros.errors import AttackError

MAX_SIDE = 512
_FORGET, _FORGET_SQUARES, _TINY = 0.9, 0.999, 1e-30  # Adam, Kingma and Ba 2015 (arXiv 1412.6980); losses may be tiny


@dataclass(frozen=True, slots=True)
class PatchSettings:
    """Settings: squares of print along a side, steps of Adam, images per step, and the first step's rate.

    The rate falls linearly to a tenth of it.
    """

    placement: Placement
    side: int = 32
    steps: int = 200
    batch: int = 8
    rate: float = 0.03

    def __post_init__(self) -> None:
        """Refuse settings that cannot attack."""
        if not (1 <= self.side <= MAX_SIDE and self.steps >= 1 and self.batch >= 1 and 0 < self.rate <= 1):
            raise AttackError(
                "impossible settings of a patch",
                found=self,
                expected=f"1 <= side <= {MAX_SIDE}, steps, batch >= 1 and 0 < rate <= 1",
            )

    def rate_at(self, step: int) -> float:
        """Rate of a step."""
        return self.rate * (1 - 0.9 * step / self.steps)


@dataclass(frozen=True, slots=True, eq=False)
class Ascent:
    """How far a patch has come: the patch [3, S, S] in [0, 1], Adam's two means of its gradient, and steps done."""

    patch: Floats
    mean: Floats
    squares: Floats
    steps: int = 0


def noise(side: int, seed: int) -> Floats:
    """A patch of random print, uniform in [0, 1]: where every ascent starts, and the baseline that shows its gain."""
    return np.random.default_rng(seed).random((3, side, side))


def begin(settings: PatchSettings, seed: int) -> Ascent:
    """Return where the ascent of that seed starts."""
    start = noise(settings.side, seed)
    return Ascent(start, np.zeros_like(start), np.zeros_like(start))


def patch(
    model: AttackModel, x: Array, regions: PlacementRegions, criterion: Criterion, settings: PatchSettings, seed: int
) -> Floats:
    """Return one patch [3, S, S] that raises the mean loss over images `x` [N, 3, H, W] and placements in them."""
    return ascend(model, x, regions, criterion, settings, seed, begin(settings, seed), settings.steps).patch


def ascend(
    model: AttackModel,
    x: Array,
    regions: PlacementRegions,
    criterion: Criterion,
    settings: PatchSettings,
    seed: int,
    so_far: Ascent,
    steps: int,
) -> Ascent:
    """Go on for `steps` steps: what is drawn depends on seed and step alone, so an ascent in parts is the same one."""
    count = int(x.shape[0])
    if not count:
        raise AttackError("no images to make a patch on", found=0, expected="one or more")
    require_images(x)
    for step in range(so_far.steps, min(so_far.steps + steps, settings.steps)):
        rows = np.sort(np.random.default_rng([seed, step]).permutation(count)[: settings.batch])
        randoms = [np.random.default_rng([seed, step, int(row)]) for row in rows]
        placements = draw(settings.placement, regions.rows(rows), randoms)
        renderer = PatchRenderer(placements, settings.side, (int(x.shape[3]), int(x.shape[2])))
        seen = renderer.render(rows_of(x, rows), so_far.patch)
        slope = renderer.vjp(gradient_of(model, seen, pick(criterion, rows)), so_far.patch) / len(rows)
        so_far = _adam_step(so_far, slope, settings.rate_at(step))
    return so_far


def _adam_step(so_far: Ascent, slope: Floats, rate: float) -> Ascent:
    """One step of Adam upwards, clipped to [0, 1]."""
    steps = so_far.steps + 1
    mean = _FORGET * so_far.mean + (1 - _FORGET) * slope
    squares = _FORGET_SQUARES * so_far.squares + (1 - _FORGET_SQUARES) * slope**2
    size = np.sqrt(squares / (1 - _FORGET_SQUARES**steps)) + _TINY
    moved = so_far.patch + rate * mean / (1 - _FORGET**steps) / size
    return Ascent(np.clip(moved, 0.0, 1.0), mean, squares, steps)
