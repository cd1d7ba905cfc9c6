"""The LISArD loss: cross entropy on a clean and a noisy view, plus the cross-correlation of their embeddings.

Sources: Costa et al., LISArD (arXiv 2502.20562), and Zbontar et al., Barlow Twins (arXiv 2103.03230) for the
similarity term. The functions named *_official reproduce the published training; the normalised form repairs what the
published code gets wrong (a scale that depends on the embedding's width, a last batch divided by the wrong count,
correlations in 16 bit).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BATCH_NORM_EPS = 1e-5
BARLOW_OFF_WEIGHT = 0.0051  # Barlow Twins' lambda
OFFICIAL_TEMPERATURE = 9000.0  # only a divisor of the similarity term
OFFICIAL_EPOCHS = 200
OFFICIAL_WARM_UP_EPOCHS = 10
OFFICIAL_RATE_WEIGHTS = 0.02
OFFICIAL_RATE_ONE_DIM = 0.00048
OFFICIAL_NOISE_VARIANCE = 8 / 255  # a variance: sigma is 0.177, not 8/255


@dataclass(frozen=True)
class Rates:
    """Learning rates of one step: `weights` for parameters with ndim != 1, `one_dim` for biases and batch norm."""

    weights: float
    one_dim: float


@dataclass(frozen=True)
class CorrelationSums:
    """Sums over the d x d cross-correlation: `on` of (C_ii - 1)^2, `off` of C_ij^2 for i != j; `width` is d."""

    on: Tensor
    off: Tensor
    width: int

    def barlow(self, off_weight: float = BARLOW_OFF_WEIGHT) -> Tensor:
        """The Barlow Twins loss as published: on + lambda off."""
        return self.on + off_weight * self.off

    def normalised(self, off_weight: float) -> Tensor:
        """The same with means in place of sums, so that the weight means the same for every width."""
        pairs = max(self.width * (self.width - 1), 1)
        return self.on / self.width + off_weight * self.off / pairs


def standardise(z: Tensor, eps: float = BATCH_NORM_EPS) -> Tensor:
    """Embeddings [n, d] with mean 0 and population variance 1 in each column; a dead column becomes 0."""
    centred = z - z.mean(dim=0)
    return centred / (centred.square().mean(dim=0) + eps).sqrt()


def cross_correlation(z_clean: Tensor, z_noisy: Tensor, divisor: int | None = None) -> Tensor:
    """C [d, d], rows clean, columns noisy. `divisor`: the number of rows; published code: the set batch."""
    rows = z_clean.shape[0] if divisor is None else divisor
    return standardise(z_clean).T @ standardise(z_noisy) / rows


def compare(z_clean: Tensor, z_noisy: Tensor, divisor: int | None = None, wide: bool = True) -> CorrelationSums:
    """Similarity of two views of the same images.

    Never below 32 bit whatever autocast says, unless `wide` is off (the published code correlates in 16 bit).
    """
    if not wide:
        return _similarity(cross_correlation(z_clean, z_noisy, divisor))
    with torch.autocast(z_clean.device.type, enabled=False):
        return _similarity(cross_correlation(at_least_float32(z_clean), at_least_float32(z_noisy), divisor))


def _similarity(c: Tensor) -> CorrelationSums:
    diagonal = c.diagonal()
    off = c.square().sum() - diagonal.square().sum()
    return CorrelationSums((diagonal - 1).square().sum(), off, c.shape[0])


def at_least_float32(x: Tensor) -> Tensor:
    """X in float64 if it is, else in float32."""
    return x if x.dtype == torch.float64 else x.float()


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Batch mean of the cross entropy, computed in at least 32 bit."""
    return functional.cross_entropy(at_least_float32(logits), labels, label_smoothing=smoothing)


def cross_entropies(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross entropy of each image [N], computed in at least 32 bit."""
    return functional.cross_entropy(at_least_float32(logits), labels, label_smoothing=smoothing, reduction="none")


def combine(alpha: float, ce_clean: Tensor, ce_noisy: Tensor, similarity: Tensor) -> Tensor:
    """Alpha (CE clean + CE noisy) + (1 - alpha) similarity."""
    return alpha * (ce_clean + ce_noisy) + (1 - alpha) * similarity


def alpha_official(epoch_index: int) -> float:
    """The published schedule with its zero-based epoch: starts at 0.4975 and ends at 0.995 after 200 epochs."""
    return 0.5 + (epoch_index - 1) / (2 * OFFICIAL_EPOCHS)


def alpha_generalised(epoch_number: int, epochs: int) -> float:
    """0.5 to nearly 1 over a run of any length; for 200 epochs the published formula, counted from 1."""
    return 0.5 + 0.5 * (epoch_number - 1) / epochs


def rates_official(
    step: int,
    steps_per_epoch: int,
    batch: int,
    epochs: int = OFFICIAL_EPOCHS,
    warmup_epochs: int = OFFICIAL_WARM_UP_EPOCHS,
) -> Rates:
    """Published learning rates of a global step counted from 0: ten warm-up epochs, then a cosine to 0.001."""
    base = batch / 256
    warm_up = warmup_epochs * steps_per_epoch
    if step < warm_up:
        factor = base * step / warm_up
    else:
        share = (step - warm_up) / (epochs * steps_per_epoch - warm_up)
        cosine = 0.5 * (1 + math.cos(math.pi * share))
        factor = base * cosine + 0.001 * base * (1 - cosine)
    return Rates(OFFICIAL_RATE_WEIGHTS * factor, OFFICIAL_RATE_ONE_DIM * factor)


def rates_one_cycle(step: int, steps: int, peak: float, warmup_fraction: float) -> Rates:
    """Linear warm-up to `peak` over a share of the run, then a cosine to 0; the same rate for every parameter."""
    warm_up = max(1, round(warmup_fraction * steps))
    if step < warm_up:
        rate = peak * (step + 1) / warm_up
    else:
        rate = 0.5 * peak * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
    return Rates(rate, rate)
