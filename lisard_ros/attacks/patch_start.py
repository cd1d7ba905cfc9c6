"""A printed patch that is no weaker than what covers as much: its ascent starts at the strongest plain print.

A bright plain square hides as much of a small object as any print, and random print is often weaker than that
(docs/results/patches.md). So plain colours and random print are tried first, on the images and places of the attacker,
and the patch is compared with the best of them at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lisard_ros.attacks.model import (
    Array,
    AttackModel,
    BoxCriterion,
    Criterion,
    ModelAnswer,
    Transform,
    Untargeted,
    like,
    numbers,
    pick,
    rows_of,
)
from lisard_ros.attacks.objective import fooled
from lisard_ros.attacks.patch import Ascent, PatchSettings, ascend, noise
from lisard_ros.attacks.placement import Floats, PatchRenderer, PlacementRegions, draw

PLAIN_COLOURS: Mapping[str, tuple[float, float, float]] = {
    "black": (0, 0, 0),
    "blue": (0, 0, 1),
    "green": (0, 1, 0),
    "cyan": (0, 1, 1),
    "red": (1, 0, 0),
    "magenta": (1, 0, 1),
    "yellow": (1, 1, 0),
    "white": (1, 1, 1),
}  # RGB
CONTRAST_LEFT = 0.9  # of the start: what is clipped by the light of nearly every place has no gradient
_TRIAL_BATCHES = 4
_TRIAL_DRAWS = 1 << 20  # beside the steps of an ascent, so that a trial has places of its own


def plain(colour: str, side: int) -> Floats:
    """Return the print [3, S, S] of one of PLAIN_COLOURS."""
    return np.tile(np.array(PLAIN_COLOURS[colour], np.float64)[:, None, None], (1, side, side))


def strongest_patch(
    model: AttackModel, x: Array, regions: PlacementRegions, criterion: Criterion, settings: PatchSettings, seed: int
) -> Floats:
    """Make a patch [3, S, S] from the strongest plain or random print; that print itself where nothing is gained.

    Args:
        model: What it is made on. Orders of colours are RGB.
        x: Images [N, 3, H, W] in [0, 1].
        regions: What there is room for in them.
        criterion: What the attacker wants of them.
        settings: Of the ascent; its batches are those of the trials too.
        seed: Of images, places and random print.
    """
    trial = _Trial(model, x, regions, criterion, settings, seed)
    prints = [plain(colour, settings.side) for colour in PLAIN_COLOURS] + [noise(settings.side, seed)]
    shares = [trial.spoilt_share(each) for each in prints]
    best = prints[int(np.argmax(shares))]
    start = 0.5 + CONTRAST_LEFT * (best - 0.5)
    begin = Ascent(start, np.zeros_like(start), np.zeros_like(start))
    made = ascend(SaturatingModel(model), x, regions, criterion, settings, seed, begin, settings.steps).patch
    return made if trial.spoilt_share(made) > max(shares) else best


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """Some of the images, with places that no step of an ascent draws."""

    model: AttackModel
    x: Array
    regions: PlacementRegions
    criterion: Criterion
    settings: PatchSettings
    seed: int

    def spoilt_share(self, patch: Floats) -> float:
        """Return the share of images that are fooled, or of true boxes that are not found, under a print."""
        order = np.random.default_rng([self.seed, _TRIAL_DRAWS]).permutation(int(self.x.shape[0]))
        spoilt: list[float] = []
        for batch in range(_TRIAL_BATCHES):
            rows = np.sort(order[batch * self.settings.batch : (batch + 1) * self.settings.batch])
            if not len(rows):
                break
            randoms = [np.random.default_rng([self.seed, _TRIAL_DRAWS, int(row)]) for row in rows]
            placements = draw(self.settings.placement, self.regions.rows(rows), randoms)
            renderer = PatchRenderer(placements, self.settings.side, (int(self.x.shape[3]), int(self.x.shape[2])))
            criterion = pick(self.criterion, rows)
            scores = self.model.evaluate(
                renderer.render(rows_of(self.x, rows), patch), criterion, gradient=False
            ).scores
            lost = 1 - numbers(scores)[:, 0] if isinstance(criterion, BoxCriterion) else fooled(scores, criterion)
            spoilt += lost.tolist()
        return float(np.mean(spoilt))


class SaturatingModel:
    """Raises the probability of a wrong class instead of the cross entropy, which grows most where all is lost already.

    The gradient of 1 - exp(-loss) is that of the loss times exp(-loss). Other criteria stay as they are.
    """

    def __init__(self, model: AttackModel) -> None:
        """Wrap a model."""
        self._model = model

    def evaluate(
        self, x: Array, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Answer as the model does, with this loss and gradient."""
        answer = self._model.evaluate(x, criterion, transform, gradient=gradient)
        if not isinstance(criterion, Untargeted) or criterion.loss != "cross_entropy":
            return answer
        right = np.exp(-numbers(answer.loss))  # the probability of the true class
        slope = answer.gradient
        if slope is not None:
            slope = slope * like(right[:, None, None, None], slope)
        return replace(answer, loss=like(1 - right, answer.loss), gradient=slope)
