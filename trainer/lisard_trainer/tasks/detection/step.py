"""One step of a detector's training: the views of a batch and its loss.

The clean view is the composed scene (perhaps with slight noise), the noisy view the very same with noise: same boxes,
same positions. Positions are assigned by the clean view, for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ...data.detection import SceneSplit
from ...losses import detail_mixing
from ...losses.augment import Views
from ...training import state
from ...training.divergence import StepLoss, arithmetic
from . import assign, compose, geometry, losses, terms
from .balance import RatioWeights
from .network import BALANCE, STRIDES, Parts, level_sizes
from .recipe import DetectorRecipe
from .records import DetectionEpoch

TERMS = ("levels", "instances", "class_agreement", "box_agreement")
PARTS = ("clean", "noisy", *TERMS)
Run: TypeAlias = state.Run[DetectorRecipe, SceneSplit, DetectionEpoch]


@dataclass(frozen=True, eq=False)
class BoxedViews(Views):
    """Views with the boxes [N,M,4] of either."""

    boxes: Tensor


def views(run: Run, part: Tensor) -> BoxedViews:
    """Draws the views of a batch."""
    recipe = run.recipe
    share_done = run.epoch / recipe.optimizer.epochs
    train, copies = run.split.train, recipe.copy_paste
    batch = compose.compose(train, part, recipe.augment, run.generator, share_done, copies)
    scenes = torch.arange(len(batch.x))  # scenes have no class: each counts as one of its own
    drawn = detail_mixing.views(batch.x, scenes, recipe.views, recipe.noise, recipe.detail_mixing, run.generator)
    first, noisy = drawn.first, drawn.noisy
    if run.precision == "float64":
        first, noisy = first.double(), None if noisy is None else noisy.double()
    return BoxedViews(first, noisy, batch.labels, batch.boxes.to(first))


def compute(
    network: Any, seen: BoxedViews, recipe: DetectorRecipe, generator: torch.Generator, precision: str, measure: bool
) -> StepLoss:
    """Loss of one batch. measure: the weights of the terms follow their gradients."""
    inputs = [seen.first] if seen.noisy is None else [seen.first, seen.noisy]
    both = forward(network, torch.cat(inputs), precision)
    parts = divide(both, len(seen.first))
    sizes = level_sizes(seen.first.shape[3], seen.first.shape[2])
    centres, strides = geometry.positions(sizes, STRIDES, seen.boxes)
    assigned = assign.assign(parts[0].output, seen.boxes, seen.labels, centres, strides)
    own = [losses.detection(view.output, assigned, recipe.loss).total(recipe.loss) for view in parts]
    if len(own) == 1:
        nothing = own[0].new_zeros(len(TERMS))
        return StepLoss(own[0], torch.cat([torch.stack([own[0], own[0]]).detach(), nothing]), PARTS)
    detection = (own[0] + recipe.noisy_weight * own[1]) / (1 + recipe.noisy_weight)
    inside = assign.inside_boxes(centres, seen.boxes, seen.labels).split([height * width for height, width in sizes], 1)
    found = _terms(parts[0], parts[1], assigned, inside, recipe, generator)
    balance: RatioWeights = getattr(network, BALANCE)
    if measure and balance.active:
        balance.measure(detection, found, both.maps)
    total = detection + balance.total(found)
    return StepLoss(total, torch.stack([part.detach().to(total.dtype) for part in (*own, *found)]), PARTS)


def forward(network: Any, x: Tensor, precision: str) -> Parts:
    """All views in one batch, so that they share the statistics of batch norm."""
    x = x.contiguous(memory_format=torch.channels_last)
    with arithmetic(x.device, precision):
        found: Parts = network.forward_parts(x)
    return found


def divide(both: Parts, count: int) -> list[Parts]:
    """The parts of each view, `count` scenes each."""
    views = len(both.output) // count
    maps = [level.split(count) for level in both.maps]
    others = [side.split(count) for side in both[1:]]  # type: ignore[attr-defined]
    return [Parts(tuple(m[i] for m in maps), *(side[i] for side in others)) for i in range(views)]


def _terms(
    clean: Parts,
    noisy: Parts,
    assigned: assign.Assignment,
    inside: Sequence[Tensor],
    recipe: DetectorRecipe,
    generator: torch.Generator,
) -> list[Tensor]:
    """The terms in the order of TERMS; one that is switched off is not worked out."""
    nothing = clean.output.new_zeros(())
    levels, instances = recipe.levels, recipe.instances
    return [
        terms.levels(clean.maps, noisy.maps, inside, levels.samples, levels.off_weight, generator)
        if levels.ratio
        else nothing,
        terms.instances(clean, noisy, assigned, instances.off_weight) if instances.ratio else nothing,
        terms.class_agreement(clean.output, noisy.output, assigned) if recipe.agreement.classes else nothing,
        terms.box_agreement(clean.output, noisy.output, assigned) if recipe.agreement.boxes else nothing,
    ]
