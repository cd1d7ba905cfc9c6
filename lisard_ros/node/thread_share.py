"""Which share of the network's threads a batch gets: all of them, or half, beside another batch.

All of them are faster for a batch that is alone, unless other processes want the cores or the threads wake up late:
threads that compute one layer together wait for the slowest of them. So both ways are timed as they are used, and all
threads are tried again from time to time. Times count squared: a late answer harms more than an early one helps.

Halves come in pairs: while frames wait, two batches share the cores. A batch that nothing waits behind waits for the
half that still runs, and gets all threads then. Else each batch would take twice its time as long as frames come faster
than that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from lisard_ros.inference.batching import BatchChoice

NEWEST_WEIGHT = 0.1  # of the newest time in the running mean of squares
LOOK_S = 0.002  # how often a batch that waits looks whether others wait behind it now
TRY_AGAIN = 40  # batches after which all threads are tried again although half of them were faster

Question: TypeAlias = Callable[[], bool]  # asked again as long as a batch waits


class ThreadShare:
    """Decides for one batch after the other; thread-safe."""

    def __init__(self, choice: BatchChoice) -> None:
        """Begin with the times measured after a rest; where no batches are side by side, each gets all threads."""
        self._changed = threading.Condition()
        self._several, self._halves = choice.side_by_side, 0
        self._partner_wanted = False  # a half was taken because of the batch that comes next
        # Milliseconds squared for each image: of half of the threads, and of all of them.
        self._squares = {True: choice.rested_half_ms**2, False: choice.rested_ms**2}
        self._halved_in_a_row = 0

    def take_half(self, crowded: Question, given_up: Question = lambda: False) -> bool:
        """Decide for a batch that was just taken: True for half of the threads, until `give_back`.

        Args:
            crowded: Whether something waits behind the batch.
            given_up: Whether nobody waits for the half that still runs any more.
        """
        if not self._several:
            return False
        with self._changed:
            half = self._wants_half(crowded, given_up)
            self._halves += half
            return half

    def _wants_half(self, crowded: Question, given_up: Question) -> bool:
        if self._partner_wanted:
            self._partner_wanted = False
            return True
        while not crowded():
            if self._halves == 0:
                return self._prefers_half()
            if self._half_is_faster or given_up():
                return True
            self._changed.wait(LOOK_S)
        self._partner_wanted = self._halves == 0
        return True

    @property
    def _half_is_faster(self) -> bool:
        return self._squares[True] < self._squares[False]

    def _prefers_half(self) -> bool:
        """Whether a batch alone gets half of the threads; where that is faster, all are tried again at times."""
        if not self._half_is_faster:
            return False
        self._halved_in_a_row = (self._halved_in_a_row + 1) % TRY_AGAIN
        return self._halved_in_a_row > 0

    def give_back(self) -> None:
        """Note that a batch with half of the threads is done."""
        with self._changed:
            self._halves -= 1
            if self._halves == 0:
                self._partner_wanted = False  # what waited was not answered after all
            self._changed.notify_all()

    @contextmanager
    def timed(self, images: int, *, half: bool) -> Iterator[None]:
        """Time the inference of a batch."""
        begin_s = time.perf_counter()
        yield
        each_ms = (time.perf_counter() - begin_s) * 1e3 / max(1, images)
        with self._changed:
            self._squares[half] += NEWEST_WEIGHT * (each_ms**2 - self._squares[half])
