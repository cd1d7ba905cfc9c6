"""A printed patch that travels with a bundle: made on a surrogate and training images, for any image and place.

It is no part of the self test's suite: what it does depends on where it happens to lie. Ask for it by name, with a
limit: `lisard attack run BUNDLE --suite patch=0.5`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from lisard_ros import bundle as bundles
from lisard_ros.attacks import patch_store
from lisard_ros.attacks.patch import PatchSettings, patch
from lisard_ros.attacks.patch_store import StoredPatch
from lisard_ros.attacks.placement import Placement, on_boxes, regions_of
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import Perturbation
from lisard_ros.errors import UsageError
from lisard_ros.evaluation.references import spread

from .. import task_registry
from ..training.checkpoint import Checkpoint
from .stored_attacks import check_surrogate

NAME, FILE = "patch", "patch.npz"


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


def add(folder: Path, surrogate: Checkpoint, training: str | None, request: PatchRequest) -> Bundle:
    """Makes a patch and writes it into the bundle at `folder`, in the place of an older one."""
    bundle, task = bundles.read(folder), task_registry.of(surrogate.recipe)
    check_surrogate(task, bundle, surrogate)
    plan = task.stored_attacks
    settings = PatchSettings(request.making, steps=request.steps, batch=plan.patch_batch)
    dataset = task.load(surrogate.recipe, training).train
    targets = task.training_targets(dataset.take(spread(np.arange(len(dataset)), plan.patch_images)))
    criterion = task.patch_criterion(targets.criterion)
    model = task.exact_attack_model(task.trained_network(surrogate))
    regions = regions_of(targets.x, criterion, targets.content)
    if request.on_objects and not regions.known.any():
        raise UsageError(
            "a patch on objects needs training images with boxes",
            found="none",
            expected="a detector's",
            cure="leave out --on-objects: an image of a classifier is its object",
        )
    made = patch(model, targets.x, regions, criterion, settings, request.seed)
    return _write(bundle, surrogate, StoredPatch(patch_store.quantise(made), request.placement), request)


def _write(bundle: Bundle, surrogate: Checkpoint, stored: StoredPatch, request: PatchRequest) -> Bundle:
    about = Perturbation(
        name=NAME,
        file=FILE,
        kind="patch",
        attack="patch",
        knowledge="gray-box",
        eps_255=255.0,
        steps=request.steps,
        seed=request.seed,
        count=1,
        made_on=f"{surrogate.recipe.name} (seed {surrogate.recipe.seed}, {surrogate.epoch} epochs)",
    )
    kept = tuple(p for p in bundle.manifest.perturbations if p.name != NAME)
    taken = {p.file for p in bundle.manifest.perturbations} - {p.file for p in kept}
    contents = {name: content for name, content in bundle.contents.items() if name not in taken}
    contents[FILE] = patch_store.dump(stored)
    manifest = msgspec.structs.replace(bundle.manifest, perturbations=(*kept, about))
    return bundles.write(bundle.path, manifest, contents, overwrite=True)
