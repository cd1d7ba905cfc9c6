"""What became of injected copies: offered = replaced + answered + not applicable + no regions + failed + pending."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from lisard_ros.injection_process.wire import CopyOutcome

# Why a copy has no answer: its process ended or did not go on, the model refused it, the answer could not be published.
ENDED, HUNG, MEMORY, DEACTIVATED = "ended", "hung", "memory", "deactivated"
BACKEND, INTERNAL = "backend", "internal"


@dataclass(frozen=True, slots=True)
class InjectionCounts:
    """Snapshot of the counters, in copies: a frame for three injections counts three times.

    replaced: given up for a newer frame, or because other injections were chosen meanwhile. not_applicable: the
    injection was not made for this image. no_regions: the frame had no boxes to attack. failed: cause -> copies.
    answered_by: injection -> copies of `answered`, each of which was published.
    """

    offered: int = 0
    replaced: int = 0
    answered: int = 0
    not_applicable: int = 0
    no_regions: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    answered_by: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed_total(self) -> int:
        """Copies that failed, of any cause."""
        return sum(self.failed.values())

    @property
    def pending(self) -> int:
        """Copies whose outcome is still open."""
        done = self.replaced + self.answered + self.not_applicable + self.no_regions
        return self.offered - done - self.failed_total


class InjectionCounters:
    """The counters since the node was started; callable from any thread."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = threading.Lock()
        self._numbers: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._answered_by: Counter[str] = Counter()

    def offered(self, copies: int) -> None:
        """Count copies of a frame that may be attacked."""
        self._add("offered", copies)

    def replaced(self, copies: int) -> None:
        """Count copies that were given up before they were attacked."""
        self._add("replaced", copies)

    def done(self, outcome: CopyOutcome, injection: str) -> None:
        """Count one copy that came back; `failed` stands for a model that refused it."""
        with self._lock:
            if outcome == "failed":
                self._failed[BACKEND] += 1
                return
            self._numbers[outcome] += 1
            if outcome == "answered":
                self._answered_by[injection] += 1

    def failed(self, cause: str, copies: int = 1) -> None:
        """Count copies that have no answer, by cause."""
        with self._lock:
            self._failed[cause] += copies

    def counts(self) -> InjectionCounts:
        """Return a consistent copy of all counters."""
        with self._lock:
            failed = {cause: copies for cause, copies in self._failed.items() if copies}
            return InjectionCounts(**self._numbers, failed=failed, answered_by=dict(self._answered_by))

    def _add(self, name: str, copies: int) -> None:
        with self._lock:
            self._numbers[name] += copies
