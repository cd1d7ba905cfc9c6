"""The injection stage: attacks applied to a prepared batch on the vehicle, between preprocessing and the network.

A picture that an injection was not made for counts as `not applicable`, never as robust.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle import Bundle
from lisard_ros.errors import AttackError, unknown_name
from lisard_ros.injection import store

Tensor = NDArray[np.float32]
CLEAN = "clean"
NOISE = "noise"
DEFAULT_NOISE_SIGMA_255 = 16.0


@dataclass(frozen=True, slots=True, eq=False)
class Injected:
    """An attacked batch: x like the clean one; applied bool [N] is False where the injection does not apply."""

    x: Tensor
    applied: NDArray[np.bool_]


class Injection(Protocol):
    """One attack, ready to be applied to batches of pictures in [0, 1]."""

    @property
    def name(self) -> str:
        """Name under which reports and topics list it."""

    @property
    def knowledge(self) -> str:
        """What the attacker knows of the model."""

    @property
    def needs_keys(self) -> bool:
        """Whether `apply` wants the pictures' hashes."""

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return the attacked batch; `x` itself is never written to."""


class Clean:
    """Changes nothing: the reference line of every suite."""

    name, knowledge, needs_keys = CLEAN, "none", False

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return the batch as it is."""
        return Injected(x, np.ones(len(x), bool))


class Noise:
    """Gaussian noise of a fixed standard deviation, clipped to [0, 1]; no knowledge of the model."""

    name, knowledge, needs_keys = NOISE, "none", False

    def __init__(self, sigma_255: float, seed: int) -> None:
        """sigma_255: standard deviation in grey levels of 255."""
        if not 0 < sigma_255 <= 255:
            raise AttackError("noise out of range", found=sigma_255, expected="0 < sigma_255 <= 255")
        if seed < 0:
            raise AttackError("the seed of the noise is negative", found=seed, expected=">= 0")
        self._sigma = np.float32(sigma_255 / store.GREY_LEVELS)
        self._random = np.random.default_rng(seed)

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return x + noise."""
        noise = self._random.standard_normal(x.shape, np.float32) * self._sigma
        return Injected(np.clip(x + noise, 0, 1, dtype=np.float32), np.ones(len(x), bool))


class Stored:
    """Perturbations made for known pictures: applied to those alone, recognised by the hash of their pixels."""

    needs_keys = True

    def __init__(self, stored: store.StoredSet) -> None:
        """Take a loaded set of kind `stored`."""
        self.name, self.knowledge = stored.about.name, stored.about.knowledge
        self._stored = stored

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return x with the deltas of the pictures that are known."""
        rows = np.array([self._stored.rows.get(key, -1) for key in keys], np.intp)
        applied = rows >= 0
        attacked = x.copy()
        attacked[applied] = store.add(x[applied], self._stored.deltas[rows[applied]])
        return Injected(attacked, applied)


class Universal:
    """One perturbation added to every picture."""

    needs_keys = False

    def __init__(self, stored: store.StoredSet) -> None:
        """Take a loaded set of kind `universal`."""
        self.name, self.knowledge = stored.about.name, stored.about.knowledge
        self._delta = stored.deltas

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return x + delta."""
        return Injected(store.add(x, self._delta), np.ones(len(x), bool))


def names(bundle: Bundle) -> tuple[str, ...]:
    """Return the injections that this bundle offers: `clean`, `noise` and its perturbations."""
    return (CLEAN, NOISE, *(p.name for p in bundle.manifest.perturbations))


def make(bundle: Bundle, name: str, *, sigma_255: float = DEFAULT_NOISE_SIGMA_255, seed: int = 0) -> Injection:
    """Make the injection of that name ready; AttackError names the nearest one when the bundle has none such."""
    if name == CLEAN:
        return Clean()
    if name == NOISE:
        return Noise(sigma_255, seed)
    if name not in names(bundle):
        raise unknown_name(f"injection of bundle {bundle.manifest.name}", name, names(bundle), AttackError)
    loaded = store.load(bundle, store.find(bundle, name))
    return Universal(loaded) if loaded.about.kind == "universal" else Stored(loaded)
