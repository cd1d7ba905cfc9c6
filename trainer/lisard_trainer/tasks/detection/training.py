"""The part of the training loop that belongs to detectors (tasks.py): views, loss of one batch, validation.

The clean view is the composed scene (perhaps with slight noise), the noisy view the very same with noise: same boxes,
same positions. Positions are assigned by the clean view, for both.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lisard_ros.errors import UsageError

from ... import backbones
from ...backbones import state_dict
from ...data.detection import SceneSplit
from ...data.detection import load as load_scenes
from ...losses import augment, detail_mixing
from ...training import state
from ...training.divergence import StepLoss, StepValues, Watch, arithmetic
from ...training.records import DetectionEpoch
from ...training.task import Exported
from . import assign, compose, geometry, losses, metrics, terms
from .balance import Balance
from .network import STRIDES, Detector, Parts, Spec, create, level_sizes
from .recipe import DetectorRecipe

TERMS = ("levels", "instances", "class_agreement", "box_agreement")
PARTS = ("clean", "noisy", *TERMS)
BALANCE = "balance"
Run: TypeAlias = state.Run[DetectorRecipe, SceneSplit, DetectionEpoch]
GUESSING = 30.0  # loss of an untrained detector on scenes with few boxes, about


@dataclass(frozen=True, eq=False)
class Views:
    """Both views [N,3,H,W] (`noisy` None with one view), boxes [N,M,4] and labels [N,M] of either."""

    first: Tensor
    noisy: Tensor | None
    boxes: Tensor
    labels: Tensor


# The network ----------------------------------------------------------------------------------------------------------


def load(recipe: DetectorRecipe, folder: str | None) -> SceneSplit:
    """Training and validation scenes."""
    return load_scenes(recipe.data, folder)


def export(saved: Any, split: SceneSplit, folder: Path, name: str, command: str) -> Exported:
    """Writes the bundle of a checkpoint."""
    from . import export as exporting  # onnx is slow to import, and training does without

    done = exporting.export(saved, split, folder, name, command)
    return Exported(done.bundle, f"{done.parity.box_px:.1e} px and {done.parity.score:.1e} in scores at most")


def spec_of(recipe: DetectorRecipe, classes: int) -> Spec:
    """What the recipe's network is made from."""
    size = recipe.data
    return Spec(recipe.network, classes, size.width_px, size.height_px, recipe.activation, recipe.neck, recipe.depth)


def network(recipe: DetectorRecipe, classes: int) -> nn.Module:
    """A fresh detector with the weights of its training's terms."""
    made = create(spec_of(recipe, classes))
    made.add_module(BALANCE, Balance(recipe.ratios, recipe.balance.memory))
    return made


def deployable(recipe: DetectorRecipe, classes: int, weights: Mapping[str, Tensor]) -> Detector:
    """The detector as a bundle holds it, with the weights of a training."""
    made = create(spec_of(recipe, classes))
    own = {key: value for key, value in weights.items() if not key.startswith(BALANCE + ".")}
    state_dict.load(made, own, f"checkpoint of {recipe.name}", state_dict.OTHERS_WEIGHTS)
    return made.eval()


def start_from_imagenet(network: nn.Module) -> str:
    """Gives the backbone ImageNet weights; returns their sha256."""
    assert isinstance(network, Detector)
    spec = network.backbone.spec
    whole = backbones.create(spec.name, spec.classes, spec.size_px, spec.activation)
    sha256 = backbones.start_from_imagenet(whole)
    own = network.backbone.state_dict()
    network.backbone.load_state_dict({k: v for k, v in whole.state_dict().items() if k in own}, strict=True)
    return sha256


# One step -------------------------------------------------------------------------------------------------------------


def loss(run: Run, part: Tensor) -> StepLoss:
    """Loss of the training scenes around the pictures at the positions `part`."""
    if run.team.size > 1:
        raise UsageError(
            "training a detector",
            found=f"{run.team.size} processes",
            expected="one",
            cure="run `lisard train` without torchrun",
        )
    recipe = run.recipe
    # At first every step: an untrained network's gradients change fast.
    measure = run.step % recipe.balance.every == 0 or run.step < recipe.balance.every
    seen = views(run, part)
    return compute(run.network, seen, recipe, run.generator, run.precision, measure)


def views(run: Run, part: Tensor) -> Views:
    """Draws the views of a batch."""
    recipe = run.recipe
    share_done = run.epoch / recipe.optimiser.epochs
    batch = compose.compose(run.split.train, part, recipe.augment, run.generator, share_done)
    first, noisy = draw_views(batch.x, recipe, run.generator)
    if run.precision == "float64":
        first, noisy = first.double(), None if noisy is None else noisy.double()
    return Views(first, noisy, batch.boxes.to(first), batch.labels)


def draw_views(x: Tensor, recipe: DetectorRecipe, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """The clean and the noisy view of scenes [N,3,H,W]; nothing moves between them."""
    laid, scenes = recipe.overlay, torch.arange(len(x))  # scenes have no class: each counts as one of its own
    if recipe.views == 1:
        return detail_mixing.lay(x, x, scenes, laid.first_255, laid, generator), None
    noisy = augment.noisy_view(x, recipe.noise, generator)
    first = augment.first_view(x, recipe.noise, generator)
    return (
        detail_mixing.lay(first, x, scenes, laid.first_255, laid, generator),
        detail_mixing.lay(noisy, x, scenes, laid.noisy_255, laid, generator),
    )


def compute(
    network: Any, seen: Views, recipe: DetectorRecipe, generator: torch.Generator, precision: str, measure: bool
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
    inside = inside_levels(seen, centres, sizes)
    found = _terms(parts[0], parts[1], assigned, inside, recipe, generator)
    balance: Balance = getattr(network, BALANCE)
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


def inside_levels(seen: Views, centres: Tensor, sizes: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
    """Which positions of each level lie in a box, bool [N,h*w]."""
    whole = assign.inside_boxes(centres, seen.boxes, seen.labels)
    return whole.split([height * width for height, width in sizes], 1)


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


# One epoch ------------------------------------------------------------------------------------------------------------


def epoch_record(run: Run, seen: Sequence[StepValues], begun: float) -> DetectionEpoch:
    """AP on the validation scenes, and the means over the steps."""
    validation = run.split.validation
    found = metrics.detect(run.for_use, validation.images, precision=run.precision)
    score = metrics.precision_of(found, validation)
    total = sum(value.total for value in seen) / len(seen)
    means = [sum(column) / len(seen) for column in zip(*(value.parts for value in seen), strict=True)]
    return DetectionEpoch(
        epoch=run.epoch + 1,
        loss=total,
        validation_ap=score.ap,
        validation_ap50=score.ap50,
        seconds=time.monotonic() - begun,
        rate=seen[-1].rate,
        **dict(zip(PARTS, means, strict=True)),
    )


def said(record: DetectionEpoch) -> str:
    """The validation figure of an epoch in words."""
    return f"validation AP {record.validation_ap:.3f}, AP50 {record.validation_ap50:.3f}"


def watch(classes: int) -> Watch:
    """Stops a network that is far worse than an untrained one."""
    return Watch(classes, GUESSING)


def advice(run: Run) -> str | None:
    """Nothing is known to go wrong: positions outnumber features by far."""
    return None
