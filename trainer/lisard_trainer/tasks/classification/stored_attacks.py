"""Perturbations that travel with a classification bundle: made on a surrogate, against the true classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lisard_ros.attacks import store
from lisard_ros.attacks.gradient import fgsm, pgd
from lisard_ros.attacks.model import Untargeted
from lisard_ros.attacks.torch_model import TorchAttackModel
from lisard_ros.attacks.universal import UniversalSettings, universal
from lisard_ros.bundle import Bundle
from lisard_ros.errors import BundleError, DataError
from lisard_ros.evaluation import references
from lisard_ros.frames import pixels_sha256

from ... import data
from ...data.subset import spread
from ...training.checkpoint import Checkpoint
from ..base import PatchStudio, Perturbations, PerturbationSettings
from ..stored_attacks import FGSM_NAME, PGD_NAME
from . import network

UNIVERSAL_IMAGES = 2048
PATCH_IMAGES, PATCH_BATCH = 2048, 64


@dataclass(frozen=True, eq=False)
class Targets:
    """What is attacked: x float32 [N,3,H,W] on the 8-bit grid, own classes int64 [N], and the key of each image."""

    x: Tensor
    own: np.ndarray
    keys: tuple[str, ...] = field(default=())


def make(
    bundle: Bundle,
    surrogate: Checkpoint,
    dataset: Path | None,
    training: Callable[[], data.ImageDataset],
    settings: PerturbationSettings,
) -> Perturbations:
    """Attacks the surrogate on the bundle's images and those given, and on training images."""
    _check_same_task(bundle, surrogate)
    attack_model = TorchAttackModel(network.trained(surrogate))
    targets = collect(bundle, surrogate.classes, dataset)
    made = {
        FGSM_NAME: fgsm(attack_model, targets.x, Untargeted(targets.own), settings.eps),
        PGD_NAME: pgd(
            attack_model, targets.x, Untargeted(targets.own), settings.pgd, np.random.default_rng(settings.seed)
        ),
    }
    deltas = {name: store.quantise(targets.x.numpy(), x.numpy(), settings.eps_255) for name, x in made.items()}
    return Perturbations(deltas, targets.keys, universal_delta(attack_model, training(), settings))


def _check_same_task(bundle: Bundle, surrogate: Checkpoint) -> None:
    size, spec = surrogate.recipe.data.size_px, bundle.manifest.input
    ours = (len(bundle.manifest.labels), spec.width, spec.height)
    theirs = (len(surrogate.classes), size, size)
    if ours != theirs:
        raise BundleError("surrogate", found=f"classes and size {theirs}", expected=f"the bundle's {ours}")


def collect(bundle: Bundle, classes: Sequence[str], dataset: Path | None) -> Targets:
    """The bundle's self-test images and, if given, those of a folder; each image once."""
    images, own = _self_test_images(bundle)
    if dataset is not None:
        more = data.read(dataset, bundle.manifest.input.width)
        images += list(more.images.permute(0, 2, 3, 1).contiguous().numpy())
        own += [_class_index(classes, more.classes[label]) for label in more.labels.tolist()]
    first = {pixels_sha256(image): position for position, image in reversed(list(enumerate(images)))}
    chosen = sorted(first.values())
    x = np.stack([images[position] for position in chosen]).transpose(0, 3, 1, 2)
    keys = tuple(pixels_sha256(images[position]) for position in chosen)
    return Targets(data.to_unit(torch.from_numpy(x)), np.array([own[position] for position in chosen]), keys)


def _self_test_images(bundle: Bundle) -> tuple[list[np.ndarray], list[int]]:
    test = bundle.manifest.self_test
    if test is None:
        return [], []
    found = references.load(bundle, test)
    return [np.ascontiguousarray(frame.image) for frame in found.frames], found.labels.tolist()


def _class_index(classes: Sequence[str], name: str) -> int:
    if name not in classes:
        raise DataError("class folder of the images", found=name, expected="a class of the training data")
    return list(classes).index(name)


def universal_delta(
    attack_model: TorchAttackModel, training: data.ImageDataset, settings: PerturbationSettings
) -> store.Deltas:
    """One delta [1,3,H,W] for any image, made on training images."""
    random = np.random.default_rng(settings.seed)
    some = training.take(random.permutation(len(training))[:UNIVERSAL_IMAGES])
    x = data.to_unit(some.images)
    delta = universal(attack_model, x, Untargeted(some.labels.numpy()), UniversalSettings(eps=settings.eps), random)
    levels = np.rint(delta.numpy() * store.GREY_LEVELS)
    return np.asarray(np.clip(levels, -settings.eps_255, settings.eps_255), np.int16)


def patch_studio(surrogate: Checkpoint, training: data.ImageDataset) -> PatchStudio:
    """The surrogate and training images, evenly spread."""
    some = training.take(spread(len(training), PATCH_IMAGES))
    criterion = Untargeted(some.labels.numpy())
    attack_model = TorchAttackModel(network.trained(surrogate))
    return PatchStudio(attack_model, data.to_unit(some.images), criterion, None, PATCH_BATCH)
