"""The task of detectors: what training, export and attacks need of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lisard_ros.attacks.model import AttackModel, BoxCriterion, Criterion
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import Manifest
from lisard_ros.errors import UsageError

from ...data.detection import Scenes, SceneSplit
from ...data.detection import load as load_scenes
from ...evaluation.report import EvaluationOutcome
from ...evaluation.request import EvaluationRequest, SuiteHelp, UnsupportedOption
from ...training.divergence import DivergenceGuard, StepLoss, StepValues
from ..base import FGSM_NAME, PGD_NAME, TI_NAME, AttackTargets, Exported, StoredAttackPlan, Task
from . import attack_targets, network, step
from .evaluation import metrics
from .network import Detector
from .recipe import DetectorRecipe
from .records import RECORDS, DetectionEpoch
from .step import PARTS, Run

GUESSING = 30.0  # loss of an untrained detector on scenes with few boxes, about


class DetectionTask(Task):
    """Boxes, and a class for each."""

    name = "detection"
    recipe_type = DetectorRecipe
    records = RECORDS
    stored_attacks = StoredAttackPlan((FGSM_NAME, PGD_NAME, TI_NAME), 192, 16, patch_images=160, patch_batch=8)
    unsupported_options = (
        UnsupportedOption("--compare", "a classifier", "leave --compare out"),
        UnsupportedOption("--eps", "a classifier", "a detector's suites have several budgets; see --only"),
        UnsupportedOption("--ensemble", "a classifier", "leave --ensemble out"),
        UnsupportedOption("--images", "--data with a list of boxes, for a detector"),
        UnsupportedOption("--tracks", "a classifier", "leave --tracks out"),
        UnsupportedOption("--device", "cpu, for a detector", "leave --device out", value="cuda"),
    )

    def load(self, recipe: DetectorRecipe, folder: str | None) -> SceneSplit:
        """Training and validation scenes."""
        return load_scenes(recipe.data, folder)

    def describe(self, split: SceneSplit) -> str:
        """How many images each part has."""
        return f"{len(split.train)} training and {len(split.validation)} validation images"

    def network(self, recipe: DetectorRecipe, classes: int) -> nn.Module:
        """A fresh detector with the weights of its training's terms."""
        return network.training(recipe, classes)

    def start_from_imagenet(self, network_: nn.Module) -> str:
        """Gives the backbone ImageNet weights; returns their sha256."""
        assert isinstance(network_, Detector)
        return network.start_from_imagenet(network_)

    def loss(self, run: Run, part: Tensor) -> StepLoss:
        """Loss of the training scenes around the images at the positions `part`."""
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
        seen = step.views(run, part)
        return step.compute(run.network, seen, recipe, run.generator, run.precision, measure)

    def epoch_record(self, run: Run, seen: Sequence[StepValues], begun: float) -> DetectionEpoch:
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

    def said(self, record: DetectionEpoch) -> str:
        """The validation figure of an epoch in words."""
        return f"validation AP {record.validation_ap:.3f}, AP50 {record.validation_ap50:.3f}"

    def divergence_guard(self, classes: int) -> DivergenceGuard:
        """Stops a network that is far worse than an untrained one."""
        return DivergenceGuard(classes, GUESSING)

    def export(self, saved: Any, split: SceneSplit, folder: Path, name: str, command: str) -> Exported:
        """Writes the bundle of a checkpoint."""
        from . import export  # onnx is slow to import, and training does without

        return export.export(saved, split, folder, name, command)

    def trained_network(self, saved: Any) -> nn.Module:
        """The detector: images to raw boxes [N,P,5+C]."""
        return network.trained(saved)

    def attack_model(self, network: nn.Module) -> AttackModel:
        """White box to it."""
        from .attack_model import DetectorAttackModel  # training does without

        return DetectorAttackModel(network)

    def format_of_bundle(self, manifest: Manifest) -> tuple[tuple[str, ...], int, int]:
        """Classes, width and height."""
        return manifest.labels, manifest.input.width, manifest.input.height

    def format_of_checkpoint(self, saved: Any) -> tuple[tuple[str, ...], int, int]:
        """Classes, width and height."""
        return saved.classes, saved.recipe.data.width_px, saved.recipe.data.height_px

    def known_targets(self, bundle: Bundle, surrogate: Any, images: Path | None) -> AttackTargets:
        """The bundle's reference scenes alone."""
        if images is not None:
            raise UsageError(
                "--images",
                found=images,
                expected="nothing, for a detector",
                cure="leave it out: a detector's perturbations are large, so only the self-test images "
                "get some of their own, and the universal one is for all others",
            )
        return attack_targets.known(bundle)

    def training_targets(self, dataset: Scenes) -> AttackTargets:
        """Training scenes with their boxes."""
        return attack_targets.of_scenes(dataset)

    def patch_criterion(self, criterion: Criterion) -> Criterion:
        """A patch raises the class loss."""
        assert isinstance(criterion, BoxCriterion)
        return replace(criterion, loss="class")

    def suites(self) -> SuiteHelp:
        """The suites of a detector."""
        from .evaluation import suites  # training does without

        return SuiteHelp(
            "suites of a detector (judged by AP; attacks: PGD-10 on class, location and joint loss, TOG, patches):",
            {suite: found.about for suite, found in suites.SUITES.items()},
        )

    def evaluate(self, request: EvaluationRequest) -> EvaluationOutcome:
        """AP clean, under gray-box and white-box attacks and patches, corruptions and noise."""
        from .evaluation import command  # training does without

        return command.evaluate(self, request)


TASK = DetectionTask()
