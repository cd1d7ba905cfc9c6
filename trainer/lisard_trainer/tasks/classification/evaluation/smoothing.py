"""Randomised smoothing: the L2 radius within which a vote under Gaussian noise is certain.

Source: Cohen et al. 2019 (arXiv 1902.02918): theorem 1, and CERTIFY of section 3.2. The noise is not clipped, as the
theorem demands. Radii are in pixel units of [0, 1]: 1 is the way from black to white in one value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor, nn

from lisard_ros.errors import OutputError, UsageError

BISECTIONS = 100
BLOCK = 100  # noisy images drawn at once, so that the draws do not depend on the size of the network's batches

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class SmoothingSettings:
    """How an image is judged; the defaults are those of Cohen et al., section 4.

    sigma: of the noise in [0, 1] pixel units, best the one of the training. choose (n0): draws to choose the class;
    draws (n): further draws to bound its share; alpha: probability that an answer or radius is wrong.
    batch: images per call of the network, no matter of the result.
    """

    sigma: float
    choose: int = 100
    draws: int = 100_000
    alpha: float = 0.001
    batch: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that certify nothing."""
        counts = (self.choose, self.draws, self.batch)
        fits = 0 < self.sigma < math.inf and min(counts) >= 1 and 0 < self.alpha < 1 and self.seed >= 0
        if not fits:
            raise UsageError(
                "impossible settings of randomised smoothing",
                found=self,
                expected="sigma > 0; choose, draws, batch >= 1; 0 < alpha < 1; seed >= 0",
            )


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is certain of image `number`, with probability 1 - alpha.

    No change with an L2 norm below radius_l2 makes the smoothed network answer anything but `answer`. hits of draws
    fell on the chosen class, whose true share is at least share_low. Abstained: answer None, radius and share_low 0.
    """

    number: int
    answer: int | None
    hits: int
    draws: int
    share_low: float
    radius_l2: float


def certify(network: Network, images: Tensor, settings: SmoothingSettings) -> Iterator[Certificate]:
    """Yields a certificate for each image, whose draws depend on seed, number and device alone.

    Args:
        network: Images [B, C, H, W] -> logits [B, K].
        images: Float [N, C, H, W] in [0, 1], on the network's device.
        settings: Noise, draws and failure probability.

    Raises:
        UsageError: Images or a network that cannot be judged.
        OutputError: Logits that are none.
    """
    if not images.is_floating_point() or images.ndim != 4:
        raise UsageError(
            "no images to judge",
            found=f"{images.dtype} {list(images.shape)}",
            expected="float [N, C, H, W] in [0, 1]",
        )
    if isinstance(network, nn.Module) and network.training:
        raise UsageError(
            "the network is in training mode, so that its answers depend on the batch",
            found="training",
            expected="evaluation",
            cure="call network.eval() first",
        )
    return (_certified(network, image, number, settings) for number, image in enumerate(images))


def _certified(network: Network, image: Tensor, number: int, settings: SmoothingSettings) -> Certificate:
    random = torch.Generator(image.device)
    random.manual_seed(int(np.random.SeedSequence([settings.seed, number]).generate_state(1, np.uint64)[0]))
    chosen = int(_votes(network, image, settings.choose, settings, random).argmax())
    hits = int(_votes(network, image, settings.draws, settings, random)[chosen])
    radius = radius_l2(hits, settings.draws, settings.alpha, settings.sigma)
    if radius is None:
        return Certificate(number, None, hits, settings.draws, 0.0, 0.0)
    return Certificate(number, chosen, hits, settings.draws, NormalDist().cdf(radius / settings.sigma), radius)


@torch.no_grad()
def _votes(
    network: Network, image: Tensor, draws: int, settings: SmoothingSettings, random: torch.Generator
) -> np.ndarray:
    """How often each class wins on noisy copies of an image, int64 [K]; every call goes on with fresh noise."""
    total: np.ndarray | int = 0
    step = max(1, settings.batch // BLOCK) * BLOCK
    for start in range(0, draws, step):
        noisy = torch.empty((min(step, draws - start), *image.shape), dtype=image.dtype, device=image.device)
        for block in noisy.split(BLOCK):
            block.normal_(0, settings.sigma, generator=random)
        for part in noisy.add_(image).split(settings.batch):
            logits = network(part)
            if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(part):
                found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                expected = f"[{len(part)}, classes]"
                raise OutputError("the network does not answer with logits", found=found, expected=expected)
            if not bool(logits.isfinite().all()):
                what = "the network's answer to noise is not finite"
                raise OutputError(what, found="NaN or infinity", expected="logits")
            total = total + torch.bincount(logits.argmax(1), minlength=logits.shape[1]).cpu().numpy()
    return np.asarray(total)


def radius_l2(hits: int, n: int, alpha: float, sigma: float) -> float | None:
    """Certified L2 radius in pixel units, or None (abstain) when the bound does not exceed one half."""
    if 2 * hits <= n:
        return None
    bound = lower_bound(hits, n, alpha)
    return sigma * NormalDist().inv_cdf(bound) if bound > 0.5 else None


def lower_bound(hits: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson lower bound of a share: the p for which `hits` or more of n has probability alpha."""
    if not (0 <= hits <= n and n >= 1 and 0 < alpha < 1):
        raise UsageError(
            "no share to bound",
            found=f"{hits} of {n} at alpha {alpha}",
            expected="0 <= hits <= n, n >= 1, 0 < alpha < 1",
        )
    if hits == 0:
        return 0.0
    low, high = 0.0, 1.0
    k = np.arange(hits, n + 1)
    ratios = np.log(n - k[:-1]) - np.log(k[:-1] + 1)
    first = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    log_binomials = first + np.concatenate([[0.0], np.cumsum(ratios)])  # of n over k
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        terms = log_binomials + k * math.log(middle) + (n - k) * math.log1p(-middle)
        top = terms.max()
        log_upper_tail = float(top + np.log(np.exp(terms - top).sum()))  # of P(X >= hits), X ~ Binomial(n, middle)
        if log_upper_tail < math.log(alpha):
            low = middle
        else:
            high = middle
    return (low + high) / 2
