"""Which share of the network's threads a batch gets: all of them, or half, beside another batch.

All of them are faster for a batch that is alone, unless other processes want the cores: threads that compute one layer
together wait for the slowest of them. So both ways are timed as they are used, and the slower one is tried again from
time to time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

NEWEST_WEIGHT = 0.2  # of the newest time in the running mean
TRY_AGAIN = 20  # batches after which all threads are tried again although half of them were faster


class ThreadShare:
    """Decides for one batch after the other; thread-safe."""

    def __init__(self, inferring: int) -> None:
        """Know how many threads infer: with one of them every batch gets all of the network's threads."""
        self._lock = threading.Lock()
        self._several, self._inferring, self._halves = inferring > 1, inferring, 0
        self._each_ms: dict[bool, float] = {}  # of all threads and of half of them, for each image
        self._halved_in_a_row = 0

    def take_half(self, *, crowded: bool) -> bool:
        """Decide for a batch that was just taken: True for half of the threads, until `give_back`.

        crowded: something waits behind it.
        """
        with self._lock:
            half = self._several and (crowded or self._halves > 0 or self._half_is_faster())
            self._halves += half
            return half

    def _half_is_faster(self) -> bool:
        if self._each_ms.get(True, float("inf")) >= self._each_ms.get(False, 0.0):
            return False
        self._halved_in_a_row = (self._halved_in_a_row + 1) % TRY_AGAIN
        return self._halved_in_a_row > 0

    def give_back(self) -> None:
        """Note that a batch with half of the threads is done."""
        with self._lock:
            self._halves -= 1

    @contextmanager
    def timed(self, images: int, *, half: bool) -> Iterator[None]:
        """Time the inference of a batch."""
        begin_s = time.perf_counter()
        yield
        each_ms = (time.perf_counter() - begin_s) * 1e3 / max(1, images)
        with self._lock:
            before_ms = self._each_ms.get(half, each_ms)
            self._each_ms[half] = before_ms + NEWEST_WEIGHT * (each_ms - before_ms)

    def ended(self) -> bool:
        """Note that a thread ends; True for the last one."""
        with self._lock:
            self._inferring -= 1
            return not self._inferring
