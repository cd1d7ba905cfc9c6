"""The part of the training loop that belongs to classifiers (tasks.py)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ... import backbones, data
from ...data import labels
from ...recipes import Recipe
from ...training import state
from ...training.distributed import Team
from ...training.divergence import StepLoss, StepValues, Watch, arithmetic
from ...training.records import EpochRecord
from ...training.task import Exported
from . import network as networks
from . import step

Run: TypeAlias = state.Run[Recipe, data.Split, EpochRecord]


def load(recipe: Recipe, folder: str | None) -> data.Split:
    """Training and validation pictures; DataError if the recipe's labels are not those of their classes."""
    split = data.load(recipe.data, folder)
    labels.of(recipe.data.labels, split.train)
    return split


def export(saved: Any, split: data.Split, folder: Path, name: str, command: str) -> Exported:
    """Writes the bundle of a checkpoint."""
    from . import export as exporting  # onnx is slow to import, and training does without

    done = exporting.export(saved, split, folder, name, command)
    return Exported(done.bundle, f"{done.parity:.1e} at most")


def network(recipe: Recipe, classes: int) -> nn.Module:
    """A fresh network with everything that its training needs."""
    return networks.training(recipe, classes)


def start_from_imagenet(network: nn.Module) -> str:
    """Gives the network ImageNet weights; returns their sha256."""
    assert isinstance(network, backbones.Backbone)
    return backbones.start_from_imagenet(network)


def loss(run: Run, part: Tensor) -> StepLoss:
    """Loss of this process's rows. Every process draws the views of the whole batch: the run does not depend on their
    number."""
    context = step.Context(run.recipe, run.epoch, run.generator, run.device, run.precision, run.team.gather)
    whole = step.views(data.to_unit(run.split.train.images[part]), run.split.train.labels[part], context)
    return step.compute(run.network, _own(run, whole), context)


def _own(run: Run, whole: step.Views) -> step.Views:
    first, noisy = (None if x is None else run.team.rows(x) for x in (whole.first, whole.noisy))
    if run.precision == "float64":
        first, noisy = (None if x is None else x.double() for x in (first, noisy))
    assert first is not None
    return step.Views(first, noisy, run.team.rows(whole.labels))


def epoch_record(run: Run, seen: Sequence[StepValues], begun: float) -> EpochRecord:
    """Accuracy on the validation pictures, and the means over the steps."""
    right = accuracy(run.for_use, run.split.validation, run.device, run.precision, team=run.team)
    count = len(seen)
    total, ce = sum(v.total for v in seen) / count, sum(v.cross_entropy for v in seen) / count
    similarity, consistency, gradient = (
        sum(column) / count for column in zip(*(v.parts[2:] for v in seen), strict=True)
    )
    seconds, rate = time.monotonic() - begun, seen[-1].rate
    return EpochRecord(
        epoch=run.epoch + 1,
        loss=total,
        seconds=seconds,
        rate=rate,
        cross_entropy=ce,
        similarity=similarity,
        validation_accuracy=right,
        consistency=consistency,
        gradient=gradient,
    )


def said(record: EpochRecord) -> str:
    """The validation figure of an epoch in words."""
    return f"validation {100 * record.validation_accuracy:.2f} %"


def watch(classes: int) -> Watch:
    """Stops a network that is far worse than guessing."""
    return Watch(classes)


def advice(run: Run) -> str | None:
    """What to say when the similarity term asks for the impossible."""
    return rank_advice(run.recipe, run.network.get_parameter("head.weight").shape[1])


def rank_advice(recipe: Recipe, embedding_width: int) -> str | None:
    """What to say when the similarity term correlates more features than a batch has pictures (specification B8)."""
    settings = recipe.similarity
    width = settings.projector_width if settings.projector == "used" else embedding_width
    compared = min(width, settings.features) if settings.features else width
    batch = recipe.optimiser.batch
    if settings.form == "none" or compared < batch:
        return None
    return (
        f"the similarity term correlates {compared} features over a batch of {batch}: that matrix has at most rank "
        f"{batch - 1}, so the identity is out of reach; set optimiser.batch above {compared}, similarity.features to "
        f"{max(1, batch // 2)}, or a narrower projector (similarity.projector: used, projector_width)"
    )


@torch.no_grad()
def accuracy(
    network: nn.Module,
    pictures: data.Pictures,
    device: torch.device,
    precision: str,
    batch: int = 256,
    team: Team | None = None,
) -> float:
    """Share of pictures whose highest logit is their label, in eval mode; NaN if any logit is not finite.

    The processes divide the pictures.
    """
    team = team or Team()
    network.eval()
    dtype = next(network.parameters()).dtype
    own = torch.arange(team.rank, len(pictures), team.size, device=pictures.images.device)
    right = torch.zeros((), device=device, dtype=torch.float64)
    for positions in own.split(batch):
        x = data.to_unit(pictures.images[positions]).to(device, dtype, memory_format=torch.channels_last)
        with arithmetic(device, precision):
            logits = network(x)[1]
        right += (logits.argmax(1) == pictures.labels[positions].to(device)).sum()
        right += torch.where(logits.isfinite().all(), 0.0, torch.nan)
    return float(team.total(right)) / max(1, len(pictures))
