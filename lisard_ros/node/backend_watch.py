"""Notices a backend that does not return. Time is counted by those who check, not by the clock alone.

A process that was stopped (SIGSTOP), or that had no processor, has not waited for its backend.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lisard_ros.errors import LisardError
from lisard_ros.node.channel import QueuedImage

# What may pass between two checks and still count in full (seconds); the node checks more often.
LONGEST_STEP_S = 2.0


class BackendStuckError(LisardError):
    """The backend does not return and the process has to end; escapes from the executor on purpose."""


@dataclass(slots=True)
class BackendCall:
    """A call under way: the images it is for, and how long it was seen to take (None: not seen yet)."""

    images: tuple[QueuedImage, ...]
    waited_s: float | None = None


class BackendWatch:
    """The calls under way, at most one for each thread."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._calls: dict[int, BackendCall] = {}
        self._checked_s = 0.0

    @contextmanager
    def call(self, images: Sequence[QueuedImage]) -> Iterator[None]:
        """Watch what is done within."""
        thread = threading.get_ident()
        with self._lock:
            self._calls[thread] = BackendCall(tuple(images))
        try:
            yield
        finally:
            with self._lock:
                del self._calls[thread]

    def overdue(self, deadline_s: float, now_s: float) -> tuple[BackendCall, ...]:
        """Return the calls that have been seen to take `deadline_s`; to be called again and again.

        now_s: seconds of a steady clock.
        """
        with self._lock:
            step_s = min(now_s - self._checked_s, LONGEST_STEP_S)
            self._checked_s = now_s
            for call in self._calls.values():
                call.waited_s = 0.0 if call.waited_s is None else call.waited_s + step_s
            return tuple(call for call in self._calls.values() if (call.waited_s or 0.0) >= deadline_s)

    def under_way(self) -> tuple[BackendCall, ...]:
        """Return all calls of this moment."""
        with self._lock:
            return tuple(self._calls.values())
