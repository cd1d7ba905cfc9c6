"""The classifiers under test, each checked to have the bundle's classes and input size."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lisard_ros.attacks.torch_model import channels_last
from lisard_ros.backends.pytorch import load_network
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.errors import BundleError, DataError

from .... import data
from ....data import labels
from ....evaluation.models import (
    SHIPPED,
    SURROGATE,
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
from .. import attack_model, export

UNKNOWN = "unknown"


@dataclass(frozen=True)
class ClassifierSource(ModelSource):
    """The same with the kind of training in words, and the network's architecture."""

    training: str
    architecture: str


ClassifierUnderTest: TypeAlias = ModelUnderTest[ClassifierSource]
ClassifiersUnderTest: TypeAlias = ModelsUnderTest[ClassifierSource]


def assemble(
    bundle: Bundle, surrogates: Mapping[str, Checkpoint], controls: Mapping[str, Checkpoint], device: str = "cpu"
) -> ClassifiersUnderTest:
    """Checks that all fit together; keys of `surrogates` are their names ('' for the only one)."""
    place, manifest = torch.device(device), bundle.manifest
    check_names(list(controls), {name: name or SURROGATE for name in surrogates})
    check_data(
        (len(manifest.labels), manifest.input.width, manifest.input.height),
        lambda saved: (len(saved.classes), saved.recipe.data.size_px, saved.recipe.data.size_px),
        surrogates,
        controls,
    )
    if len({saved.classes for saved in (*surrogates.values(), *controls.values())}) > 1:
        raise BundleError("controls and surrogates", found="different class lists", expected="those of one data set")
    return ModelsUnderTest(
        bundle=bundle,
        shipped=_of_bundle(bundle, place),
        controls=tuple(of_checkpoint(name, "control", saved, place) for name, saved in controls.items()),
        surrogates={n: of_checkpoint(n or SURROGATE, "surrogate", s, place) for n, s in surrogates.items()},
    )


def under_test(
    about: ClassifierSource, key: str, build: Callable[[], nn.Module], device: torch.device
) -> ClassifierUnderTest:
    """A network [N,3,H,W] -> logits [N,K], attacked by the fastest way that gives its gradients up to rounding."""

    def placed() -> nn.Module:
        network = build().to(device)
        channels_last(network)  # now: last bits of answers must not depend on whether it was attacked before
        return network

    return ModelUnderTest(about, key, placed, attack_model.fastest, device)


def check_same_labels(bundle: Bundle, kind: str, dataset: data.ImageDataset) -> None:
    """The labels of the bundle must be those of the images, in their order."""
    wanted, found = tuple(labels.of(kind, dataset)), bundle.manifest.labels
    if wanted != found:
        place = next((i for i, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), len(found))
        shown = [(row[place] if place < len(row) else "nothing") for row in (found, wanted)]
        raise DataError(
            f"bundle {bundle.manifest.name} has another class list than the data",
            found=f"{len(found)} labels, label {place} is {shown[0]!r}",
            expected=f"{len(wanted)} labels, label {place} is {shown[1]!r}",
            cure="check --data and the bundle",
        )


def of_checkpoint(name: str, role: Role, saved: Checkpoint, device: torch.device) -> ClassifierUnderTest:
    """A trained network from its run folder."""
    recipe = saved.recipe
    about = ClassifierSource(
        model=name,
        role=role,
        recipe=recipe.name,
        seed=recipe.seed,
        epochs=saved.epoch,
        sha256=weights_sha256(saved),
        training=training(json.loads(recipe.as_json())),
        architecture=recipe.network,
    )
    # All that `export.classifier` looks at.
    key = key_of(recipe.network, recipe.activation, recipe.batch_norm, about.sha256)
    return under_test(about, key, lambda: export.classifier(saved), device)


def _of_bundle(bundle: Bundle, device: torch.device) -> ClassifierUnderTest:
    manifest = bundle.manifest
    card, architecture = manifest.card, manifest.architecture
    about = ClassifierSource(
        model=SHIPPED,
        role="shipped",
        recipe=manifest.name,
        seed=card.seed if card else 0,
        epochs=int(card.metrics.get("epochs", 0)) if card else 0,
        sha256=bundle.sha256,
        training=training(json.loads(card.recipe)) if card and card.recipe else UNKNOWN,
        architecture=architecture.name if architecture else UNKNOWN,
    )
    network = adapted(
        load_network(bundle), manifest.input
    )  # at once, so that a missing one is an error before any work
    files = manifest.files[manifest.twin] if manifest.twin else ""
    # `interpolation` scales no image here; without it, answers that were kept before it was there are found.
    spec = str(manifest.input).replace(f", interpolation='{manifest.input.interpolation}'", "")
    return under_test(about, key_of(str(architecture), files, spec), lambda: network, device)


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
