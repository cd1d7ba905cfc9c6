"""Numbers with their uncertainty: accuracies with Wilson intervals, percentiles, and differences by paired bootstrap.

Every accuracy that the package prints goes through here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z_95 = 1.959963984540054
PERCENTS = (50, 95, 99)
BOOTSTRAP_ROUNDS = 2000
DRAWN_AT_ONCE = 1 << 22  # so that resampling many images takes little memory


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


NO_DATA = Proportion(0, 0, math.nan, math.nan, math.nan)


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
        return NO_DATA
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
    return clustered_counts(right, np.ones_like(right), groups)


def clustered_counts(hits: ArrayLike, sizes: ArrayLike, groups: ArrayLike) -> Proportion:
    """Return `clustered` of frames that each show several things.

    Args:
        hits: How many of them are right, for each frame [F].
        sizes: How many there are, [F]; frames without any count for nothing.
        groups: The block of each frame, [F].
    """
    judged = np.asarray(sizes, np.float64) > 0
    right, wanted = np.asarray(hits, np.float64)[judged], np.asarray(sizes, np.float64)[judged]
    n = int(wanted.sum())
    if n == 0:
        return proportion(0, 0)
    _, index = np.unique(np.asarray(groups)[judged], return_inverse=True)
    sums = np.bincount(index, weights=right).astype(np.float64)
    totals = np.bincount(index, weights=wanted).astype(np.float64)
    count, share = len(sums), float(right.sum() / n)
    effective = float(count) if count in (1, n) else n / _design_effect(sums, totals)
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

    The definition of p50, p95 and p99 in node diagnostics, benchmarks and the demonstration. A replay, whose length
    nobody knows, keeps `latency_histogram` instead.
    """
    values = np.asarray(durations_ms, np.float64)
    if values.size == 0:
        return Percentiles(0, math.nan, math.nan, math.nan, math.nan)
    p50, p95, p99 = np.percentile(values, PERCENTS)
    return Percentiles(int(values.size), float(p50), float(p95), float(p99), float(values.max()))


def paired_difference(
    ours: ArrayLike,
    theirs: ArrayLike,
    groups: ArrayLike,
    seed: int,
    rounds: int = BOOTSTRAP_ROUNDS,
    sizes: ArrayLike | None = None,
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
        sizes: How many things each image shows, above 0 [N], where ours and theirs count the right ones among them;
            None: one.
    """
    difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    sums, counts = _by_group(difference, groups)
    if sizes is not None:
        counts, _ = _by_group(np.asarray(sizes, np.float64), groups)
    random, means = np.random.default_rng(seed), np.empty(rounds)
    at_once = max(1, DRAWN_AT_ONCE // len(sums))
    for begin in range(0, rounds, at_once):
        draws = random.integers(0, len(sums), (min(at_once, rounds - begin), len(sums)))
        means[begin : begin + at_once] = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    return interval_of(np.append(difference.sum() / counts.sum(), means))


def interval_of(drawn: NDArray[np.float64]) -> Interval:
    """Return a figure with its 95 % percentile-bootstrap interval.

    Args:
        drawn: The figure of all images, then that of each resample, [1 + D]. Resamples without one, NaN, are left out;
            where none is left, there is no interval.
    """
    known = drawn[1:][~np.isnan(drawn[1:])]
    low, high = np.percentile(known, (2.5, 97.5)) if len(known) else (math.nan, math.nan)
    return Interval(float(drawn[0]), float(low), float(high))


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
