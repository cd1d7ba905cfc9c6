"""Making the images of one part as a model meets them, on whole grey levels, and asking a model for its answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lisard_ros import injection
from lisard_ros.attacks import store
from lisard_ros.attacks.apgd import APGD, APGDTargeted, apgd, apgd_targeted
from lisard_ros.attacks.ensemble import EOT, GaussianNoise
from lisard_ros.attacks.gradient import PGD, fgsm, pgd
from lisard_ros.attacks.mifgsm import MIFGSM, GradientSmoothing, InputDiversity, mifgsm
from lisard_ros.attacks.model import AttackModel, Loss, Untargeted
from lisard_ros.attacks.restarts import Restarts, pgd_restarts
from lisard_ros.attacks.square import Square, square
from lisard_ros.attacks.torch_model import chunk_of
from lisard_ros.corruptions import corrupt
from lisard_ros.frames import GREY_LEVELS

from ....evaluation.cache import Arrays
from ....evaluation.draws import RowsOfAll
from ....evaluation.runner import ImageRange
from . import smoothing
from .models import ClassifierUnderTest
from .suites import Attack, CertificateConfig, CorruptionConfig, SmoothingConfig

NARROW_255 = 127  # budgets up to here fit into int8
FEWEST_CLASSES_FOR_DLR = 4
TI_RADIUS_PX = 2  # published: 7 of 299 px; on 32 px a filter of 5 pixels keeps the perturbation's detail
ABSTAINED = -1


@dataclass(frozen=True, eq=False)
class ImageBatch(ImageRange):
    """Its images x float32 [n,3,H,W] on the 8-bit grid, their classes int64 [n], and the hash of both."""

    x: NDArray[np.float32]
    labels: NDArray[np.int64]
    sha256: str


def craft(model: ClassifierUnderTest, batch: ImageBatch, attack: Attack) -> Arrays:
    """Attacks a model: `deltas` in grey levels [n,3,H,W], and its answers to the images before they were rounded."""
    random = RowsOfAll(attack.seed, batch.start, batch.stop, batch.total)
    x = torch.from_numpy(batch.x).to(model.device)
    attack_model: AttackModel = model.attack_model
    if attack.noise_sigma_255:  # the prediction is smoothed: its mean over noise is attacked
        noise = GaussianNoise(attack.noise_sigma_255 / GREY_LEVELS, random)
        attack_model = EOT(attack_model, attack.draws, noise)
    result = attacked(attack_model, x, batch.labels, attack, random)
    deltas = store.quantise(batch.x, result.cpu().numpy(), attack.eps_255)
    narrow = np.int8 if attack.eps_255 <= NARROW_255 else np.int16
    return {"deltas": deltas.astype(narrow), "unrounded": answers(model.network, result).answers}


def corrupted(batch: ImageBatch, corruption: CorruptionConfig) -> NDArray[np.float32]:
    """The images [n,3,H,W] under a common corruption."""
    levels = np.rint(batch.x * GREY_LEVELS).astype(np.uint8).transpose(0, 2, 3, 1)
    made = corrupt(np.ascontiguousarray(levels), corruption.name, corruption.severity, corruption.seed)
    return np.ascontiguousarray(made.transpose(0, 3, 1, 2), np.float32) / np.float32(GREY_LEVELS)


def noisy(batch: ImageBatch, sigma_255: float, seed: int) -> NDArray[np.float32]:
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
    return predictions(torch.cat([network(some) for some in x.split(chunk_of(x.device))]).float().cpu().numpy())


def predictions(logits: NDArray[np.float32]) -> Predictions:
    """What logits [n,K] mean."""
    scores = torch.from_numpy(logits).softmax(1).amax(1)
    return Predictions(logits.argmax(1).astype(np.int16), scores.numpy())


@torch.no_grad()
def voted(network: nn.Module, x: Tensor, smoothing: SmoothingConfig, random: np.random.Generator) -> Predictions:
    """Answers by majority over noisy copies; the score is the share of votes."""
    sigma = np.float32(smoothing.sigma_255 / GREY_LEVELS)
    rounds = []
    for _ in range(smoothing.votes):
        noise = torch.from_numpy(random.standard_normal(tuple(x.shape), np.float32) * sigma).to(x.device)
        logits = torch.cat([network(some) for some in (x + noise).split(chunk_of(x.device))])
        rounds.append(nn.functional.one_hot(logits.argmax(1), logits.shape[1]).cpu())
    most, guess = torch.stack(rounds).sum(0).max(1)
    return Predictions(guess.numpy().astype(np.int16), (most / smoothing.votes).numpy())


def attacked(model: AttackModel, x: Tensor, labels: np.ndarray, attack: Attack, random: np.random.Generator) -> Tensor:
    """Images after an attack, within its budget and not yet rounded to grey levels.

    Args:
        model: What is attacked.
        x: Images float32 [N,3,H,W] in [0,1].
        labels: Their classes, int64 [N].
        attack: Method and settings.
        random: Source of every draw.
    """
    criterion, eps, step = Untargeted(labels), attack.eps_255 / GREY_LEVELS, attack.step_255 / GREY_LEVELS
    # White-box stops at the first success; images for other models are driven as far as they go.
    stop = attack.knowledge != "gray-box"
    result: Tensor
    match attack.method:
        case "fgsm":
            result = fgsm(model, x, criterion, eps)
        case "pgd":  # the last iterate, as published
            result = pgd(model, x, criterion, PGD(eps, step, attack.steps, attack.random_start), random)
        case "pgd_best":  # the worst of all iterates and restarts
            descent = PGD(eps, step, attack.steps, attack.random_start)
            restarts = Restarts(descent, attack.restarts, stop_when_fooled=stop)
            result = pgd_restarts(model, x, criterion, restarts, random).x
        case "mi_fgsm" | "di_fgsm" | "ti_fgsm":
            diversity = InputDiversity() if attack.method == "di_fgsm" else None
            smoothing = GradientSmoothing(TI_RADIUS_PX) if attack.method == "ti_fgsm" else None
            momentum = MIFGSM(eps, attack.steps, step=step, diversity=diversity, smoothing=smoothing)
            result = mifgsm(model, x, criterion, momentum, random)
        case "apgd_ce":
            adaptive = APGD(eps, attack.steps, attack.restarts, stop_when_fooled=stop)
            result = apgd(model, x, criterion, adaptive, random).x
        case "apgd_t":  # targeted DLR as published; with fewer classes than it needs, the margin instead
            adaptive = APGD(eps, attack.steps, attack.restarts, stop_when_fooled=stop)
            classes = model.evaluate(x[:1], Untargeted(labels[:1]), gradient=False).scores.shape[1]
            loss: Loss = "dlr_targeted" if classes >= FEWEST_CLASSES_FOR_DLR else "margin"
            result = apgd_targeted(model, x, labels, APGDTargeted(adaptive, attack.targets, loss), random).x
        case "square":
            result = square(model, x, Untargeted(labels, "margin"), Square(eps, attack.queries), random).x
    return result


def certified(model: ClassifierUnderTest, batch: ImageBatch, certificate: CertificateConfig) -> Arrays:
    """For each image the smoothed answer (-1: abstained), the share of its votes, and its radius in pixel units."""
    settings = smoothing.SmoothingSettings(
        sigma=certificate.sigma_255 / GREY_LEVELS,
        choose=certificate.choose,
        draws=certificate.draws,
        alpha=certificate.alpha,
        seed=certificate.seed + batch.start,
    )
    with torch.no_grad():
        found = list(smoothing.certify(model.network, torch.from_numpy(batch.x).to(model.device), settings))
    return {
        "answers": np.array([ABSTAINED if c.answer is None else c.answer for c in found], np.int16),
        "scores": np.array([c.hits / c.draws for c in found], np.float32),
        "radius_l2": np.array([np.nan if c.answer is None else c.radius_l2 for c in found], np.float32),
    }
