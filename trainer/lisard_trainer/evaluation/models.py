"""The models under test: the bundle, its baselines and the attackers' surrogates."""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from lisard_ros.attacks.model import AttackModel
from lisard_ros.backends.pytorch import load_network
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.bundle.manifest import Manifest
from lisard_ros.errors import BundleError, LisardError

from ..training.checkpoint import Checkpoint

Role = Literal["bundle", "baseline", "surrogate"]
PLAIN, SURROGATE = "plain", "surrogate"


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: its recipe and training.

    model: its name in the report; that of the model under test is the name of the bundle. sha256: of the bundle's fp32
    ONNX file, or of a checkpoint's weights. Pages are keyed by it, so that a file that is added to a bundle (int8,
    perturbations, a signature) makes no page stale.
    """

    model: str
    role: Role
    recipe: str
    seed: int
    epochs: int
    sha256: str


S = TypeVar("S", bound=ModelSource)


@dataclass(frozen=True, eq=False)
class ModelUnderTest(Generic[S]):
    """A model under test. The network is built when it is first asked for.

    key: hash under which its results are kept. build: the network on `device`, in eval mode. attackable: the attack
    model of the network.
    """

    about: S
    key: str
    build: Callable[[], nn.Module]
    attackable: Callable[[nn.Module], AttackModel]
    device: torch.device = torch.device("cpu")

    @property
    def name(self) -> str:
        """Name in the report."""
        return self.about.model

    @functools.cached_property
    def network(self) -> nn.Module:
        """Images RGB [N,3,H,W] in [0,1] -> what the task's models answer."""
        return self.build()

    @functools.cached_property
    def attack_model(self) -> AttackModel:
        """The network as attacks see it: loss and gradient."""
        return self.attackable(self.network)


@dataclass(frozen=True, eq=False)
class ModelsUnderTest(Generic[S]):
    """All models; keys of `surrogates` are their names in conditions ('' for the only one)."""

    bundle: Bundle
    of_bundle: ModelUnderTest[S]
    baselines: tuple[ModelUnderTest[S], ...]
    surrogates: Mapping[str, ModelUnderTest[S]]

    @property
    def measured(self) -> tuple[ModelUnderTest[S], ...]:
        """Those that meet every attack."""
        return (self.of_bundle, *self.baselines)

    @property
    def everybody(self) -> tuple[ModelUnderTest[S], ...]:
        """The measured and the surrogates."""
        return (*self.measured, *self.surrogates.values())

    @property
    def plain(self) -> ModelUnderTest[S]:
        """The baseline of standard training, against which a gray-box attack must show that it hurts."""
        for model in self.baselines:
            if model.name == PLAIN:
                return model
        raise no_plain_baseline()


class NetworkSource(Protocol):
    """What a task gives: the network of a checkpoint, the attack model of such a network, and what they must share."""

    def format_of_bundle(self, manifest: Manifest) -> object:
        """Classes and input size."""

    def format_of_checkpoint(self, saved: Checkpoint) -> object:
        """Those of a checkpoint."""

    def trained_network(self, saved: Checkpoint) -> nn.Module:
        """In eval mode."""

    def attack_model(self, network: nn.Module) -> AttackModel:
        """As attacks see it."""


class ModelLoader(ABC, Generic[S]):
    """Puts the models under test together. A task describes them."""

    def __init__(self, networks: NetworkSource, device: torch.device | str = "cpu") -> None:
        """Networks are built by `networks`, and placed on the device when they are first asked for."""
        self.networks, self.device = networks, torch.device(device)

    @abstractmethod
    def describe_bundle(self, source: ModelSource, manifest: Manifest) -> S:
        """The source of a bundle with what the task adds."""

    @abstractmethod
    def describe_checkpoint(self, source: ModelSource, saved: Checkpoint) -> S:
        """The source of a checkpoint with what the task adds."""

    @abstractmethod
    def bundle_network(self, twin: nn.Module, manifest: Manifest) -> nn.Module:
        """The network of a bundle for RGB images in [0,1]; BundleError if it cannot be evaluated."""

    def surrogate_title(self, name: str) -> str:
        """Name of a surrogate in the report; `name` is that in conditions, '' for the only one."""
        return name or SURROGATE

    def prepare(self, network: nn.Module) -> nn.Module:
        """A network as it answers."""
        return network

    def check_names(self, bundle: Bundle, baselines: Sequence[str], surrogates: Sequence[str]) -> dict[str, str]:
        """Name of each surrogate in conditions -> that in the report; LisardError for names that are taken or odd."""
        titles = {name: self.surrogate_title(name) for name in surrogates}
        check_names(bundle.manifest.name, baselines, titles)
        return titles

    def load(
        self, bundle: Bundle, surrogates: Mapping[str, Checkpoint], baselines: Mapping[str, Checkpoint]
    ) -> ModelsUnderTest[S]:
        """Checks that all fit together.

        Args:
            bundle: The bundle under test.
            surrogates: By name in conditions, '' for the only one.
            baselines: By name.

        Returns:
            The models; a network is built when it is first asked for.

        Raises:
            LisardError: Names that cannot be told apart.
            BundleError: A checkpoint for another task than the bundle, or a bundle that cannot be evaluated.
        """
        titles = self.check_names(bundle, list(baselines), list(surrogates))
        named = {f"baseline {name}": saved for name, saved in baselines.items()}
        for name, saved in labelled(surrogates, named).items():
            check_format(self.networks, bundle.manifest, name, saved)
        return ModelsUnderTest(
            bundle=bundle,
            of_bundle=self.of_bundle(bundle),
            baselines=tuple(self.of_checkpoint(name, "baseline", saved) for name, saved in baselines.items()),
            surrogates={n: self.of_checkpoint(titles[n], "surrogate", saved) for n, saved in surrogates.items()},
        )

    def of_bundle(self, bundle: Bundle) -> ModelUnderTest[S]:
        """The bundle's PyTorch model, loaded at once, so that a missing one is told before any work."""
        manifest, card = bundle.manifest, bundle.manifest.card
        network = self.bundle_network(load_network(bundle), manifest)
        seed, epochs = (card.seed, int(card.metrics.get("epochs", 0))) if card else (0, 0)
        evaluated = model_choice.pick(manifest)
        source = ModelSource(manifest.name, "bundle", manifest.name, seed, epochs, evaluated.sha256)
        # Of the weights and not of the bundle, whose card names the day and the commit of its export.
        weights = manifest.files[manifest.twin] if manifest.twin else ""
        key = key_of(str(manifest.architecture), weights, str(manifest.input))
        return self._under_test(self.describe_bundle(source, manifest), key, lambda: network)

    def of_checkpoint(self, name: str, role: Role, saved: Checkpoint) -> ModelUnderTest[S]:
        """A trained network from its run folder."""
        recipe, weights = saved.recipe, weights_sha256(saved)
        source = ModelSource(name, role, recipe.name, recipe.seed, saved.epoch, weights)
        key = key_of(recipe.network, recipe.activation, weights)
        return self._under_test(
            self.describe_checkpoint(source, saved), key, lambda: self.networks.trained_network(saved)
        )

    def _under_test(self, source: S, key: str, build: Callable[[], nn.Module]) -> ModelUnderTest[S]:
        return ModelUnderTest(
            source, key, lambda: self.prepare(build().to(self.device)), self.networks.attack_model, self.device
        )


def no_plain_baseline() -> LisardError:
    """The error of an evaluation that could not say whether its attacks count."""
    return LisardError("gray-box evaluation", found="no plain baseline", cure="pass --baseline plain=RUN_FOLDER")


def check_names(bundle: str, baselines: Sequence[str], surrogates: Mapping[str, str]) -> None:
    """Every model has a name of its own, and those of baselines and surrogates fit into a condition's name.

    Args:
        bundle: Name of the bundle, hence of its model.
        baselines: Names of the baselines.
        surrogates: Name in conditions -> name in the report.

    Raises:
        LisardError: A name occurs twice, or has other characters than letters, digits, _ - .
    """
    names = [bundle, *baselines, *surrogates.values()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        is_bundle = twice[0] == bundle
        raise LisardError(
            "names of baselines and surrogates",
            found=f"{twice[0]}, which is the name of the bundle" if is_bundle else f"{twice[0]} twice",
            expected="a name of its own for each model of the report",
            cure="choose another for the baseline or surrogate"
            + (", or for the bundle (`name` in its bundle.json)" if is_bundle else ""),
        )
    odd = [n for n in (*baselines, *surrogates) if n and not n.translate({ord(c): "a" for c in "_-."}).isalnum()]
    if odd:
        raise LisardError("name of a baseline or surrogate", found=repr(odd[0]), expected="letters, digits, _ - .")


def check_task(task: str, saved: Mapping[str, Checkpoint]) -> None:
    """BundleError when a checkpoint is of another task than the bundle."""
    for name, one in saved.items():
        if one.recipe.task != task:
            raise BundleError(
                f"{name} is for another task than the bundle",
                found=one.recipe.task,
                expected=task,
                cure="use a model trained for the same task",
            )


def check_format(networks: NetworkSource, manifest: Manifest, name: str, saved: Checkpoint) -> None:
    """BundleError when a checkpoint has other classes or another input size than the bundle."""
    given, wanted = networks.format_of_checkpoint(saved), networks.format_of_bundle(manifest)
    if given != wanted:
        raise BundleError(
            f"{name} is for another task than the bundle",
            found=f"classes and size {given}",
            expected=f"the bundle's {wanted}",
            cure="use a model trained on the same data",
        )


def labelled(surrogates: Mapping[str, Checkpoint], baselines: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    """All checkpoints, surrogates first, as messages call them."""
    return {f"surrogate {name}".strip(): one for name, one in surrogates.items()} | dict(baselines)


def key_of(*parts: str) -> str:
    """Hash of what decides a model's answers."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def weights_sha256(saved: Checkpoint) -> str:
    """Hash of a checkpoint's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(saved.network.items()):
        digest.update(name.encode() + np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()
