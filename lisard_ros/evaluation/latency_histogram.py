"""Percentiles of durations in bounded memory: a histogram whose bins grow by one factor, so that errors are relative.

Two histograms add up to exactly that of all their durations, in whatever order they came.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from lisard_ros.evaluation.statistics import PERCENTS, Percentiles

RELATIVE_ERROR = 0.005
SHORTEST_MS = 1e-4  # everything below falls into one bin: a steady clock does not resolve it
_LOG_FACTOR = math.log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
_FIRST = math.ceil(math.log(SHORTEST_MS) / _LOG_FACTOR)


@dataclass(slots=True, eq=False)
class LatencyHistogram:
    """How many durations fell into each bin; 700 bins are the range from 1 ms to 1 s."""

    counts: Counter[int] = field(default_factory=Counter)
    shortest_ms: float = math.inf
    longest_ms: float = -math.inf

    def add(self, duration_ms: float) -> None:
        """Count one duration of 0 or more milliseconds."""
        below = duration_ms <= SHORTEST_MS
        self.counts[_FIRST if below else math.ceil(math.log(duration_ms) / _LOG_FACTOR)] += 1
        if duration_ms < self.shortest_ms:
            self.shortest_ms = duration_ms
        if duration_ms > self.longest_ms:
            self.longest_ms = duration_ms

    def merge(self, other: LatencyHistogram) -> None:
        """Add all durations of another one."""
        self.counts.update(other.counts)
        self.shortest_ms = min(self.shortest_ms, other.shortest_ms)
        self.longest_ms = max(self.longest_ms, other.longest_ms)

    def percentiles(self) -> Percentiles:
        """Summarise: percentiles are off by RELATIVE_ERROR at most, the largest duration is exact."""
        n = self.counts.total()
        if not n:
            return Percentiles(0, math.nan, math.nan, math.nan, math.nan)
        p50, p95, p99 = (self._at_rank(percent / 100 * (n - 1)) for percent in PERCENTS)
        return Percentiles(n, p50, p95, p99, self.longest_ms)

    def _at_rank(self, rank: float) -> float:
        """Return the duration that so many others come before, the middle of its bin."""
        before = 0
        for number in sorted(self.counts):
            before += self.counts[number]
            if before > rank:
                break
        middle = math.exp(number * _LOG_FACTOR) * (1 - RELATIVE_ERROR)
        return min(max(middle, self.shortest_ms), self.longest_ms)
