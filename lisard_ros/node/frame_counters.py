"""Counters of frames by outcome (received = answered + replaced + too old + failed + pending), and the time of stages.

No ROS, one lock: the executor thread counts arrivals, the worker counts outcomes, diagnostics reads.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from lisard_ros.evaluation.statistics import Percentiles, percentiles

STAGES = ("wait", "decode", "preprocess", "inject", "infer", "postprocess", "publish", "total", "age")

# Why a frame could not be answered: the causes that `FrameCounters.failed` counts by.
BAD_IMAGE, BAD_OUTPUT, BACKEND, INTERNAL = "bad_image", "bad_output", "backend", "internal"
NO_BOXES, DEACTIVATED, PAUSED, STUCK = "no_boxes", "deactivated", "paused", "stuck"

# Frames of the percentile windows: 20 s at 30 Hz; a percentile of fewer frames would be their maximum.
WINDOW_FRAMES = 600


@dataclass(frozen=True, slots=True)
class Counts:
    """Snapshot of the frame counters of one camera; `failed` maps a cause to its number of frames."""

    received: int = 0
    answered: int = 0
    replaced: int = 0
    too_old: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    lost_in_transport: int = 0
    jumps_back: int = 0

    @property
    def failed_total(self) -> int:
        """Frames that failed, of any cause."""
        return sum(self.failed.values())

    @property
    def pending(self) -> int:
        """Frames that have arrived and whose outcome is still open."""
        return self.received - self.answered - self.replaced - self.too_old - self.failed_total

    @property
    def loss_share(self) -> float:
        """Share of the frames known to be sent that were lost in transport."""
        sent = self.received + self.lost_in_transport
        return self.lost_in_transport / sent if sent else 0.0


class SequenceGaps:
    """Finds frames that were sent and not delivered, by gaps in the publishers' sequence numbers."""

    def __init__(self) -> None:
        """Know no publisher yet; the first frame of each sets its beginning."""
        self._last: dict[object, int] = {}

    def saw(self, publisher_gid: Mapping[str, object] | None, number: int | None, alone: bool = False) -> int:
        """Note a frame; return how many of its publisher are missing before it (0 where the middleware is silent).

        publisher_gid: None where rclpy does not tell who sent the frame; it counts then only while `alone`, that is
        while the topic has one publisher.
        """
        if number is None:
            return 0
        if publisher_gid is None and not alone:
            self._last.clear()
            return 0
        publisher = publisher_gid["data"] if publisher_gid is not None else None
        last = self._last.get(publisher, number - 1)
        self._last[publisher] = number
        return max(0, number - last - 1)


class FrameCounters:
    """The frames of one camera: counters by outcome, percentile windows, arrival times."""

    def __init__(self, window_frames: int = WINDOW_FRAMES) -> None:
        """Start at zero; percentiles are taken over the last `window_frames` frames."""
        self._lock = threading.Lock()
        self._numbers: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._stages: dict[str, deque[float]] = {stage: deque(maxlen=window_frames) for stage in STAGES}
        self._answered_at_s: deque[float] = deque(maxlen=window_frames)
        self._last_arrival_s: float | None = None
        self._last_failure = ""

    def arrived(self, now_steady_s: float) -> None:
        """Count one frame that the subscription delivered."""
        with self._lock:
            self._numbers["received"] += 1
            self._last_arrival_s = now_steady_s

    def replaced(self, frames: int = 1) -> None:
        """Count frames that a newer one replaced before the worker took them."""
        self._add("replaced", frames)

    def too_old(self) -> None:
        """Count one frame over `max_age_ms`."""
        self._add("too_old", 1)

    def lost(self, frames: int) -> None:
        """Count frames that the middleware reports as lost in transport."""
        self._add("lost_in_transport", frames)

    def gap(self, frames: int) -> None:
        """Count frames that are missing between two received ones, whatever the reason."""
        self._add("gaps", frames)

    def failed(self, cause: str, message: str = "") -> None:
        """Count one frame that could not be answered, by cause; `message` is the reason in words."""
        with self._lock:
            self._failed[cause] += 1
            self._last_failure = message or cause

    def answered(self, stages_ms: Mapping[str, float], now_steady_s: float) -> None:
        """Count one answer that was published, with the milliseconds of its stages."""
        with self._lock:
            self._numbers["answered"] += 1
            self._answered_at_s.append(now_steady_s)
            for stage, value_ms in stages_ms.items():
                self._stages[stage].append(value_ms)

    def injected(self, inject_ms: float) -> None:
        """Note how long an injection took for one frame."""
        with self._lock:
            self._stages["inject"].append(inject_ms)

    def jumped_back(self) -> None:
        """Count one backward jump of time and forget the ages measured before it."""
        with self._lock:
            self._numbers["jumps_back"] += 1
        self.forget_ages()

    def forget_ages(self) -> None:
        """Forget the ages measured so far: a clock jumped."""
        with self._lock:
            self._stages["age"].clear()

    def counts(self) -> Counts:
        """Return a consistent copy of all counters.

        Missing frames that were not lost in transport reached this process and were overwritten by newer ones in the
        middleware's queue: received and replaced, only not by us.
        """
        with self._lock:
            numbers, failed = Counter(self._numbers), dict(self._failed)
        overwritten = max(0, numbers.pop("gaps", 0) - numbers["lost_in_transport"])
        numbers["received"] += overwritten
        numbers["replaced"] += overwritten
        return Counts(failed=failed, **numbers)

    def percentiles(self) -> dict[str, Percentiles]:
        """Return the percentiles of each stage that has values."""
        with self._lock:
            durations_ms = {stage: list(values) for stage, values in self._stages.items() if values}
        return {stage: percentiles(values) for stage, values in durations_ms.items()}

    def rate_hz(self, now_steady_s: float, over_s: float = 5.0) -> float:
        """Return the answers per second over the last `over_s` seconds."""
        with self._lock:
            recent = sum(1 for at_s in self._answered_at_s if at_s > now_steady_s - over_s)
            full = len(self._answered_at_s) == self._answered_at_s.maxlen and recent == len(self._answered_at_s)
            span_s = now_steady_s - self._answered_at_s[0] if full else over_s
        return recent / span_s if span_s > 0 else 0.0

    def silent_s(self, now_steady_s: float, since_s: float) -> float:
        """Return the seconds since the last arrival, or since `since_s` when none came after it."""
        with self._lock:
            last_s = self._last_arrival_s
        return now_steady_s - (since_s if last_s is None else max(last_s, since_s))

    @property
    def last_failure(self) -> str:
        """Why the latest failed frame failed, in words; empty when none did."""
        with self._lock:
            return self._last_failure

    def _add(self, name: str, amount: int) -> None:
        with self._lock:
            self._numbers[name] += amount
