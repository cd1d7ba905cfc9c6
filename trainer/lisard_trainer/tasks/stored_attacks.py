"""Perturbations that travel with a bundle: made on a surrogate, in whole grey levels, bound to the pixels they are for.

The self test of the bundle is extended by each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from torch import Tensor, nn

from lisard_ros import bundle as bundles
from lisard_ros.attacks import patch_store, store
from lisard_ros.attacks.gradient import PGD, fgsm, pgd
from lisard_ros.attacks.mifgsm import MIFGSM, GradientSmoothing, mifgsm
from lisard_ros.attacks.model import AttackModel
from lisard_ros.attacks.patch import PatchSettings
from lisard_ros.attacks.patch_start import strongest_patch
from lisard_ros.attacks.patch_store import StoredPatch
from lisard_ros.attacks.placement import Placement, on_boxes, regions_of
from lisard_ros.attacks.universal import UniversalSettings, universal
from lisard_ros.backends.pytorch import load_network
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import Knowledge, Manifest, Perturbation
from lisard_ros.errors import BundleError, UsageError
from lisard_ros.evaluation import self_test_limits
from lisard_ros.evaluation.references import spread

from .. import recipes, task_registry
from ..evaluation import models
from ..training.checkpoint import Checkpoint
from .base import (
    FGSM_NAME,
    PGD_NAME,
    PGD_STEP_SHARE,
    PGD_STEPS,
    TI_NAME,
    UNIVERSAL_NAME,
    AttackTargets,
    Task,
)

PATCH_NAME = "patch"
PATCH_RATE = 0.1  # of the first step
METHODS = {
    FGSM_NAME: ("fgsm", 1),
    PGD_NAME: ("pgd", PGD_STEPS),
    TI_NAME: ("ti_fgsm", PGD_STEPS),
    UNIVERSAL_NAME: ("universal", UniversalSettings().epochs),
}  # name -> attack and steps, as the manifest has them


@dataclass(frozen=True)
class PerturbationSettings:
    """Budget in whole grey levels (Linf), and the seed of every random number."""

    eps_255: int = 8
    seed: int = 0

    @property
    def eps(self) -> float:
        """The budget in [0, 1]."""
        return self.eps_255 / 255


def add(
    folder: Path, surrogate: Checkpoint, images: Path | None, training: str | None, settings: PerturbationSettings
) -> Bundle:
    """Makes perturbations of known images and a universal one and writes them into the bundle at `folder`."""
    bundle, task = bundles.read(folder), task_registry.of(surrogate.recipe)
    check_surrogate(task, bundle, surrogate)
    model = task.exact_attack_model(task.trained_network(surrogate))
    targets = task.known_targets(bundle, surrogate, images)
    x = targets.x.numpy()
    contents, made = dict(bundle.contents), []
    stored: dict[str, tuple[store.Deltas, Sequence[str] | None]] = {}
    for name in task.stored_attacks.attacks:
        attacked = attack(name, model, targets, settings).numpy()
        stored[name] = store.quantise(x, attacked, settings.eps_255), targets.keys
    shared = universal_delta(task, model, task.load(surrogate.recipe, training).train, settings)
    stored[UNIVERSAL_NAME] = shared, None
    for name, (deltas, keys) in stored.items():
        contents[f"{name}.npz"] = store.dump(deltas, keys)
        method, steps = METHODS[name]
        about = Perturbation(
            name=name,
            file=f"{name}.npz",
            kind="universal" if name == UNIVERSAL_NAME else "stored",
            attack=method,
            knowledge="gray-box",
            eps_255=float(settings.eps_255),
            steps=steps,
            seed=settings.seed,
            count=len(deltas),
            made_on=_made_on(surrogate),
        )
        made.append(about)
    return _with_limits(bundle, made, contents)


def _with_limits(bundle: Bundle, made: Sequence[Perturbation], contents: dict[str, bytes]) -> Bundle:
    """Writes the bundle with these perturbations, and its self test extended by them."""
    manifest, contents = _replaced(bundle, made, contents)
    test, names = manifest.self_test, {about.name for about in made}
    if test is None:
        return bundles.write(bundle.path, manifest, contents, overwrite=True)
    test = msgspec.structs.replace(test, suite=tuple(case for case in test.suite if case.injection not in names))
    manifest = msgspec.structs.replace(manifest, self_test=test)
    written = bundles.write(bundle.path, manifest, contents, overwrite=True)
    # The limit of each is a margin below what the bundle reaches now.
    added = self_test_limits.measure(written, [about.name for about in made])
    test = msgspec.structs.replace(test, suite=(*test.suite, *added))
    manifest = msgspec.structs.replace(written.manifest, self_test=test)
    return bundles.write(bundle.path, manifest, contents, overwrite=True)


def check_surrogate(task: Task, bundle: Bundle, surrogate: Checkpoint) -> None:
    """BundleError when the surrogate is for another task, other classes or another input size than the bundle."""
    models.check_task(bundle.manifest.task, {models.SURROGATE: surrogate})
    models.check_format(task, bundle.manifest, models.SURROGATE, surrogate)


def attack(name: str, model: AttackModel, targets: AttackTargets, settings: PerturbationSettings) -> Tensor:
    """The attacked images [N,3,H,W], not yet rounded: FGSM and PGD as published; TI-FGSM with PGD's steps, which of the
    attacks on a surrogate carries over between detectors.
    """
    random, step = np.random.default_rng(settings.seed), PGD_STEP_SHARE * settings.eps
    attacked: Tensor
    if name == FGSM_NAME:
        attacked = fgsm(model, targets.x, targets.criterion, settings.eps)
    elif name == PGD_NAME:
        attacked = pgd(model, targets.x, targets.criterion, PGD(settings.eps, step, PGD_STEPS), random)
    else:
        smoothed = MIFGSM(settings.eps, PGD_STEPS, step=step, smoothing=GradientSmoothing())
        attacked = mifgsm(model, targets.x, targets.criterion, smoothed, random)
    return attacked


def universal_delta(task: Task, model: AttackModel, training: Any, settings: PerturbationSettings) -> store.Deltas:
    """One delta [1,3,H,W] for any image, made on training images."""
    random = np.random.default_rng(settings.seed)
    chosen = training.take(random.permutation(len(training))[: task.stored_attacks.universal_images])
    targets = task.training_targets(chosen)
    how = UniversalSettings(eps=settings.eps, batch=task.stored_attacks.universal_batch)
    delta = universal(model, targets.x, targets.criterion, how, random)
    levels = np.rint(delta.numpy() * store.GREY_LEVELS)
    return np.asarray(np.clip(levels, -settings.eps_255, settings.eps_255), np.int16)


def _replaced(
    bundle: Bundle, made: Sequence[Perturbation], contents: dict[str, bytes]
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and the files of a bundle with perturbations in place of those of the same name."""
    names = {about.name for about in made}
    kept = [p for p in bundle.manifest.perturbations if p.name not in names]
    left = {p.file for p in bundle.manifest.perturbations} - {p.file for p in (*kept, *made)}
    manifest = msgspec.structs.replace(bundle.manifest, perturbations=(*kept, *made))
    return manifest, {name: content for name, content in contents.items() if name not in left}


def _made_on(surrogate: Checkpoint) -> str:
    return f"{surrogate.recipe.name} (seed {surrogate.recipe.seed}, {surrogate.epoch} epochs)"


@dataclass(frozen=True)
class PatchRequest:
    """share: area of the patch as a share of the image at most, half of it at least; steps of Adam; seed.

    on_objects: made on the true boxes of training images, at most `share` of each; else beside them.
    """

    share: float = 0.1
    steps: int = 200
    seed: int = 0
    on_objects: bool = False

    @property
    def making(self) -> Placement:
        """Where it lies in training images: on each true box, or anywhere beside them, where it hides none."""
        return on_boxes(self.share) if self.on_objects else Placement("anywhere", self.share / 2, self.share)

    @property
    def placement(self) -> Placement:
        """Where the injection of its name lays it: anywhere, since the true boxes of a live image are unknown."""
        return Placement() if self.on_objects else self.making


@dataclass(frozen=True, eq=False)
class PatchVictim:
    """The network that a patch is made on, the recipe of its training images, and what the attacker so knows.

    made_on: the surrogate in words; '' for the bundle's own network.
    """

    network: nn.Module
    recipe: Any
    knowledge: Knowledge
    made_on: str = ""


def _surrogate_victim(bundle: Bundle, surrogate: Checkpoint) -> PatchVictim:
    task = task_registry.of(surrogate.recipe)
    check_surrogate(task, bundle, surrogate)
    return PatchVictim(task.trained_network(surrogate), surrogate.recipe, "gray-box", _made_on(surrogate))


def _own_victim(bundle: Bundle) -> PatchVictim:
    """The bundle's own network: an attacker who has the vehicle's model."""
    card = bundle.manifest.card
    if card is None or not card.recipe:
        raise BundleError(
            f"bundle {bundle.manifest.name} does not say how its images are read",
            found="no recipe in its card",
            expected="a bundle of `lisard train`",
            cure="make the patch on a surrogate: --surrogate RUN",
        )
    recipe = recipes.from_mapping(msgspec.json.decode(card.recipe), bundle.manifest.name)
    return PatchVictim(load_network(bundle).requires_grad_(False), recipe, "white-box")


def add_patch(folder: Path, surrogate: Checkpoint | None, training: str | None, request: PatchRequest) -> Bundle:
    """Makes a printed patch for any image and place and writes it into the bundle at `folder`.

    surrogate: what it is made on (gray-box); None: the bundle's own network (white-box).

    It is no part of the self test's suite: what it does depends on where it happens to lie. Ask for it by name, with a
    limit: `lisard attack run BUNDLE --suite patch=0.5`.
    """
    bundle = bundles.read(folder)
    victim = _own_victim(bundle) if surrogate is None else _surrogate_victim(bundle, surrogate)
    task = task_registry.of(victim.recipe)
    plan = task.stored_attacks
    settings = PatchSettings(request.making, steps=request.steps, batch=plan.patch_batch, rate=PATCH_RATE)
    dataset = task.load(victim.recipe, training).train
    targets = task.training_targets(dataset.take(spread(np.arange(len(dataset)), plan.patch_images)))
    criterion = task.patch_criterion(targets.criterion)
    model = task.attack_model(victim.network)
    regions = regions_of(targets.x, criterion, targets.content)
    if request.on_objects and not regions.known.any():
        raise UsageError(
            "a patch on objects needs training images with boxes",
            found="none",
            expected="a detector's",
            cure="leave out --on-objects: an image of a classifier is its object",
        )
    made = strongest_patch(model, targets.x, regions, criterion, settings, request.seed)
    about = Perturbation(
        name=PATCH_NAME,
        file=f"{PATCH_NAME}.npz",
        kind="patch",
        attack="patch",
        knowledge=victim.knowledge,
        eps_255=255.0,
        steps=request.steps,
        seed=request.seed,
        count=1,
        made_on=victim.made_on,
    )
    stored = patch_store.dump(StoredPatch(patch_store.quantise(made), request.placement))
    manifest, contents = _replaced(bundle, [about], {**bundle.contents, about.file: stored})
    return bundles.write(bundle.path, manifest, contents, overwrite=True)
