"""The classifiers under test, each checked to have the bundle's classes and input size."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lisard_ros.attacks.torch_model import channels_last
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import InputSpec, Manifest
from lisard_ros.errors import BundleError, DataError, UsageError

from .... import data
from ....data import labels
from ....evaluation import versions
from ....evaluation.models import ModelLoader, ModelSource, ModelsUnderTest, ModelUnderTest, key_of
from ....training.checkpoint import Checkpoint

UNKNOWN = "unknown"
ENSEMBLE = "ensemble"
FEWEST = 2  # members of an ensemble


@dataclass(frozen=True)
class ClassifierSource(ModelSource):
    """The same with the kind of training in words, and the network's architecture."""

    training: str
    architecture: str


ClassifierUnderTest: TypeAlias = ModelUnderTest[ClassifierSource]
ClassifiersUnderTest: TypeAlias = ModelsUnderTest[ClassifierSource]


class ClassifierLoader(ModelLoader[ClassifierSource]):
    """Networks [N,3,H,W] -> logits [N,K]."""

    def describe_bundle(self, source: ModelSource, manifest: Manifest) -> ClassifierSource:
        """Its training by the card."""
        card, architecture = manifest.card, manifest.architecture
        return ClassifierSource(
            **vars(source),
            training=training(json.loads(card.recipe)) if card and card.recipe else UNKNOWN,
            architecture=architecture.name if architecture else UNKNOWN,
        )

    def describe_checkpoint(self, source: ModelSource, saved: Checkpoint) -> ClassifierSource:
        """Its training by the recipe."""
        trained = training(json.loads(saved.recipe.as_json()))
        return ClassifierSource(**vars(source), training=trained, architecture=saved.recipe.network)

    def bundle_network(self, twin: nn.Module, manifest: Manifest) -> nn.Module:
        """The network itself where the bundle's input is RGB in [0,1] already."""
        spec = manifest.input
        unit_rgb = (spec.colour, tuple(spec.mean), tuple(spec.std)) == ("rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        return twin.eval() if unit_rgb else Adapted(twin, spec).eval()

    def prepare(self, network: nn.Module) -> nn.Module:
        """Lays filters out at once: last bits of answers must not depend on whether it was attacked before."""
        channels_last(network)
        return network

    def load(
        self, bundle: Bundle, surrogates: Mapping[str, Checkpoint], baselines: Mapping[str, Checkpoint]
    ) -> ClassifiersUnderTest:
        """Checks also that all checkpoints have one class list."""
        models = super().load(bundle, surrogates, baselines)
        if len({saved.classes for saved in (*surrogates.values(), *baselines.values())}) > 1:
            raise BundleError(
                "baselines and surrogates", found="different class lists", expected="those of one data set"
            )
        return models


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


class MeanOfNetworks(nn.Module):
    """The mean of the logits [N,K] of several networks of the same classes.

    What hurts several networks hurts another one more often. Source: Dong et al. 2018 (arXiv 1710.06081) eq. 9.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """RGB [N,3,H,W] in [0,1] -> logits [N,K]."""
        return torch.stack([network(x) for network in self.networks]).mean(0)


def with_ensemble(models: ClassifiersUnderTest) -> ClassifiersUnderTest:
    """All models, and the ensemble of the surrogates as the last of them."""
    members = tuple(models.surrogates.values())
    source = ClassifierSource(
        model=ENSEMBLE,
        role="surrogate",
        recipe=f"mean of {', '.join(member.name for member in members)}",
        seed=0,
        epochs=0,
        sha256=key_of(*(member.about.sha256 for member in members)),
        training="theirs",
        architecture=f"{len(members)} networks",
    )
    joined = dataclasses.replace(
        members[0],
        about=source,
        key=key_of(versions.of(__name__), *(member.key for member in members)),
        build=lambda: MeanOfNetworks(member.network for member in members).eval(),
    )
    return dataclasses.replace(models, surrogates={**models.surrogates, ENSEMBLE: joined})


def names_with_ensemble(names: list[str]) -> list[str]:
    """Names of the surrogates and of their ensemble; UsageError for fewer than two, or one that has its name."""
    if len(names) < FEWEST:
        raise UsageError(
            "--ensemble",
            found=f"{len(names)} surrogate",
            expected=f"{FEWEST} or more to join",
            cure="give --surrogate ENSEMBLE=RUN several times",
        )
    if ENSEMBLE in names:
        raise UsageError("--ensemble", found=f"a surrogate called {ENSEMBLE}", expected="another name for it")
    return [*names, ENSEMBLE]
