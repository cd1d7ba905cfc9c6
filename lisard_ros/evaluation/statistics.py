"""Numbers with their uncertainty: accuracies with Wilson intervals, percentiles, and differences by paired bootstrap.

Every accuracy that the package prints goes through here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z_95 = 1.959963984540054
BOOTSTRAP_ROUNDS = 2000


@dataclass(frozen=True, slots=True)
class Proportion:
    """`hits` of `n`, with the 95 % Wilson score interval [low, high]; all in [0, 1], NaN when n is 0.

    Of `clustered` the interval is wider than n independent images would have.
    """

    hits: int
    n: int
    share: float
    low: float
    high: float

    def __str__(self) -> str:
        """Percent with the interval and n, as tables print it."""
        if not self.n:
            return "no data"
        return f"{100 * self.share:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}] n={self.n}"


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval, in the unit of what was estimated."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Percentiles:
    """p50, p95, p99 and the largest of `n` durations in milliseconds; NaN when n is 0."""

    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def proportion(hits: int, n: int) -> Proportion:
    """Return hits / n with its Wilson interval (Wilson 1927).

    Args:
        hits: Whole number, 0 to n.
        n: Whole number; with 0 share and interval are NaN.

    Examples:
        >>> str(proportion(8, 10))
        '80.0 % [49.0, 94.3] n=10'
    """
    if n == 0:
        return Proportion(0, 0, math.nan, math.nan, math.nan)
    return Proportion(hits, n, hits / n, *_wilson(hits / n, n))


def _wilson(share: float, n: float) -> tuple[float, float]:
    z2 = Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))  # rounding may cross the share


def clustered(hits: ArrayLike, groups: ArrayLike) -> Proportion:
    """Return the share of hits with a Wilson interval for as many images as the groups are worth.

    Images of one group resemble each other, so N of them are weaker evidence than N independent ones. N is
    divided by the design effect, the variance of the share over whole groups by that of independent images (Kish 1965,
    section 8.2; for intervals: Korn and Graubard 1998). It is estimated with one group more that is all
    right and one that is all wrong, as Agresti and Coull (1998) do with counts. Without them an interval near 0 or 1,
    or over few groups, contains the true share too rarely (a test draws such shares).

    Args:
        hits: 0 or 1 for each image, [N].
        groups: The track or scene of each image, [N].
    """
    right = np.asarray(hits, np.float64)
    n = right.size
    if n == 0:
        return proportion(0, 0)
    sums, sizes = _by_group(right, np.asarray(groups))
    count, share = len(sums), float(right.mean())
    effective = float(count) if count in (1, n) else n / _design_effect(sums, sizes)
    low, high = _wilson(share, effective)
    return Proportion(int(right.sum()), n, share, low, high)


def _design_effect(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """At least 1; sums and sizes [G]: right answers and images of each group."""
    usual = sizes.mean()
    sums, sizes = np.append(sums, (usual, 0.0)), np.append(sizes, (usual, usual))
    count, n = len(sums), sizes.sum()
    share = sums.sum() / n
    over_groups = count / (count - 1) * ((sums - share * sizes) ** 2).sum() / n**2
    return max(1.0, float(over_groups / (share * (1 - share) / n)))


def percentiles(durations_ms: ArrayLike) -> Percentiles:
    """Summarise durations in milliseconds, [N]; between two of them a percentile is interpolated (numpy's default).

    The only definition of p50, p95 and p99: node diagnostics, replay, benchmarks and the demonstration use it.
    """
    values = np.asarray(durations_ms, np.float64)
    if values.size == 0:
        return Percentiles(0, math.nan, math.nan, math.nan, math.nan)
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return Percentiles(int(values.size), float(p50), float(p95), float(p99), float(values.max()))


def paired_difference(
    ours: ArrayLike, theirs: ArrayLike, groups: Sequence[str], seed: int, rounds: int = BOOTSTRAP_ROUNDS
) -> Interval:
    """Return the mean of ours - theirs over the same images, with a percentile-bootstrap interval over whole groups.

    Images of one group are resampled together, because they are not independent evidence (cluster bootstrap, Davison
    and Hinkley 1997, section 3.8). A single group shows no variance: its interval is the value alone, and no evidence
    about other groups.

    Args:
        ours: A number for each image, [N], such as 1 for a right answer.
        theirs: The same of the other model, [N].
        groups: The track or scene of each image, [N].
        seed: Of the resampling.
        rounds: How many resamples.
    """
    difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    sums, sizes = _by_group(difference, groups)
    draws = np.random.default_rng(seed).integers(0, len(sums), (rounds, len(sums)))
    means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(difference.mean()), float(low), float(high))


def resamples(groups: ArrayLike, draws: int, seed: int) -> NDArray[np.float64]:
    """Return how often each of N images counts in each bootstrap sample of whole groups: float64 [draws, N].

    groups [N]: as in `paired_difference`; for figures that are no means, such as AP.
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    share = np.full(len(names), 1 / len(names))
    drawn = np.random.default_rng(seed).multinomial(len(names), share, size=draws)
    return np.asarray(drawn[:, index], np.float64)


def _by_group(values: NDArray[np.float64], groups: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    return np.bincount(index, weights=values).astype(np.float64), np.bincount(index).astype(np.float64)
