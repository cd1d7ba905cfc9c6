"""Making the images of one part as a model meets them, on whole grey levels, and asking a model for its answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lisard_ros import injection
from lisard_ros.attacks import store
from lisard_ros.attacks.ensemble import EOT, GaussianNoise
from lisard_ros.attacks.model import AttackModel, Untargeted
from lisard_ros.backends import Backend
from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.corruptions import corrupt
from lisard_ros.inference.preprocess import Tensor as ImageDataset
from lisard_ros.inference.preprocess import normalise

from ....evaluation.cache import Arrays
from ....evaluation.draws import RowsOfAll
from ....evaluation.runner import Batch
from ..attack_model import CHUNKS, chunk_of
from .conditions import Attack, CorruptionConfig, SmoothingConfig
from .methods import METHODS
from .models import ClassifierUnderTest

NARROW_255 = 127  # budgets up to here fit into int8


@dataclass(frozen=True, eq=False)
class ImageBatch(Batch):
    """Its images x float32 [n,3,H,W] on the 8-bit grid, their own classes int64 [n], and the hash of both."""

    x: ImageDataset
    own: NDArray[np.int64]
    sha256: str


def craft(model: ClassifierUnderTest, batch: ImageBatch, attack: Attack) -> Arrays:
    """Attacks a model: `deltas` in grey levels [n,3,H,W], and its answers to the images before they were rounded."""
    random = RowsOfAll(attack.seed, batch.start, batch.stop, batch.total)
    x = torch.from_numpy(batch.x).to(model.device)
    made = METHODS[attack.method](_attacked(model, attack, random), x, Untargeted(batch.own), attack, random)
    deltas = store.quantise(batch.x, made.cpu().numpy(), attack.eps_255)
    narrow = np.int8 if attack.eps_255 <= NARROW_255 else np.int16
    return {"deltas": deltas.astype(narrow), "unrounded": answers(model.network, made).answers}


def _attacked(model: ClassifierUnderTest, attack: Attack, random: np.random.Generator) -> AttackModel:
    """The model itself, or its mean over noise where the prediction is smoothed (EOT)."""
    if not attack.noise_sigma_255:
        return model.attack_model
    noise = GaussianNoise(attack.noise_sigma_255 / store.GREY_LEVELS, random)
    return EOT(model.attack_model, attack.draws, noise)


def corrupted(batch: ImageBatch, corruption: CorruptionConfig) -> ImageDataset:
    """The images [n,3,H,W] under a common corruption."""
    levels = np.rint(batch.x * store.GREY_LEVELS).astype(np.uint8).transpose(0, 2, 3, 1)
    made = corrupt(np.ascontiguousarray(levels), corruption.name, corruption.severity, corruption.seed)
    return np.ascontiguousarray(made.transpose(0, 3, 1, 2), np.float32) / np.float32(store.GREY_LEVELS)


def noisy(batch: ImageBatch, sigma_255: float, seed: int) -> ImageDataset:
    """The images [n,3,H,W] in Gaussian noise."""
    return injection.NoiseInjection(sigma_255, seed + batch.start).apply(batch.x, ()).x


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predicted class int16 [n] and the softmax of that class float32 [n]."""

    answers: NDArray[np.int16]
    scores: NDArray[np.float32]


@torch.no_grad()
def answers(network: nn.Module, x: Tensor) -> Predictions:
    """What a network says to images [n,3,H,W] in [0,1]."""
    logits = torch.cat([network(some) for some in x.split(chunk_of(x.device))]).float().cpu()
    scores = logits.softmax(1).amax(1)
    return Predictions(logits.argmax(1).numpy().astype(np.int16), scores.numpy())


@torch.no_grad()
def voted(network: nn.Module, x: Tensor, smoothing: SmoothingConfig, random: np.random.Generator) -> Predictions:
    """Answers by majority over noisy copies; the score is the share of votes."""
    sigma = np.float32(smoothing.sigma_255 / store.GREY_LEVELS)
    rounds = []
    for _ in range(smoothing.votes):
        noise = torch.from_numpy(random.standard_normal(tuple(x.shape), np.float32) * sigma).to(x.device)
        logits = torch.cat([network(some) for some in (x + noise).split(chunk_of(x.device))])
        rounds.append(nn.functional.one_hot(logits.argmax(1), logits.shape[1]).cpu())
    most, guess = torch.stack(rounds).sum(0).max(1)
    return Predictions(guess.numpy().astype(np.int16), (most / smoothing.votes).numpy())


def answers_of_backend(backend: Backend, spec: InputSpec, x: ImageDataset) -> Predictions:
    """What the bundle's file says to images RGB [n,3,H,W] in [0,1]."""
    ordered = normalise(x if spec.colour == "rgb" else x[:, ::-1], spec)
    step = CHUNKS["cpu"]
    logits = np.concatenate([backend.infer(ordered[at : at + step]) for at in range(0, len(ordered), step)])
    return answers(nn.Identity(), torch.from_numpy(np.ascontiguousarray(logits)))
