"""The models under test: the bundle, its controls and the attackers' surrogates."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from torch import nn

from lisard_ros.attacks.model import AttackModel
from lisard_ros.bundle import Bundle
from lisard_ros.errors import BundleError, LisardError

from ..training.checkpoint import Checkpoint

Role = Literal["shipped", "control", "surrogate"]
SHIPPED, PLAIN, SURROGATE = "lisard", "plain", "surrogate"


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: its recipe and training, and the hash of its bundle or weights."""

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
    shipped: ModelUnderTest[S]
    controls: tuple[ModelUnderTest[S], ...]
    surrogates: Mapping[str, ModelUnderTest[S]]

    @property
    def measured(self) -> tuple[ModelUnderTest[S], ...]:
        """Those that meet every attack."""
        return (self.shipped, *self.controls)

    @property
    def everybody(self) -> tuple[ModelUnderTest[S], ...]:
        """The measured and the surrogates."""
        return (*self.measured, *self.surrogates.values())

    @property
    def plain(self) -> ModelUnderTest[S]:
        """The baseline of standard training, against which a gray-box attack must show that it hurts."""
        for model in self.controls:
            if model.name == PLAIN:
                return model
        raise no_plain_control()


def no_plain_control() -> LisardError:
    """The error of an evaluation that could not say whether its attacks count."""
    return LisardError("gray-box evaluation", found="no plain control", cure="pass --baseline plain=RUN_FOLDER")


def check_names(controls: Sequence[str], surrogates: Mapping[str, str]) -> None:
    """Every model has a name of its own that fits into a condition's name.

    Args:
        controls: Names of the controls.
        surrogates: Name in conditions -> name in the report.

    Raises:
        LisardError: A name occurs twice, or has other characters than letters, digits, _ - .
    """
    names = [SHIPPED, *controls, *surrogates.values()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LisardError(
            "names of controls and surrogates",
            found=f"{twice[0]} twice",
            expected="each name once",
            cure=f"'{SHIPPED}' is the bundle; choose other names",
        )
    odd = [n for n in (*controls, *surrogates) if n and not n.translate({ord(c): "a" for c in "_-."}).isalnum()]
    if odd:
        raise LisardError("name of a control or surrogate", found=repr(odd[0]), expected="letters, digits, _ - .")


def check_data(
    wanted: object, given: Callable[[Checkpoint], object], surrogates: Mapping[str, Checkpoint],
    controls: Mapping[str, Checkpoint],
) -> None:  # fmt: skip
    """Every checkpoint must have the bundle's classes and input size.

    Args:
        wanted: Those of the bundle.
        given: Reads those of a checkpoint.
        surrogates: By name, '' for the only one.
        controls: By name.

    Raises:
        BundleError: A checkpoint has others.
    """
    for name, saved in labelled(surrogates, {f"control {name}": one for name, one in controls.items()}).items():
        if given(saved) != wanted:
            raise BundleError(
                f"{name} is for another task than the bundle",
                found=f"classes and size {given(saved)}",
                expected=f"the bundle's {wanted}",
                cure="use a model trained on the same data",
            )


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


def labelled(surrogates: Mapping[str, Checkpoint], controls: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    """All checkpoints, surrogates first, as messages call them."""
    return {f"surrogate {name}".strip(): one for name, one in surrogates.items()} | dict(controls)


def key_of(*parts: str) -> str:
    """Hash of what decides a model's answers."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def weights_sha256(saved: Checkpoint) -> str:
    """Hash of a checkpoint's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(saved.network.items()):
        digest.update(name.encode() + np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()
