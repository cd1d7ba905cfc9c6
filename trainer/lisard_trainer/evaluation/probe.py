"""A look at a model's gradients and repeatability: what attacks need, and what hides robustness that is not there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lisard_ros.attacks.model import Untargeted

from . import versions
from .cache import Arrays
from .making import Part
from .run import ATTACK_CODE, Bench, column_parts
from .subjects import Subject

PICTURES = 256


@dataclass(frozen=True)
class ProbeKey:
    """What decides a probe."""

    model: str
    pictures: str
    code: str
    device: str


@dataclass(frozen=True)
class Probe:
    """Of `n` pictures: the share whose loss has no gradient at all, and how far two answers to one picture differ.

    disagreement: the largest difference of a score in [0,1] between two passes over the same pictures.
    """

    model: str
    n: int
    without_gradient: float
    disagreement: float


def probe(bench: Bench) -> tuple[Probe, ...]:
    """Looks at every measured model."""
    return tuple(_probe(bench, subject) for subject in bench.subjects.measured)


def _probe(bench: Bench, subject: Subject) -> Probe:
    part = next(column_parts(bench, PICTURES))
    key = ProbeKey(subject.key, part.sha256, versions.of(*ATTACK_CODE, __name__), subject.device.type)
    found = bench.cache.remember(key, lambda: _look(subject, part))
    return Probe(subject.name, len(part.own), float((found["largest"] == 0).mean()), float(found["disagreement"][0]))


def _look(subject: Subject, part: Part) -> Arrays:
    x, criterion = torch.from_numpy(part.x).to(subject.device), Untargeted(part.own)
    first, again = (subject.attack_model.evaluate(x, criterion) for _ in range(2))
    assert first.gradient is not None, "a torch attack model has gradients"
    largest = first.gradient.abs().amax(dim=(1, 2, 3)).cpu().numpy()
    return {"largest": largest, "disagreement": np.array([float((first.scores - again.scores).abs().max())])}
