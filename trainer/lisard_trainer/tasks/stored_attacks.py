"""Perturbations that travel with a bundle: made on a surrogate, in whole grey levels, bound to the pixels they are for.

The self test of the bundle is extended by each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from lisard_ros import bundle as bundles
from lisard_ros.attacks import store
from lisard_ros.attacks.universal import UniversalSettings
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import Manifest, Perturbation
from lisard_ros.errors import BundleError
from lisard_ros.evaluation import self_test_limits

from .. import task_registry
from ..training.checkpoint import Checkpoint
from .base import PGD_STEPS, Perturbations, PerturbationSettings

FGSM_NAME, PGD_NAME, UNIVERSAL_NAME = "gray_fgsm", "gray_pgd10", "universal"
TI_NAME = "gray_ti_fgsm"


def add(
    folder: Path, surrogate: Checkpoint, images: Path | None, training: str | None, settings: PerturbationSettings
) -> Bundle:
    """Makes perturbations of known images and a universal one and writes them into the bundle at `folder`."""
    bundle = bundles.read(folder)
    if surrogate.recipe.task != bundle.manifest.task:
        raise BundleError(
            "surrogate is for another task than the bundle",
            found=surrogate.recipe.task,
            expected=bundle.manifest.task,
            cure="give the run folder of such a training",
        )
    made = task_registry.of(surrogate.recipe).perturb(bundle, surrogate, images, training, settings)
    return _write(bundle, surrogate, made, settings)


def _write(bundle: Bundle, surrogate: Checkpoint, made: Perturbations, settings: PerturbationSettings) -> Bundle:
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


def _about(name: str, deltas: store.Deltas, surrogate: Checkpoint, settings: PerturbationSettings) -> Perturbation:
    attacks = {
        FGSM_NAME: ("fgsm", 1),
        PGD_NAME: ("pgd", PGD_STEPS),
        TI_NAME: ("ti_fgsm", PGD_STEPS),
        UNIVERSAL_NAME: ("universal", UniversalSettings().epochs),
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
    added = self_test_limits.measure(bundle, [a.name for a in about])
    return msgspec.structs.replace(
        bundle.manifest, self_test=msgspec.structs.replace(test, suite=(*test.suite, *added))
    )
