"""The detectors under test, each checked to have the bundle's classes and input size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from lisard_ros.backends.pytorch import load_network
from lisard_ros.bundle import Bundle
from lisard_ros.errors import BundleError

from ....evaluation.models import (
    SHIPPED,
    ModelSource,
    ModelsUnderTest,
    ModelUnderTest,
    Role,
    check_data,
    check_names,
    key_of,
    weights_sha256,
)
from ....training.checkpoint import Checkpoint
from .. import export
from ..attack_model import DetectorAttackModel


@dataclass(frozen=True)
class DetectorSource(ModelSource):
    """The same with the hash of the training images."""

    data_sha256: str


DetectorUnderTest: TypeAlias = ModelUnderTest[DetectorSource]
DetectorsUnderTest: TypeAlias = ModelsUnderTest[DetectorSource]


def assemble(
    bundle: Bundle, surrogates: Mapping[str, Checkpoint], controls: Mapping[str, Checkpoint]
) -> DetectorsUnderTest:
    """Checks that all fit together; keys of `surrogates` are their names ('' for the only one)."""
    manifest = bundle.manifest
    called = {name: f"surrogate {name}".strip() for name in surrogates}
    check_names(list(controls), called)
    check_data(
        (manifest.labels, manifest.input.width, manifest.input.height),
        lambda saved: (saved.classes, saved.recipe.data.width_px, saved.recipe.data.height_px),
        surrogates,
        controls,
    )
    return ModelsUnderTest(
        bundle,
        _of_bundle(bundle),
        tuple(of_checkpoint(name, "control", saved) for name, saved in controls.items()),
        {name: of_checkpoint(called[name], "surrogate", saved) for name, saved in surrogates.items()},
    )


def _of_bundle(bundle: Bundle) -> DetectorUnderTest:
    manifest, spec, card = bundle.manifest, bundle.manifest.input, bundle.manifest.card
    if (spec.colour, spec.mean, spec.std, spec.resize) != ("rgb", (0, 0, 0), (1, 1, 1), "letterbox"):
        raise BundleError(
            f"bundle {manifest.name}",
            found=f"input {spec}",
            expected="RGB in [0,1], letterboxed",
            cure="evaluate bundles that `lisard train` exported",
        )
    network = load_network(bundle)
    about = DetectorSource(
        model=SHIPPED,
        role="shipped",
        recipe=manifest.name,
        seed=card.seed if card else 0,
        epochs=int(card.metrics.get("epochs", 0)) if card else 0,
        sha256=bundle.sha256,
        data_sha256=card.data_sha256 if card else "",
    )
    # Of the weights and not of the bundle, whose card names the day and the commit of its export.
    files = manifest.files[manifest.twin] if manifest.twin else ""
    key = key_of("shipped", f"{manifest.architecture} {files}")
    return ModelUnderTest(about, key, lambda: network.eval().requires_grad_(False), DetectorAttackModel)


def of_checkpoint(name: str, role: Role, saved: Checkpoint) -> DetectorUnderTest:
    """A trained detector from its run folder."""
    recipe = saved.recipe
    about = DetectorSource(
        model=name,
        role=role,
        recipe=recipe.name,
        seed=recipe.seed,
        epochs=saved.epoch,
        sha256=weights_sha256(saved),
        data_sha256=saved.data_sha256,
    )
    return ModelUnderTest(
        about,
        key_of(role, about.sha256),
        lambda: export.detector(saved).eval().requires_grad_(False),
        DetectorAttackModel,
    )
