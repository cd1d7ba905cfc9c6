"""The task of classifiers: what training, export and attacks need of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor, nn

from lisard_ros.attacks.model import AttackModel
from lisard_ros.attacks.torch_model import TorchAttackModel
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import Manifest
from lisard_ros.errors import DataError

from ... import backbones, data
from ...data import labels
from ...evaluation.report import EvaluationOutcome
from ...evaluation.request import EvaluationRequest, SuiteHelp
from ...losses import augment
from ...losses.augment import Views
from ...recipes import Recipe
from ...training import checkpoint, state
from ...training.divergence import DivergenceGuard, StepLoss, StepValues
from ..base import FGSM_NAME, PGD_NAME, AttackTargets, Exported, StoredAttackPlan, Task
from . import attack_targets, network, step
from .evaluation import metrics
from .records import RECORDS, ClassificationEpoch

Run: TypeAlias = state.Run[Recipe, data.Split, ClassificationEpoch]


class ClassificationTask(Task):
    """One class for each image."""

    name = "classification"
    recipe_type = Recipe
    records = RECORDS
    stored_attacks = StoredAttackPlan((FGSM_NAME, PGD_NAME), 2048, 128, patch_images=2048, patch_batch=32)

    def load(self, recipe: Recipe, folder: str | None) -> data.Split:
        """Training and validation images; an error if the recipe's labels are not those of their classes."""
        split = data.load(recipe.data, folder)
        recipe.augment.mirror_images(labels.of(recipe.data.labels, split.train))
        return split

    def describe(self, split: data.Split) -> str:
        """How many images each part has, and whether frames of one scene were kept together."""
        counts = f"{len(split.train)} training and {len(split.validation)} validation images"
        tracks = [len(set(part.tracks)) for part in (split.train, split.validation)]
        whole = sum(tracks) == len(split.train) + len(split.validation)
        return counts + (", each by itself" if whole else f" of {tracks[0]} and {tracks[1]} tracks")

    def image_shares(self, recipe: Recipe, split: data.Split) -> Tensor | None:
        """By the size of an image's class, as data.balance asks."""
        found = split.train.labels
        return found.bincount().double()[found] ** -recipe.data.balance if recipe.data.balance else None

    def network(self, recipe: Recipe, classes: int) -> nn.Module:
        """A fresh network with everything that its training needs."""
        return network.training(recipe, classes)

    def guide(self, recipe: Recipe, classes: Sequence[str]) -> nn.Module | None:
        """The network of cross.weights; DataError if there is none, or one for other images."""
        if not recipe.cross.weights:
            return None
        path, what = Path(recipe.cross.weights), f"recipe key cross.weights: {recipe.cross.weights}"
        checkpoint.find(path, "recipe key cross.weights:", "train that first, or give the path of another run folder")
        saved = checkpoint.read(path)
        checkpoint.check_classes(saved, classes, what, "give a network of the same data")
        if saved.recipe.data.size_px != recipe.data.size_px:
            sizes = saved.recipe.data.size_px, recipe.data.size_px
            raise DataError(what, found=f"images of {sizes[0]} px", expected=f"those of data.size_px, {sizes[1]}")
        guide = network.deployable(saved.recipe, len(classes), saved.network)
        return guide.eval().requires_grad_(False)

    def start_from_imagenet(self, network: nn.Module) -> str:
        """Gives the network ImageNet weights; returns their sha256."""
        assert isinstance(network, backbones.Backbone)
        return backbones.start_from_imagenet(network)

    def loss(self, run: Run, part: Tensor) -> StepLoss:
        """Loss of this process's rows. Every process draws the views of the whole batch: the run does not depend on
        their number.
        """
        context = step.Context(
            run.recipe, run.epoch, run.generator, run.device, run.precision, run.team.gather, run.guide
        )
        train, changes = run.split.train, run.recipe.augment
        x, shown = data.to_unit(train.images[part]), train.labels[part]
        if changes.mirror_classes:
            table = changes.mirror_images(labels.of(run.recipe.data.labels, train))
            x, shown = augment.mirror(x, shown, table, run.generator)
        whole = step.views(x, shown, context)
        first, noisy = (None if x is None else run.team.rows(x) for x in (whole.first, whole.noisy))
        if run.precision == "float64":
            first, noisy = (None if x is None else x.double() for x in (first, noisy))
        assert first is not None
        return step.compute(run.network, Views(first, noisy, run.team.rows(whole.labels)), context)

    def epoch_record(self, run: Run, seen: Sequence[StepValues], begun: float) -> ClassificationEpoch:
        """Accuracy on the validation images, and the means over the steps."""
        right = metrics.accuracy(run.for_use, run.split.validation, run.device, run.precision, team=run.team)
        count = len(seen)
        total, ce = sum(v.total for v in seen) / count, sum(v.cross_entropy for v in seen) / count
        similarity, consistency, gradient = (
            sum(column) / count for column in zip(*(v.parts[2:] for v in seen), strict=True)
        )
        seconds, rate = time.monotonic() - begun, seen[-1].rate
        return ClassificationEpoch(
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

    def said(self, record: ClassificationEpoch) -> str:
        """The validation figure of an epoch in words."""
        return f"validation {100 * record.validation_accuracy:.2f} %"

    def divergence_guard(self, classes: int) -> DivergenceGuard:
        """Stops a network that is far worse than guessing."""
        return DivergenceGuard(classes)

    def advice(self, run: Run) -> str | None:
        """What to say when the similarity term asks for the impossible."""
        return rank_advice(run.recipe, run.network.get_parameter("head.weight").shape[1])

    def export(self, saved: Any, split: data.Split, folder: Path, name: str, command: str) -> Exported:
        """Writes the bundle of a checkpoint."""
        from . import export  # onnx is slow to import, and training does without

        return export.export(saved, split, folder, name, command)

    def trained_network(self, saved: Any) -> nn.Module:
        """The classifier: images to logits [N,K]."""
        return network.trained(saved)

    def attack_model(self, network: nn.Module) -> AttackModel:
        """White box to it, by the fastest arithmetic that gives its gradients up to rounding."""
        from . import attack_model  # training does without

        return attack_model.fastest(network)

    def exact_attack_model(self, network: nn.Module) -> AttackModel:
        """White box to it, without folded batch norms."""
        return TorchAttackModel(network)

    def format_of_bundle(self, manifest: Manifest) -> tuple[int, int, int]:
        """How many classes, width and height: the bundle may call its classes otherwise."""
        return len(manifest.labels), manifest.input.width, manifest.input.height

    def format_of_checkpoint(self, saved: Any) -> tuple[int, int, int]:
        """Images are square."""
        return len(saved.classes), saved.recipe.data.size_px, saved.recipe.data.size_px

    def known_targets(self, bundle: Bundle, surrogate: Any, images: Path | None) -> AttackTargets:
        """The bundle's reference images and those of a folder, each once."""
        return attack_targets.known(bundle, surrogate.classes, images)

    def training_targets(self, dataset: data.ImageDataset) -> AttackTargets:
        """Training images with their classes."""
        return attack_targets.of_dataset(dataset)

    def suites(self) -> SuiteHelp:
        """The suites of a classifier."""
        from .evaluation import suites  # training does without

        return SuiteHelp(
            "suites of a classifier:",
            {suite: found.about for suite, found in suites.SUITES.items()},
        )

    def evaluate(self, request: EvaluationRequest) -> EvaluationOutcome:
        """Accuracy clean, under gray-box, white-box and query attacks, corruptions and noise."""
        from .evaluation import command  # training does without

        return command.evaluate(self, request)


def rank_advice(recipe: Recipe, embedding_width: int) -> str | None:
    """What to say when the similarity term correlates more features than a batch has images ."""
    settings = recipe.similarity
    width = settings.projector_width if settings.projector == "used" else embedding_width
    compared = min(width, settings.features) if settings.features else width
    batch = recipe.optimizer.batch_size
    if settings.form == "none" or compared < batch:
        return None
    return (
        f"the similarity term correlates {compared} features over a batch of {batch}: that matrix has at most rank "
        f"{batch - 1}, so the identity is out of reach; set optimizer.batch_size above {compared}, "
        f"similarity.features to {max(1, batch // 2)}, or a narrower projector "
        "(similarity.projector: used, projector_width)"
    )


TASK = ClassificationTask()
