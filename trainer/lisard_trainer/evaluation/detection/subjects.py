"""The detectors that take part: the bundle, its controls, the attackers' surrogates; all of one task and class list."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from lisard_ros.backends.pytorch import load_twin
from lisard_ros.bundle import Bundle
from lisard_ros.errors import BundleError

from ...tasks.detection import export
from ...tasks.detection.attack_model import DetectorAttackModel
from ...training.checkpoint import Checkpoint
from ..subjects import weights_sha256

SHIPPED, PLAIN = "lisard", "plain"
Role = Literal["shipped", "control", "surrogate"]


@dataclass(frozen=True)
class Source:
    """A model that took part, and the hash of its bundle or weights."""

    model: str
    role: Role
    recipe: str
    seed: int
    epochs: int
    sha256: str
    data_sha256: str


@dataclass(frozen=True, eq=False)
class Subject:
    """A detector under evaluation, built on demand; `key` is the hash under which its results are kept."""

    about: Source
    key: str
    build: Callable[[], nn.Module]

    @property
    def name(self) -> str:
        """Name in the report."""
        return self.about.model

    @functools.cached_property
    def network(self) -> nn.Module:
        """Pictures RGB [N,3,H,W] in [0,1] -> output [N,P,5+C]; in eval mode, frozen."""
        return self.build().eval().requires_grad_(False)

    @functools.cached_property
    def attack_model(self) -> DetectorAttackModel:
        """White box to the network."""
        return DetectorAttackModel(self.network)


@dataclass(frozen=True, eq=False)
class Subjects:
    """Everybody; `measured` meets every column, a surrogate its own and the clean one."""

    bundle: Bundle
    measured: tuple[Subject, ...]
    surrogates: Mapping[str, Subject]


def assemble(bundle: Bundle, surrogates: Mapping[str, Checkpoint], controls: Mapping[str, Checkpoint]) -> Subjects:
    """Checks that all are of one task and wraps them; keys of `surrogates` are their names ('' for the only one)."""
    for name, saved in [*controls.items(), *((f"surrogate {n}".strip(), s) for n, s in surrogates.items())]:
        _check(bundle, name, saved)
    spec = bundle.manifest.input
    if (spec.colour, spec.mean, spec.std, spec.resize) != ("rgb", (0, 0, 0), (1, 1, 1), "letterbox"):
        raise BundleError(
            f"bundle {bundle.manifest.name}",
            found=f"input {spec}",
            expected="RGB in [0,1], letterboxed",
            cure="evaluate bundles that `lisard train` exported",
        )
    card = bundle.manifest.card
    twin = load_twin(bundle)
    about = Source(
        SHIPPED,
        "shipped",
        bundle.manifest.name,
        card.seed if card else 0,
        int(card.metrics.get("epochs", 0)) if card else 0,
        bundle.sha256,
        card.data_sha256 if card else "",
    )
    # Of the weights and not of the bundle, whose card names the day and the commit of its export.
    files = bundle.manifest.files[bundle.manifest.twin] if bundle.manifest.twin else ""
    shipped = Subject(about, _key("shipped", f"{bundle.manifest.architecture} {files}"), lambda: twin)
    return Subjects(
        bundle,
        (shipped, *(of_checkpoint(name, "control", saved) for name, saved in controls.items())),
        {n: of_checkpoint(f"surrogate {n}".strip(), "surrogate", saved) for n, saved in surrogates.items()},
    )


def of_checkpoint(name: str, role: Role, saved: Checkpoint) -> Subject:
    """A trained detector from its run folder."""
    recipe = saved.recipe
    about = Source(name, role, recipe.name, recipe.seed, saved.epoch, weights_sha256(saved), saved.data_sha256)
    return Subject(about, _key(role, about.sha256), lambda: export.detector(saved))


def _key(role: Role, weights: str) -> str:
    return hashlib.sha256(f"{role} {weights}".encode()).hexdigest()


def _check(bundle: Bundle, name: str, saved: Checkpoint) -> None:
    """Task, classes and input size must be the bundle's."""
    manifest = bundle.manifest
    if saved.recipe.task != "detection":
        raise BundleError(f"{name} is for another task than the bundle", found=saved.recipe.task, expected="detection")
    ours = (manifest.labels, manifest.input.width, manifest.input.height)
    size = saved.recipe.data
    theirs = (saved.classes, size.width_px, size.height_px)
    if ours != theirs:
        raise BundleError(
            f"{name} is for another task than the bundle",
            found=f"classes and size {theirs}",
            expected=f"the bundle's {ours}",
            cure="use a model trained on the same data",
        )
