"""The models that take part: the bundle, its controls and the attackers' surrogates, each checked to be of one task."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from lisard_ros.attacks.torch_model import channels_last
from lisard_ros.backends.pytorch import load_twin
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.errors import BundleError, DataError, LisardError

from .. import data
from ..data import labels
from ..tasks.classification import attack_model, export
from ..tasks.classification.attack_model import FastAttackModel
from ..training.checkpoint import Checkpoint

Role = Literal["shipped", "control", "surrogate"]
SHIPPED, PLAIN, SURROGATE = "lisard", "plain", "surrogate"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Source:
    """A model that took part: how it was trained, and the hash of its bundle or weights."""

    model: str
    role: Role
    recipe: str
    training: str
    architecture: str
    seed: int
    epochs: int
    sha256: str


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under evaluation; `key` is the hash under which its results are kept. The network is built on demand."""

    about: Source
    key: str
    build: Callable[[], nn.Module]
    device: torch.device

    @property
    def name(self) -> str:
        """Name in the report."""
        return self.about.model

    @functools.cached_property
    def attack_model(self) -> FastAttackModel:
        """White box to the network, by the fastest way that gives its gradients up to rounding."""
        return attack_model.fastest(self.network)

    @functools.cached_property
    def network(self) -> nn.Module:
        """Pictures RGB [N,3,H,W] in [0,1] -> logits [N,K]; in eval mode, frozen, laid out as an attack model would."""
        network = self.build().to(self.device)
        channels_last(network)  # now: last bits of answers must not depend on whether it was attacked before
        return network


@dataclass(frozen=True, eq=False)
class Subjects:
    """Everybody: `shipped` first, then controls, then surrogates by the name that columns give them."""

    bundle: Bundle
    shipped: Subject
    controls: tuple[Subject, ...]
    surrogates: Mapping[str, Subject]

    @property
    def measured(self) -> tuple[Subject, ...]:
        """Those that meet every attack."""
        return (self.shipped, *self.controls)

    @property
    def everybody(self) -> tuple[Subject, ...]:
        """The measured and the surrogates."""
        return (*self.measured, *self.surrogates.values())

    @property
    def plain(self) -> Subject:
        """The control of ordinary training, against which a gray-box attack must show that it hurts."""
        for subject in self.controls:
            if subject.name == PLAIN:
                return subject
        raise no_plain_control()


def no_plain_control() -> LisardError:
    """The error of an evaluation that could not say whether its attacks count."""
    return LisardError("gray-box evaluation", found="no plain control", cure="pass --control plain=RUN_FOLDER")


def assemble(
    bundle: Bundle, surrogates: Mapping[str, Checkpoint], controls: Mapping[str, Checkpoint], device: str = "cpu"
) -> Subjects:
    """Checks that all are of one task and wraps them; keys of `surrogates` are their names ('' for the only one)."""
    place = torch.device(device)
    named = {f"surrogate {name}".strip(): saved for name, saved in surrogates.items()}
    check_names(surrogates, controls)
    check_same_task(bundle, {**named, **{f"control {name}": saved for name, saved in controls.items()}})
    return Subjects(
        bundle=bundle,
        shipped=_of_bundle(bundle, place),
        controls=tuple(of_checkpoint(name, "control", saved, place) for name, saved in controls.items()),
        surrogates={n: of_checkpoint(n or SURROGATE, "surrogate", s, place) for n, s in surrogates.items()},
    )


def check_names(surrogates: Iterable[str], controls: Iterable[str]) -> None:
    """Every model has a name of its own that fits into a column's name."""
    names = [SHIPPED, *controls, *(name or SURROGATE for name in surrogates)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LisardError(
            "names of controls and surrogates",
            found=f"{twice[0]} twice",
            expected="each name once",
            cure=f"'{SHIPPED}' is the bundle; choose other names",
        )
    odd = [name for name in names if not name.replace("_", "").replace("-", "").replace(".", "").isalnum()]
    if odd:
        raise LisardError("name of a control or surrogate", found=repr(odd[0]), expected="letters, digits, _ - .")


def check_same_task(bundle: Bundle, saved: Mapping[str, Checkpoint]) -> None:
    """Classes and input size of every checkpoint must be the bundle's."""
    manifest = bundle.manifest
    if manifest.task != "classification":
        raise BundleError(f"bundle {manifest.name}", found=f"task {manifest.task}", expected="classification")
    ours = (len(manifest.labels), manifest.input.width, manifest.input.height)
    for name, checkpoint in saved.items():
        size = checkpoint.recipe.data.size_px
        theirs = (len(checkpoint.classes), size, size)
        if ours != theirs:
            raise BundleError(
                f"{name} is for another task than the bundle",
                found=f"classes and size {theirs}",
                expected=f"the bundle's {ours}",
                cure="use a model trained on the same data",
            )
    lists = {checkpoint.classes for checkpoint in saved.values()}
    if len(lists) > 1:
        raise BundleError("controls and surrogates", found="different class lists", expected="those of one data set")


def check_same_labels(bundle: Bundle, kind: str, pictures: data.Pictures) -> None:
    """The labels of the bundle must be those of the pictures, in their order."""
    wanted, found = tuple(labels.of(kind, pictures)), bundle.manifest.labels
    if wanted != found:
        place = next((i for i, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), len(found))
        shown = [(row[place] if place < len(row) else "nothing") for row in (found, wanted)]
        raise DataError(
            f"bundle {bundle.manifest.name} has another class list than the data",
            found=f"{len(found)} labels, label {place} is {shown[0]!r}",
            expected=f"{len(wanted)} labels, label {place} is {shown[1]!r}",
            cure="check --data and the bundle",
        )


def of_checkpoint(name: str, role: Role, saved: Checkpoint, device: torch.device) -> Subject:
    """A trained network from its run folder."""
    recipe, sha256 = saved.recipe, weights_sha256(saved)
    words = training(json.loads(recipe.as_json()))
    about = Source(name, role, recipe.name, words, recipe.network, recipe.seed, saved.epoch, sha256)
    key = key_of(recipe.network, recipe.activation, recipe.batch_norm, sha256)  # all that `export.classifier` looks at
    return Subject(about, key, lambda: export.classifier(saved), device)


def _of_bundle(bundle: Bundle, device: torch.device) -> Subject:
    manifest = bundle.manifest
    card, architecture = manifest.card, manifest.architecture
    epochs = int(card.metrics.get("epochs", 0)) if card else 0
    words = training(json.loads(card.recipe)) if card and card.recipe else UNKNOWN
    name = architecture.name if architecture else UNKNOWN
    about = Source(SHIPPED, "shipped", manifest.name, words, name, card.seed if card else 0, epochs, bundle.sha256)
    network = adapted(load_twin(bundle), manifest.input)  # at once, so that a missing twin is told before any work
    files = manifest.files[manifest.twin] if manifest.twin else ""
    # `interpolation` scales no picture here; without it, answers that were kept before it was there are found.
    spec = str(manifest.input).replace(f", interpolation='{manifest.input.interpolation}'", "")
    return Subject(about, key_of(str(architecture), files, spec), lambda: network, device)


def key_of(*parts: str) -> str:
    """Hash of what decides a model's answers."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def training(recipe: Mapping[str, object]) -> str:
    """In a few words how a recipe trains: ordinary, noise, LISArD, with what is added."""

    def form(section: str) -> str:
        found = recipe.get(section)
        return str(found.get("form", "none")) if isinstance(found, dict) else "none"

    similarity = form("similarity")
    if recipe.get("views") == 1:
        words = ["ordinary"]
    else:
        words = ["noise" if similarity == "none" else f"LISArD ({similarity})"]
    words += [section for section in ("consistency", "gradient") if form(section) != "none"]
    words += ["adversarial"] if form("adversarial") != "none" else []
    return " + ".join(words)


class Adapted(nn.Module):
    """A network behind the bundle's own order of channels and normalisation; takes RGB in [0,1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.network, self.flip = network, spec.colour != "rgb"
        self.register_buffer("mean", torch.tensor(spec.mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """RGB [N,3,H,W] in [0,1] -> what the network gives."""
        ordered = x.flip(1) if self.flip else x
        logits: Tensor = self.network((ordered - self.mean) / self.std)
        return logits


def adapted(network: nn.Module, spec: InputSpec) -> nn.Module:
    """The network itself where the bundle's input is RGB in [0,1] already."""
    plain = (spec.colour, tuple(spec.mean), tuple(spec.std)) == ("rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return network.eval() if plain else Adapted(network, spec).eval()


def weights_sha256(saved: Checkpoint) -> str:
    """Hash of a checkpoint's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(saved.network.items()):
        digest.update(name.encode() + np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()
