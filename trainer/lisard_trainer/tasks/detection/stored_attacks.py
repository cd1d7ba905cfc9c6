"""Perturbations that travel with a detection bundle: made on a surrogate detector, against the true boxes.

FGSM, PGD-10 and TI-FGSM on the joint loss for the self-test images, and one universal perturbation for any image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lisard_ros.attacks import store
from lisard_ros.attacks.gradient import fgsm, pgd
from lisard_ros.attacks.mifgsm import mifgsm
from lisard_ros.attacks.model import BoxCriterion
from lisard_ros.attacks.universal import UniversalSettings, universal
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import InputSpec, TrueBox
from lisard_ros.errors import BundleError, UsageError
from lisard_ros.evaluation import references
from lisard_ros.frames import Frame, pixels_sha256
from lisard_ros.inference.preprocess import fit, prepare

from ...data.detection import NOTHING, Scenes
from ...data.subset import spread
from ...training.checkpoint import Checkpoint
from ..base import PatchStudio, Perturbations, PerturbationSettings
from ..stored_attacks import FGSM_NAME, PGD_NAME, TI_NAME
from . import network
from .attack_model import DetectorAttackModel

UNIVERSAL_IMAGES, UNIVERSAL_BATCH = 192, 16  # 60 steps in all
PATCH_IMAGES, PATCH_BATCH = 160, 8


@dataclass(frozen=True, eq=False)
class Targets:
    """What is attacked: x float32 [N,3,H,W] on the 8-bit grid, the true boxes in it, and the key of each image."""

    x: Tensor
    criterion: BoxCriterion
    keys: tuple[str, ...]


def make(
    bundle: Bundle,
    surrogate: Checkpoint,
    images: Path | None,
    training: Callable[[], Scenes],
    settings: PerturbationSettings,
) -> Perturbations:
    """Attacks the surrogate on the bundle's self-test images, and on training scenes."""
    if images is not None:
        raise UsageError(
            "--images",
            found=images,
            expected="nothing, for a detector",
            cure="leave it out: a detector's perturbations are large, so only the self-test images "
            "get some of their own, and the universal one is for all others",
        )
    _check_same_task(bundle, surrogate)
    attack_model, targets = DetectorAttackModel(network.trained(surrogate)), collect(bundle)
    made = {
        FGSM_NAME: fgsm(attack_model, targets.x, targets.criterion, settings.eps),
        PGD_NAME: pgd(attack_model, targets.x, targets.criterion, settings.pgd, np.random.default_rng(settings.seed)),
        TI_NAME: mifgsm(
            attack_model, targets.x, targets.criterion, settings.smoothed, np.random.default_rng(settings.seed)
        ),
    }
    x = targets.x.numpy()
    deltas = {name: store.quantise(x, attacked.numpy(), settings.eps_255) for name, attacked in made.items()}
    return Perturbations(deltas, targets.keys, universal_delta(attack_model, training(), settings))


def _check_same_task(bundle: Bundle, surrogate: Checkpoint) -> None:
    size, manifest = surrogate.recipe.data, bundle.manifest
    ours = (manifest.labels, manifest.input.width, manifest.input.height)
    theirs = (surrogate.classes, size.width_px, size.height_px)
    if ours != theirs:
        raise BundleError(
            "surrogate",
            found=f"classes and size {theirs}",
            expected=f"the bundle's {ours}",
            cure="use a model trained on the same data",
        )


def collect(bundle: Bundle) -> Targets:
    """The self-test images as the network meets them."""
    test = bundle.manifest.self_test
    if test is None:
        raise BundleError(
            f"bundle {bundle.manifest.name} has no images to attack",
            found="no self test",
            expected="`self_test`",
            cure="export it again with `lisard export`",
        )
    found = references.load(bundle, test)
    pixels = [frame.rgb() for frame in found.frames]
    keys = tuple(pixels_sha256(rgb) for rgb in pixels)
    x = torch.from_numpy(prepare(pixels, bundle.manifest.input))
    return Targets(x, criterion_of(found.frames, test.boxes, bundle.manifest.input), keys)


def criterion_of(frames: Sequence[Frame], truths: Sequence[tuple[TrueBox, ...]], spec: InputSpec) -> BoxCriterion:
    """The true boxes of all frames, moved to input pixels and padded to one number of boxes."""
    most = max(len(boxes) for boxes in truths)
    corners, labels = np.zeros((len(truths), most, 4)), np.full((len(truths), most), NOTHING, np.int64)
    for row, (frame, boxes) in enumerate(zip(frames, truths, strict=True)):
        own = np.array([box.box_xyxy_px for box in boxes], np.float64).reshape(-1, 4)
        corners[row, : len(boxes)] = fit(frame.width_px, frame.height_px, spec).to_input(own)
        labels[row, : len(boxes)] = [box.label for box in boxes]
    return BoxCriterion(corners, labels, "joint")


def universal_delta(attack_model: DetectorAttackModel, scenes: Scenes, settings: PerturbationSettings) -> store.Deltas:
    """One delta [1,3,H,W] for any image, made on training scenes."""
    random = np.random.default_rng(settings.seed)
    some = scenes.take(random.permutation(len(scenes))[:UNIVERSAL_IMAGES])
    x = some.images.float().div(255).contiguous()
    criterion = BoxCriterion(some.boxes.numpy(), some.labels.numpy(), "joint")
    delta = universal(attack_model, x, criterion, UniversalSettings(eps=settings.eps, batch=UNIVERSAL_BATCH), random)
    levels = np.rint(delta.numpy() * store.GREY_LEVELS)
    return np.asarray(np.clip(levels, -settings.eps_255, settings.eps_255), np.int16)


def patch_studio(surrogate: Checkpoint, training: Scenes) -> PatchStudio:
    """The surrogate and training scenes with their boxes, evenly spread."""
    some = training.take(spread(len(training), PATCH_IMAGES))
    x = some.images.float().div(255).contiguous()
    criterion = BoxCriterion(some.boxes.numpy(), np.asarray(some.labels.numpy(), np.int64), "class")
    attack_model = DetectorAttackModel(network.trained(surrogate))
    return PatchStudio(attack_model, x, criterion, some.content.numpy().astype(np.float64), PATCH_BATCH)
