"""Rate and latency of the operational answers, apart for the time with injection and the time without."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from lisard_ros.evaluation.statistics import percentiles

WINDOW_FRAMES = 600  # as in `frame_counters`
# A longer time without an answer is no part of a rate: the cameras were silent, or the node was not active.
LONGEST_GAP_S = 2.0


@dataclass(frozen=True, slots=True)
class Load:
    """Of all cameras together. rate_hz: answers per second; p50_ms, p99_ms: from arrival to publication.

    frames: how many answers these figures rest on; 0: none, and the figures are 0.
    """

    frames: int = 0
    rate_hz: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0


class OperationalLoad:
    """The latest answers with injection, and the latest without; the publishing thread adds, diagnostics reads."""

    def __init__(self) -> None:
        """Start without any."""
        self._lock = threading.Lock()
        # For each answer: its latency, and the time since the one before, where that was of the same kind.
        self._answers: dict[bool, deque[tuple[float, float | None]]] = {
            kind: deque(maxlen=WINDOW_FRAMES) for kind in (False, True)
        }
        self._last: tuple[bool, float] | None = None

    def answered(self, total_ms: float, now_s: float, injecting: bool) -> None:
        """Note an answer. now_s: seconds of a steady clock; injecting: whether the injection process ran."""
        with self._lock:
            gap_s = None
            if self._last is not None and self._last[0] == injecting and now_s - self._last[1] <= LONGEST_GAP_S:
                gap_s = now_s - self._last[1]
            self._last = injecting, now_s
            self._answers[injecting].append((total_ms, gap_s))

    def load(self, injecting: bool) -> Load:
        """Return the figures of one kind."""
        with self._lock:
            answers = list(self._answers[injecting])
        if not answers:
            return Load()
        gaps_s = [gap for _, gap in answers if gap is not None]
        p = percentiles([total for total, _ in answers])
        return Load(len(answers), len(gaps_s) / sum(gaps_s) if sum(gaps_s) > 0 else 0.0, p.p50_ms, p.p99_ms)
