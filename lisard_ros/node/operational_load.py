"""Rate and latency of the operational answers, apart for the time while attacks run and the time while none do."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
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
    """The latest answers while attacks ran, and while none did; whoever publishes adds, diagnostics reads.

    Attacks run in the injection process: injection, or a self test.
    """

    def __init__(self) -> None:
        """Start without any."""
        self._lock = threading.Lock()
        # For each answer: its latency, and the time since the one before, where that was of the same kind.
        self._answers: dict[bool, deque[tuple[float, float | None]]] = {
            kind: deque(maxlen=WINDOW_FRAMES) for kind in (False, True)
        }
        self._last: tuple[bool, float] | None = None
        self._testing = False

    @contextmanager
    def attacked(self) -> Iterator[None]:
        """Count what is answered meanwhile as answered while attacks run, whether or not there is injection."""
        self._testing = True
        try:
            yield
        finally:
            self._testing = False

    def answered(self, total_ms: float, now_s: float, injecting: bool) -> None:
        """Note an answer. now_s: seconds of a steady clock; injecting: whether injection is on."""
        with self._lock:
            gap_s, attacked = None, injecting or self._testing
            if self._last is not None and self._last[0] == attacked and now_s - self._last[1] <= LONGEST_GAP_S:
                gap_s = now_s - self._last[1]
            self._last = attacked, now_s
            self._answers[attacked].append((total_ms, gap_s))

    def load(self, attacked: bool) -> Load:
        """Return the figures of one kind."""
        with self._lock:
            answers = list(self._answers[attacked])
        if not answers:
            return Load()
        gaps_s = [gap for _, gap in answers if gap is not None]
        p = percentiles([total for total, _ in answers])
        return Load(len(answers), len(gaps_s) / sum(gaps_s) if sum(gaps_s) > 0 else 0.0, p.p50_ms, p.p99_ms)
