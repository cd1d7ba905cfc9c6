"""A look at a model's gradients and repeatability: what attacks need, and what hides robustness that is not there."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from lisard_ros.attacks.model import Untargeted

from ....evaluation import versions
from ....evaluation.cache import Arrays
from .crafting import ImageBatch
from .measuring import ATTACK_CODE, ClassificationContext
from .models import ClassifierUnderTest

IMAGES = 256


@dataclass(frozen=True)
class ProbeKey:
    """What decides a probe."""

    model: str
    images: str
    code: str
    device: str


@dataclass(frozen=True)
class Probe:
    """Of `n` images: the share whose loss has no gradient at all, and how far two answers to one image differ.

    disagreement: the largest difference of a score in [0,1] between two passes over the same images.
    """

    model: str
    n: int
    without_gradient: float
    disagreement: float


def probe(context: ClassificationContext) -> tuple[Probe, ...]:
    """Looks at every measured model."""
    batch, probes = next(context.batches_up_to(IMAGES)), []
    for model in context.models.measured:
        key = ProbeKey(model.key, batch.sha256, versions.of(*ATTACK_CODE, __name__), model.device.type)
        arrays = context.cache.remember(key, functools.partial(look, model, batch))
        without_gradient, disagreement = float((arrays["largest"] == 0).mean()), float(arrays["disagreement"][0])
        probes.append(Probe(model.name, len(batch.labels), without_gradient, disagreement))
    return tuple(probes)


def look(model: ClassifierUnderTest, batch: ImageBatch) -> Arrays:
    """The largest gradient of each image, and how far two passes over all images differ."""
    x, criterion = torch.from_numpy(batch.x).to(model.device), Untargeted(batch.labels)
    first, again = (model.attack_model.evaluate(x, criterion) for _ in range(2))
    assert first.gradient is not None, "an attack model in PyTorch has gradients"
    largest = first.gradient.abs().amax(dim=(1, 2, 3)).cpu().numpy()
    return {"largest": largest, "disagreement": np.array([float((first.scores - again.scores).abs().max())])}
