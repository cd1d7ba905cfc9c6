"""Printed patches in the evaluation: made on training images, laid into the measured ones at fresh places.

An ascent is kept every few steps, so an interrupted one goes on. Places depend on an image's pixels and the seed
alone: every patch of one kind, the one of noise too, lies where the others lie.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros.attacks.patch import Ascent, PatchSettings, ascend, begin, noise
from lisard_ros.attacks.placement import (
    Floats,
    PatchPlacement,
    PatchRenderer,
    Placement,
    PlacementRegions,
    beside_boxes,
    draw,
    hidden_shares,
    on_boxes,
    randoms_of,
    regions_of,
)
from lisard_ros.errors import UsageError
from lisard_ros.evaluation.references import spread
from lisard_ros.frames import GREY_LEVELS

from ....data.detection import Scenes
from ....evaluation import versions
from ....evaluation.cache import Cache, ResultKey
from ....evaluation.runner import ImageRange
from .models import DetectorUnderTest
from .suites import DetectionCondition

SIDE = 32  # squares of print along a patch
KEPT_EVERY = 25  # steps
MADE_ON = 160  # training images at most, evenly spread
PLACEMENT_CODE = ("lisard_ros.attacks.placement", "lisard_ros.attacks.patch", __name__)
PATCH_CODE = (
    *PLACEMENT_CODE,
    "lisard_ros.attacks.model",
    "lisard_ros.attacks.gradient",
    "lisard_trainer.backbones",
    "lisard_trainer.tasks.detection.network",
    "lisard_trainer.tasks.detection.attack_model",
    "lisard_trainer.tasks.detection.assign",
    "lisard_trainer.tasks.detection.losses",
)


@dataclass(frozen=True)
class Laid:
    """How a kind of patch lies in the measured images.

    boxes: true ones; patches: those there was room for; most_hidden, mean_hidden: share of a box that is hidden at
    most, and on average.
    """

    share_low: float
    share_high: float
    turn_deg: float
    boxes: int
    patches: int
    most_hidden: float
    mean_hidden: float


@dataclass(frozen=True, eq=False)
class Workshop:
    """All that making patches needs. training: the attacker's images, none of which is measured on."""

    training: Scenes
    cache: Cache

    def print_of(self, condition: DetectionCondition, source: DetectorUnderTest | None) -> Floats:
        """The patch of a condition, [3, S, S] in whole grey levels of [0, 1]: made on `source`, or of noise."""
        if source is None:
            patch = noise(SIDE, condition.seed)
        else:
            known = self.cache.get(self.key(condition, source, condition.steps))
            patch = self._ascent(condition, source).patch if known is None else known["patch"]
        return np.rint(patch * GREY_LEVELS) / GREY_LEVELS

    @functools.cached_property
    def images(self) -> str:
        """Hash of the training images and their boxes."""
        return self.training.sha256()

    def key(self, condition: DetectionCondition, source: DetectorUnderTest | None, steps: int) -> ResultKey:
        """Key of a patch after so many steps; one of noise has neither model nor images."""
        how = {**asdict(settings_of(condition)), "draws": condition.seed}
        if source is None:
            return ResultKey("patch", settings=how, code=versions.of(*PLACEMENT_CODE))
        how |= {"loss": condition.loss, "done": steps}
        return ResultKey("patch", source.key, self.images, settings=how, code=versions.of(*PATCH_CODE))

    def _ascent(self, condition: DetectionCondition, source: DetectorUnderTest) -> Ascent:
        settings = settings_of(condition)
        x = self.training.images.float().div(GREY_LEVELS).contiguous()
        assert condition.loss is not None
        criterion = self.training.criterion(condition.loss)
        regions = regions_in(self.training, ImageRange(0, len(self.training), len(self.training)))
        state = begin(settings, condition.seed)
        while state.steps < settings.steps:
            steps = min(KEPT_EVERY, settings.steps - state.steps)
            key = self.key(condition, source, state.steps + steps)
            kept = self.cache.get(key)
            if kept is None:
                state = ascend(source.attack_model, x, regions, criterion, settings, condition.seed, state, steps)
                self.cache.put(key, {"patch": state.patch, "mean": state.mean, "squares": state.squares})
            else:
                state = Ascent(kept["patch"], kept["mean"], kept["squares"], state.steps + steps)
        return state


def attackers(training: Scenes) -> Scenes:
    """The training images that patches are made on: some of those with boxes."""
    with_boxes = np.flatnonzero((training.labels >= 0).any(1).numpy())
    if not len(with_boxes):
        raise UsageError(
            "patches need training images with boxes",
            found="none",
            expected="one or more",
            cure="choose other conditions with --only",
        )
    return training.take(spread(with_boxes, MADE_ON))


def settings_of(condition: DetectionCondition) -> PatchSettings:
    """Settings of the ascent; a patch of noise makes none."""
    return PatchSettings(placement_of(condition), SIDE, max(1, condition.steps))


def placement_of(condition: DetectionCondition) -> Placement:
    """Where the patches of a condition lie."""
    return beside_boxes(condition.share) if condition.where == "beside" else on_boxes(condition.share)


def regions_in(scenes: Scenes, batch: ImageRange) -> PlacementRegions:
    """What there is room for in some of the scenes."""
    content = scenes.content[batch.rows].numpy().astype(np.float64)
    return regions_of(scenes.images[batch.rows], scenes.criterion(rows=batch.rows), content)


def placements_in(condition: DetectionCondition, scenes: Scenes, batch: ImageRange) -> tuple[PatchPlacement, ...]:
    """Places in the measured images: fresh ones, and the same for every patch of this kind."""
    x = scenes.images[batch.rows].contiguous().numpy() / np.float32(GREY_LEVELS)
    return draw(placement_of(condition), regions_in(scenes, batch), randoms_of(x, condition.seed))


def patched(patch: Floats, condition: DetectionCondition, scenes: Scenes, batch: ImageRange) -> NDArray[np.float32]:
    """The images of a batch with the patch in them, [n,3,H,W] in whole grey levels of [0,1]."""
    x = scenes.images[batch.rows].contiguous().numpy() / np.float32(GREY_LEVELS)
    renderer = PatchRenderer(placements_in(condition, scenes, batch), patch.shape[1], (x.shape[3], x.shape[2]))
    levels = np.rint(renderer.render(x, patch) * GREY_LEVELS)
    return np.asarray(levels / np.float32(GREY_LEVELS), np.float32)


def laid(condition: DetectionCondition, scenes: Scenes, batches: Sequence[ImageRange]) -> Laid:
    """Count patches, and what they hide."""
    how, hidden, patches = placement_of(condition), list[np.ndarray](), 0
    for batch in batches:
        placements, regions = placements_in(condition, scenes, batch), regions_in(scenes, batch)
        hidden.append(hidden_shares(regions, placements)[regions.known])
        patches += len(placements)
    every = np.concatenate(hidden)
    most, mean = (float(every.max()), float(every.mean())) if len(every) else (0.0, 0.0)
    return Laid(how.share_low, how.share_high, how.turn_deg, len(every), patches, most, mean)
