"""Randomised smoothing: what a network answers by a vote under Gaussian noise, and the L2 radius that is certain.

Source: Cohen et al. 2019 (arXiv 1902.02918): theorem 1, and PREDICT and CERTIFY of section 3.2. The noise is not
clipped, as the theorem demands. Radii are in pixel units of [0, 1]: 1 is the way from black to white in one value.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor, nn

from lisard_ros.errors import OutputError, UsageError
from lisard_ros.evaluation.statistics import Proportion, proportion

BISECTIONS = 100
_BLOCK = 100  # noisy images drawn at once, so that the draws do not depend on the size of the network's batches

Network = Callable[[Tensor], Tensor]
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class SmoothingSettings:
    """How an image is judged; the defaults are those of Cohen et al., section 4.

    sigma: of the noise in [0, 1] pixel units, best the one of the training. choose (n0): draws to choose the class;
    draws (n): further draws to bound its share, or to predict; alpha: probability that an answer or radius is wrong.
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

    @property
    def largest_radius_l2(self) -> float:
        """The radius when every draw agrees: more takes more draws or more noise. 0: too few draws for any."""
        return radius_l2(self.draws, self.draws, self.alpha, self.sigma) or 0.0


@dataclass(frozen=True, slots=True)
class SmoothedPrediction:
    """The answer of the smoothed network to image `number`; None: it abstains, the vote was too close."""

    number: int
    answer: int | None
    hits: int
    draws: int
    seconds: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is certain of image `number`, with probability 1 - alpha.

    No change with an L2 norm below radius_l2 makes the smoothed network answer anything but `answer`. hits of draws
    fell on the chosen class, whose true share is at least share_low. Abstained: answer None, radius and share_low 0.
    values: how many an image has.
    """

    number: int
    answer: int | None
    hits: int
    draws: int
    share_low: float
    radius_l2: float
    values: int
    seconds: float = field(compare=False)

    @property
    def radius_linf(self) -> float:
        """Largest Linf budget whose changes all stay within the L2 radius."""
        return linf_within(self.radius_l2, self.values)

    def holds(self, label: int, radius_l2: float) -> bool:
        """Say whether the right answer is certain for every change below this norm."""
        return self.answer == label and self.radius_l2 >= radius_l2


@dataclass(frozen=True, slots=True)
class CertifiedShare:
    """Share of the images whose right answer is certain at a radius, with its 95 % Wilson interval."""

    radius_l2: float
    radius_linf: float
    share: Proportion


def certify(
    network: Network,
    images: Tensor,
    settings: SmoothingSettings,
    numbers: Iterable[int] | None = None,
    progress: Progress = lambda draws: None,
) -> Iterator[Certificate]:
    """Yield a certificate for each image, one at a time.

    network: images [B, C, H, W] -> logits [B, K]; images: float [N, C, H, W] in [0, 1] on the network's device.
    numbers: which images (None: all). The draws of an image depend on seed, number and device alone, so what was
    stopped goes on with the numbers that are missing. progress: told how many draws were made, after each batch.
    UsageError for images or a network that cannot be judged, OutputError for logits that are none.
    """
    _require(network, images)
    return (_certified(network, images, number, settings, progress) for number in _each(images, numbers))


def predict(
    network: Network,
    images: Tensor,
    settings: SmoothingSettings,
    numbers: Iterable[int] | None = None,
    progress: Progress = lambda draws: None,
) -> Iterator[SmoothedPrediction]:
    """Yield the smoothed network's answer to each image, from `draws` votes; arguments as for `certify`."""
    _require(network, images)
    return (_predicted(network, images, number, settings, progress) for number in _each(images, numbers))


def certified_shares(
    certificates: Sequence[Certificate], labels: Sequence[int], radii_l2: Sequence[float]
) -> tuple[CertifiedShare, ...]:
    """Return the share of right and certain answers at each radius; labels: class indices, one per certificate."""
    if len(labels) != len(certificates):
        raise UsageError("labels and certificates differ in number", found=len(labels), expected=len(certificates))
    values = certificates[0].values if certificates else 0
    pairs = list(zip(certificates, labels, strict=True))
    return tuple(
        CertifiedShare(
            radius, linf_within(radius, values), proportion(sum(c.holds(y, radius) for c, y in pairs), len(pairs))
        )
        for radius in radii_l2
    )


def linf_within(radius_l2: float, values: int) -> float:
    """Largest eps for which every change of `values` values by at most eps has an L2 norm of at most the radius."""
    return radius_l2 / math.sqrt(values) if values else math.nan


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
    coefficients = _log_binomials(hits, n)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _log_upper_tail(middle, hits, n, coefficients) < math.log(alpha):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def p_value_of_tie(first: int, second: int) -> float:
    """Exact two-sided binomial test: how likely votes are to split at least so far when both classes are equal."""
    n, most = first + second, max(first, second)
    if not n:
        return 1.0
    return min(1.0, 2 * math.exp(_log_upper_tail(0.5, most, n, _log_binomials(most, n))))


def _certified(
    network: Network, images: Tensor, number: int, settings: SmoothingSettings, progress: Progress
) -> Certificate:
    start = time.perf_counter()
    votes = _Votes(network, images[number], number, settings, progress)
    chosen = int(votes.count(settings.choose).argmax())
    final = votes.count(settings.draws)
    hits = int(final[chosen])
    radius = radius_l2(hits, settings.draws, settings.alpha, settings.sigma)
    bound = 0.0 if radius is None else NormalDist().cdf(radius / settings.sigma)
    return Certificate(
        number,
        None if radius is None else chosen,
        hits,
        settings.draws,
        bound,
        radius or 0.0,
        images[number].numel(),
        time.perf_counter() - start,
    )


def _predicted(
    network: Network, images: Tensor, number: int, settings: SmoothingSettings, progress: Progress
) -> SmoothedPrediction:
    start = time.perf_counter()
    votes = _Votes(network, images[number], number, settings, progress).count(settings.draws)
    order = np.argsort(-votes, kind="stable")
    first, second = int(votes[order[0]]), int(votes[order[1:2]].sum())
    answer = int(order[0]) if p_value_of_tie(first, second) <= settings.alpha else None
    return SmoothedPrediction(number, answer, first, settings.draws, time.perf_counter() - start)


class _Votes:
    """Counts what a network answers to noisy copies of one image; every call goes on with fresh noise."""

    def __init__(
        self, network: Network, image: Tensor, number: int, settings: SmoothingSettings, progress: Progress
    ) -> None:
        self._network, self._image, self._settings, self._progress = network, image, settings, progress
        self._random = torch.Generator(image.device)
        self._random.manual_seed(_seed_of(settings.seed, number))

    @torch.no_grad()
    def count(self, draws: int) -> np.ndarray:
        """How often each class wins, int64 [K]."""
        total = np.zeros(0, np.int64)
        step = max(1, self._settings.batch // _BLOCK) * _BLOCK
        for start in range(0, draws, step):
            noisy = self._noisy(min(step, draws - start))
            for part in noisy.split(self._settings.batch):
                wins = _winners(self._network(part), len(part))
                total = _added(total, wins)
                self._progress(len(part))
        return total

    def _noisy(self, count: int) -> Tensor:
        noisy = torch.empty((count, *self._image.shape), dtype=self._image.dtype, device=self._image.device)
        for block in noisy.split(_BLOCK):
            block.normal_(0, self._settings.sigma, generator=self._random)
        return noisy.add_(self._image)


def _winners(logits: Tensor, count: int) -> np.ndarray:
    """Votes for each class, int64 [K]."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != count:
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise OutputError("the network does not answer with logits", found=found, expected=f"[{count}, classes]")
    if not bool(logits.isfinite().all()):
        raise OutputError("the network's answer to noise is not finite", found="NaN or infinity", expected="logits")
    return torch.bincount(logits.argmax(1), minlength=logits.shape[1]).cpu().numpy()


def _added(total: np.ndarray, votes: np.ndarray) -> np.ndarray:
    return total + votes if len(total) else votes


def _seed_of(seed: int, number: int) -> int:
    """One 64-bit seed per image."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])


def _each(images: Tensor, numbers: Iterable[int] | None) -> Iterable[int]:
    wanted = range(len(images)) if numbers is None else list(numbers)
    strays = [number for number in wanted if not 0 <= number < len(images)]
    if strays:
        raise UsageError("no such images to judge", found=strays, expected=f"0 to {len(images) - 1}")
    return wanted


def _require(network: Network, images: Tensor) -> None:
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


def _log_binomials(hits: int, n: int) -> np.ndarray:
    """Log of n over k for k = hits..n."""
    k = np.arange(hits, n + 1)
    ratios = np.log(n - k[:-1]) - np.log(k[:-1] + 1)
    first = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    return first + np.concatenate([[0.0], np.cumsum(ratios)])


def _log_upper_tail(p: float, hits: int, n: int, coefficients: np.ndarray) -> float:
    """Log P(X >= hits) for X ~ Binomial(n, p)."""
    k = np.arange(hits, n + 1)
    terms = coefficients + k * math.log(p) + (n - k) * math.log1p(-p)
    top = terms.max()
    return float(top + np.log(np.exp(terms - top).sum()))
