"""A printed patch that travels with a bundle: made on a surrogate and training pictures, for any picture and place.

It is no part of the self test's suite: what it does depends on where it happens to lie. Ask for it by name, with a
limit: `lisard attack run BUNDLE --suite patch=0.5`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from torch import Tensor

from lisard_ros import bundle as bundles
from lisard_ros.bundle import Bundle
from lisard_ros.errors import BundleError
from lisard_ros.injection import patch_store
from lisard_ros.injection.oracle import Boxes, Goal, Label, Oracle
from lisard_ros.injection.patch import PatchSettings, patch
from lisard_ros.injection.patch_store import StoredPatch
from lisard_ros.injection.placement import Floats, Placement, sites_of
from lisard_ros.manifest import Perturbation

from .. import data
from ..data.detection import kinds as detection_kinds
from ..evaluation.run import spread
from ..training import task as tasks
from ..training.checkpoint import Checkpoint
from .classification import export
from .classification.attack_model import TorchOracle
from .detection import export as detector_export
from .detection.attack_model import DetectorOracle

NAME, FILE = "patch", "patch.npz"
PICTURES = {"classification": 2048, "detection": 160}  # training pictures that it is made on, at most
BATCH = {"classification": 64, "detection": 8}


@dataclass(frozen=True)
class PatchRequest:
    """share: area of the patch as a share of the picture at most, half of it at least; steps of Adam; seed."""

    share: float = 0.1
    steps: int = 200
    seed: int = 0

    @property
    def placement(self) -> Placement:
        """Anywhere, and in training beside the true boxes, which it must not hide."""
        return Placement("anywhere", self.share / 2, self.share)


@dataclass(frozen=True, eq=False)
class Studio:
    """The attacker's network and pictures x [N,3,H,W] in [0,1], what is wanted of them, and content [N,4] if padded."""

    oracle: Oracle
    x: Tensor
    goal: Goal
    content: Floats | None = None


def add(folder: Path, surrogate: Checkpoint, training: str | None, request: PatchRequest) -> Bundle:
    """Makes a patch and writes it into the bundle at `folder`, in the place of an older one."""
    bundle = bundles.read(folder)
    task, spec = bundle.manifest.task, bundle.manifest.input
    settings = PatchSettings(request.placement, steps=request.steps, batch=BATCH[task])
    ours, theirs = (task, len(bundle.manifest.labels)), (surrogate.recipe.task, len(surrogate.classes))
    if ours != theirs:
        raise BundleError(
            "surrogate",
            found=f"{theirs[0]} of {theirs[1]} classes",
            expected=f"the bundle's {ours[0]} of {ours[1]} classes",
            cure="give the run folder of a training on the same data",
        )
    studio = (_of_detector if task == "detection" else _of_classifier)(surrogate, training)
    size = (int(studio.x.shape[3]), int(studio.x.shape[2]))
    if size != (spec.width, spec.height):
        raise BundleError(
            "surrogate",
            found=f"pictures of {size[0]}x{size[1]} px",
            cure="train one of the same size",
            expected=f"{spec.width}x{spec.height} px",
        )
    sites = sites_of(studio.x, studio.goal, studio.content)
    made = patch(studio.oracle, studio.x, sites, studio.goal, settings, request.seed)
    return _write(bundle, surrogate, StoredPatch(patch_store.quantise(made), request.placement), request)


def _of_classifier(surrogate: Checkpoint, training: str | None) -> Studio:
    pictures = tasks.of(surrogate.recipe).load(surrogate.recipe, training).train
    some = pictures.take(spread(len(pictures), PICTURES["classification"]))
    goal = Label(some.labels.numpy())
    return Studio(TorchOracle(export.classifier(surrogate)), data.to_unit(some.images), goal)


def _of_detector(surrogate: Checkpoint, training: str | None) -> Studio:
    scenes = detection_kinds.load(surrogate.recipe.data, training).train
    some = scenes.take(spread(len(scenes), PICTURES["detection"]))
    x = some.images.float().div(255).contiguous()
    goal = Boxes(some.boxes.numpy(), np.asarray(some.labels.numpy(), np.int64), "class")
    content = some.content.numpy().astype(np.float64)
    return Studio(DetectorOracle(detector_export.detector(surrogate)), x, goal, content)


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
