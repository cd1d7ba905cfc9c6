"""Terms of the training loss, each a function of two views' outputs: similarity, consistency, input gradients.

A term gives one number whose scale does not depend on batch or width (but for the published form, kept as published).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from . import lisard
from .lisard import at_least_float32

Gather = Callable[[Tensor], Tensor]


def alone(z: Tensor) -> Tensor:
    """The embeddings of this process are those of the whole batch."""
    return z


def similarity(
    clean: Tensor, noisy: Tensor, off_weight: float, *, normalise: bool, divisor: int | None = None, wide: bool = True
) -> Tensor:
    """Barlow Twins' on + lambda off of embeddings [n, d]; sums as published, or means over d and d(d-1) entries.

    `divisor` replaces n (the published code divides by the configured batch, also where a batch is smaller).
    """
    compared = lisard.compare(clean, noisy, divisor, wide)
    return compared.normalised(off_weight) if normalise else compared.barlow(off_weight)


def pooled(features: Tensor) -> Tensor:
    """Mean over the positions of a feature map: [N, C, h, w] -> [N, C]; vectors stay as they are."""
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features


def chosen(z: Tensor, columns: Tensor | None) -> Tensor:
    """A subset of the features (so that n > d), or all."""
    return z if columns is None else z[:, columns]


def cosine(clean: Tensor, noisy: Tensor) -> Tensor:
    """Mean of 1 - cos(z, z') over the images: 0 for parallel embeddings, 2 for opposite ones."""
    return (1 - functional.cosine_similarity(at_least_float32(clean), at_least_float32(noisy), dim=1)).mean()


def kl(clean_logits: Tensor, noisy_logits: Tensor, temperature: float) -> Tensor:
    """Mean over the images of T^2 KL(clean || noisy) of softmax(logits / T), as in stability training.

    Source: Zheng et al. 2016 (arXiv 1604.04326) eq. 5. The clean side receives no gradient: it is the teacher.
    """
    teacher = (at_least_float32(clean_logits).detach() / temperature).log_softmax(1)
    student = (at_least_float32(noisy_logits) / temperature).log_softmax(1)
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def gradient_l1(loss: Tensor, x: Tensor) -> Tensor:
    """Mean over the images of |d loss / d x| summed over pixels, differentiable once more (double backward).

    loss: [N], of x [N,3,H,W] with requires_grad. eps times this is the first-order loss of an Linf attack of size eps.
    Source: Ross & Doshi-Velez 2018 (arXiv 1711.09404), in the L1 form of Rodriguez-Munoz et al. (arXiv 2409.20139).
    """
    (gradient,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
    return gradient.abs().flatten(1).sum(1).mean()


def slope(moved: Tensor, base: Tensor, distance: float) -> Tensor:
    """The same by a finite difference: (loss at x + h sign(gradient) - loss at x) / h, mean over the images.

    Source: Finlay & Oberman 2019 (arXiv 1905.11468) section 3: no double backward, one more pass.
    """
    return ((moved - base) / distance).mean()


def extrapolated(base: Tensor, moved: Tensor, factor: float) -> Tensor:
    """Logits [N,K] `factor` steps on, if the network went on as it does over the first: base + factor (moved - base).

    Their cross entropy is the first-order loss of an Linf attack of size factor times the step. To first order in the
    logits, not in the loss as `slope` is: it is felt where the network is sure, and does not grow without end where it
    is wrong.
    """
    return base + factor * (moved - base)


def gradient_gap(clean: Tensor, other: Tensor) -> Tensor:
    """Mean over the images of the squared L2 distance of two input gradients [N,3,H,W].

    Between x and x + h v it is CURE's curvature (Moosavi-Dezfooli et al. 2018, arXiv 1811.09716, eq. 6); between the
    two views it asks that noise change the gradient little.
    """
    return (clean - other).flatten(1).square().sum(1).mean()


def mean(parts: Sequence[Tensor]) -> Tensor:
    """Mean of the terms of several layers."""
    return torch.stack(list(parts)).mean()
