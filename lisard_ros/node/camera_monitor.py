"""One camera as diagnostics sees it: its counters, and what has gone wrong lately."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from lisard_ros.node.diagnostics import CameraView
from lisard_ros.node.frame_counters import Counts
from lisard_ros.node.image_subscriber import ImageSubscriber

# Failures and losses are reported for this many diagnostic periods after the last one.
_RECENT_PERIODS = 10


@dataclass(slots=True)
class LossWindow:
    """Recent loss of one camera, from the totals at earlier moments: a fault that ended long ago stops warning."""

    span: int = 10
    _history: deque[tuple[int, int]] = field(default_factory=deque)

    def update(self, counts: Counts) -> tuple[int, float]:
        """Note the totals; return (frames lost, share lost) over the last `span` updates."""
        self._history.append((counts.received, counts.lost_in_transport))
        while len(self._history) > self.span + 1:
            self._history.popleft()
        received0, lost0 = self._history[0] if len(self._history) > self.span else (0, 0)
        lost = counts.lost_in_transport - lost0
        sent = counts.received - received0 + lost
        return lost, lost / sent if sent else 0.0


class RecentFailures:
    """Failures of one camera over the last periods, so that a fault that has ended stops being an ERROR."""

    def __init__(self) -> None:
        """Start with a history in which nothing has failed."""
        self._history: deque[Mapping[str, int]] = deque([{}], maxlen=_RECENT_PERIODS + 1)

    def update(self, failed: Mapping[str, int]) -> dict[str, int]:
        """Note the totals by cause and return how many are new since the oldest note."""
        self._history.append(dict(failed))
        oldest = self._history[0]
        return {cause: total - oldest.get(cause, 0) for cause, total in failed.items() if total > oldest.get(cause, 0)}


class CameraMonitor:
    """Watches one camera from activation on."""

    def __init__(self, subscriber: ImageSubscriber) -> None:
        """Begin now: silence is counted from here."""
        self._subscriber = subscriber
        self._started_s = time.perf_counter()
        self._failures = RecentFailures()
        self._loss = LossWindow(_RECENT_PERIODS)

    def view(self, no_image_warn_s: float) -> CameraView:
        """Return the state of the camera; to be called once per period.

        no_image_warn_s: seconds without an image after which the view lists the publishers.
        """
        channel, now_s = self._subscriber.channel, time.perf_counter()
        counts = channel.counters.counts()
        lost, share = self._loss.update(counts)
        silent_s = channel.counters.silent_s(now_s, self._started_s)
        return CameraView(
            channel.name,
            self._subscriber.name,
            self._subscriber.reliability,
            counts,
            channel.counters.percentiles(),
            channel.counters.rate_hz(now_s),
            silence=self._subscriber.silence(silent_s) if silent_s > no_image_warn_s else "",
            lost_recently=lost,
            loss_share=share,
            new_failures=self._failures.update(counts.failed),
            last_failure=channel.counters.last_failure,
        )
