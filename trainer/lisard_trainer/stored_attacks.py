"""Perturbations that travel with a bundle: made on a surrogate, in whole grey levels, bound to the pixels they are for.

The self test of the bundle is extended by each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from lisard_ros import bundle as bundles
from lisard_ros import limits, references
from lisard_ros.bundle import Bundle
from lisard_ros.errors import BundleError, DataError
from lisard_ros.frames import pixels_sha256
from lisard_ros.injection import store
from lisard_ros.injection.gradient import Pgd, fgsm, pgd
from lisard_ros.injection.momentum import Momentum, Smoothing
from lisard_ros.injection.oracle import Label
from lisard_ros.injection.universal import Universal, universal
from lisard_ros.manifest import Manifest, Perturbation

from . import data, export, tasks
from .checkpoint import Checkpoint
from .oracle import TorchOracle

FGSM_NAME, PGD_NAME, UNIVERSAL_NAME = "gray_fgsm", "gray_pgd10", "universal"
TI_NAME = "gray_ti_fgsm"
PGD_STEPS = 10
PGD_STEP_SHARE = 0.25  # of the budget: 2/255 of 8/255, as published
UNIVERSAL_PICTURES = 2048


@dataclass(frozen=True)
class Settings:
    """Budget in whole grey levels (Linf), and the seed of every random number."""

    eps_255: int = 8
    seed: int = 0

    @property
    def eps(self) -> float:
        return self.eps_255 / 255

    @property
    def pgd(self) -> Pgd:
        return Pgd(eps=self.eps, step=PGD_STEP_SHARE * self.eps, steps=PGD_STEPS)

    @property
    def smoothed(self) -> Momentum:
        """TI-FGSM with PGD's steps: of the attacks on a surrogate, the one that carries over between detectors."""
        return Momentum(self.eps, PGD_STEPS, step=PGD_STEP_SHARE * self.eps, smoothing=Smoothing())


@dataclass(frozen=True, eq=False)
class Targets:
    """What is attacked: x float32 [N,3,H,W] on the 8-bit grid, own classes int64 [N], and the key of each picture."""

    x: Tensor
    own: np.ndarray
    keys: tuple[str, ...] = field(default=())


@dataclass(frozen=True, eq=False)
class Made:
    """Perturbations in grey levels: of known pictures by name, [N,3,H,W] with their keys, and `shared` [1,3,H,W]."""

    deltas: Mapping[str, store.Deltas]
    keys: tuple[str, ...]
    shared: store.Deltas


def add(folder: Path, surrogate: Checkpoint, pictures: Path | None, training: str | None, settings: Settings) -> Bundle:
    """Makes perturbations of known pictures and a universal one and writes them into the bundle at `folder`."""
    bundle = bundles.read(folder)
    if surrogate.recipe.task != bundle.manifest.task:
        raise BundleError(
            "surrogate is for another task than the bundle",
            found=surrogate.recipe.task,
            expected=bundle.manifest.task,
            cure="give the run folder of such a training",
        )
    if bundle.manifest.task == "detection":
        from .detector import stored_attacks as of_boxes  # it uses this module

        made = of_boxes.make(bundle, surrogate, pictures, training, settings)
    else:
        made = make(bundle, surrogate, pictures, training, settings)
    return _write(bundle, surrogate, made, settings)


def make(bundle: Bundle, surrogate: Checkpoint, pictures: Path | None, folder: str | None, settings: Settings) -> Made:
    """Attacks the surrogate on the bundle's pictures and those given, and on training pictures of the folder."""
    _check_same_task(bundle, surrogate)
    oracle = TorchOracle(export.classifier(surrogate))
    targets = collect(bundle, surrogate.classes, pictures)
    made = {
        FGSM_NAME: fgsm(oracle, targets.x, Label(targets.own), settings.eps),
        PGD_NAME: pgd(oracle, targets.x, Label(targets.own), settings.pgd, np.random.default_rng(settings.seed)),
    }
    deltas = {name: store.quantise(targets.x.numpy(), x.numpy(), settings.eps_255) for name, x in made.items()}
    seen = tasks.of(surrogate.recipe).load(surrogate.recipe, folder).train
    return Made(deltas, targets.keys, universal_delta(oracle, seen, settings))


def _check_same_task(bundle: Bundle, surrogate: Checkpoint) -> None:
    size, spec = surrogate.recipe.data.size_px, bundle.manifest.input
    ours = (len(bundle.manifest.labels), spec.width, spec.height)
    theirs = (len(surrogate.classes), size, size)
    if ours != theirs:
        raise BundleError("surrogate", found=f"classes and size {theirs}", expected=f"the bundle's {ours}")


def collect(bundle: Bundle, classes: Sequence[str], pictures: Path | None) -> Targets:
    """The bundle's self-test pictures and, if given, those of a folder; each picture once."""
    images, own = _self_test_pictures(bundle)
    if pictures is not None:
        more = data.read(pictures, bundle.manifest.input.width)
        images += list(more.images.permute(0, 2, 3, 1).contiguous().numpy())
        own += [_class_index(classes, more.classes[label]) for label in more.labels.tolist()]
    first = {pixels_sha256(image): position for position, image in reversed(list(enumerate(images)))}
    chosen = sorted(first.values())
    x = np.stack([images[position] for position in chosen]).transpose(0, 3, 1, 2)
    keys = tuple(pixels_sha256(images[position]) for position in chosen)
    return Targets(data.to_unit(torch.from_numpy(x)), np.array([own[position] for position in chosen]), keys)


def _self_test_pictures(bundle: Bundle) -> tuple[list[np.ndarray], list[int]]:
    test = bundle.manifest.self_test
    if test is None:
        return [], []
    found = references.load(bundle, test)
    return [np.ascontiguousarray(frame.image) for frame in found.frames], found.labels.tolist()


def _class_index(classes: Sequence[str], name: str) -> int:
    if name not in classes:
        raise DataError("class folder of the pictures", found=name, expected="a class of the training data")
    return list(classes).index(name)


def universal_delta(oracle: TorchOracle, training: data.Pictures, settings: Settings) -> store.Deltas:
    """One delta [1,3,H,W] for any picture, made on training pictures."""
    random = np.random.default_rng(settings.seed)
    some = training.take(random.permutation(len(training))[:UNIVERSAL_PICTURES])
    x = data.to_unit(some.images)
    delta = universal(oracle, x, Label(some.labels.numpy()), Universal(eps=settings.eps), random)
    levels = np.rint(delta.numpy() * store.GREY_LEVELS)
    return np.asarray(np.clip(levels, -settings.eps_255, settings.eps_255), np.int16)


def _write(bundle: Bundle, surrogate: Checkpoint, made: Made, settings: Settings) -> Bundle:
    about = [_about(name, own, surrogate, settings) for name, own in made.deltas.items()]
    about.append(_about(UNIVERSAL_NAME, made.shared, surrogate, settings))
    kept = [p for p in bundle.manifest.perturbations if p.name not in {a.name for a in about}]
    replaced = {p.file for p in bundle.manifest.perturbations} - {p.file for p in kept}
    contents = {name: content for name, content in bundle.contents.items() if name not in replaced}
    contents |= {f"{name}.npz": store.dump(own, made.keys) for name, own in made.deltas.items()}
    contents[f"{UNIVERSAL_NAME}.npz"] = store.dump(made.shared, None)
    manifest = msgspec.structs.replace(bundle.manifest, perturbations=(*kept, *about))
    written = bundles.write(bundle.path, _without_suite_of(manifest, about), contents, overwrite=True)
    return bundles.write(bundle.path, _with_suite(written, about), contents, overwrite=True)


def _about(name: str, deltas: store.Deltas, surrogate: Checkpoint, settings: Settings) -> Perturbation:
    attacks = {
        FGSM_NAME: ("fgsm", 1),
        PGD_NAME: ("pgd", PGD_STEPS),
        TI_NAME: ("ti_fgsm", PGD_STEPS),
        UNIVERSAL_NAME: ("universal", Universal().epochs),
    }
    attack, steps = attacks[name]
    return Perturbation(
        name=name,
        file=f"{name}.npz",
        kind="universal" if name == UNIVERSAL_NAME else "stored",
        attack=attack,
        knowledge="gray-box",
        eps_255=float(settings.eps_255),
        steps=steps,
        seed=settings.seed,
        count=len(deltas),
        made_on=f"{surrogate.recipe.name} (seed {surrogate.recipe.seed}, {surrogate.epoch} epochs)",
    )


def _without_suite_of(manifest: Manifest, about: Sequence[Perturbation]) -> Manifest:
    test = manifest.self_test
    if test is None:
        return manifest
    names = {a.name for a in about}
    suite = tuple(case for case in test.suite if case.injection not in names)
    return msgspec.structs.replace(manifest, self_test=msgspec.structs.replace(test, suite=suite))


def _with_suite(bundle: Bundle, about: Sequence[Perturbation]) -> Manifest:
    """Adds each perturbation to the self test, its limit a margin below what the bundle reaches now."""
    test = bundle.manifest.self_test
    if test is None:
        return bundle.manifest
    added = limits.measure(bundle, [a.name for a in about])
    return msgspec.structs.replace(
        bundle.manifest, self_test=msgspec.structs.replace(test, suite=(*test.suite, *added))
    )
