"""What the pipeline asks of an injection; a module of its own, so that attacks may use the rest of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle.manifest import DETECTOR_PREFIX

Tensor = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Injected:
    """An attacked batch: x like the clean one; applied bool [N] is False where the injection does not apply.

    without_object: bool [N], True where it does not because the image shows no object to attack; None: nowhere.
    """

    x: Tensor
    applied: NDArray[np.bool_]
    without_object: NDArray[np.bool_] | None = None


class Injection(Protocol):
    """One attack, ready to be applied to batches of images in [0, 1]."""

    @property
    def name(self) -> str:
        """Name under which reports and topics list it."""

    @property
    def knowledge(self) -> str:
        """What the attacker knows of the model."""

    @property
    def needs_keys(self) -> bool:
        """Whether `apply` wants the images' hashes."""

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return the attacked batch; `x` itself is never written to."""


class AtDetector:
    """An injection into what the detector in front sees, instead of into the crops behind it."""

    def __init__(self, inner: Injection) -> None:
        """inner: made for the detector's bundle."""
        self.inner = inner
        self.name, self.knowledge, self.needs_keys = DETECTOR_PREFIX + inner.name, inner.knowledge, inner.needs_keys

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return the detector's input, attacked."""
        return self.inner.apply(x, keys)
