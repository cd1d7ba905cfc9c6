"""Which share of the network's threads a batch gets: all of them, or half, beside another batch.

All of them are faster for a batch that is alone, unless other processes want the cores or the threads wake up late:
threads that compute one layer together wait for the slowest of them. So both ways are timed as they are used, and the
other one is tried from time to time. Times count squared: a late answer harms more than an early one helps. Where all
threads would hardly ever rest, each batch gets half of them: one that is late would make all behind it late.

Halves come in pairs: while frames wait, two batches share the cores. A batch that nothing waits behind waits for the
half that still runs, and gets all threads then. Else each batch would take twice its time as long as frames come faster
than that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from lisard_ros.inference.batching import BatchChoice

NEWEST_WEIGHT = 0.05  # of the newest time in the running mean of squares
BUSY = 0.7  # of the time; from here on batches queue up behind all threads, and halves answer sooner
START_INTERVAL_MS = 1000.0  # between two batches, until some have come
LOOK_S = 0.002  # how often a batch that waits looks whether others wait behind it now
LATEST = 5.0  # a time counts as at most this multiple of the one measured at first: what is later has other causes
TRY_AGAIN = 40  # batches after which the other share is tried; twice as many after each try that changes nothing
TRY_SELDOM = 640  # at most so many
TRY_FOR = 4  # batches in a row: threads that were not used for long wake up late for the first
MUCH_SLOWER = 1.5  # half of the threads are not tried again where they took more than this share of the time of all

Question: TypeAlias = Callable[[], bool]  # asked again as long as a batch waits


@dataclass(frozen=True, slots=True)
class Share:
    """What a batch gets. half: of the network's threads; else all. alone: nothing was inferred beside it at first."""

    half: bool
    alone: bool


ALL, HALF_ALONE, HALF_BESIDE = Share(False, True), Share(True, True), Share(True, False)


class ThreadShare:
    """Decides for one batch after the other; thread-safe."""

    def __init__(self, choice: BatchChoice) -> None:
        """Begin with the times measured after a rest; where no batches are side by side, each gets all threads."""
        self._changed = threading.Condition()
        self._several, self._halves, self._beside = choice.side_by_side, 0, 0
        self._partner_wanted = False  # a half was taken because of the batch that comes next
        # Milliseconds squared for each image of a batch alone: of half of the threads, and of all of them.
        self._squares = {True: choice.rested_half_ms**2, False: choice.rested_ms**2}
        self._latest = {half: LATEST**2 * square for half, square in self._squares.items()}
        self._rested_ms, self._interval_ms, self._last_s = choice.rested_ms, START_INTERVAL_MS, time.perf_counter()
        self._half_favoured, self._taken, self._try_after = self._half_is_faster, 0, TRY_AGAIN

    def take(self, crowded: Question, given_up: Question = lambda: False) -> Share:
        """Decide for a batch that was just taken; a half is its own until `give_back`.

        Args:
            crowded: Whether something waits behind the batch.
            given_up: Whether nobody waits for the half that still runs any more.
        """
        if not self._several:
            return ALL
        with self._changed:
            now_s = time.perf_counter()
            self._interval_ms += NEWEST_WEIGHT * ((now_s - self._last_s) * 1e3 - self._interval_ms)
            self._last_s = now_s
            share = self._decide(crowded, given_up)
            self._halves += share.half
            self._beside += not share.alone
            return share

    def _decide(self, crowded: Question, given_up: Question) -> Share:
        if self._partner_wanted:
            self._partner_wanted = False
            return HALF_BESIDE
        half = self._half_if_alone() or self._is_busy
        while not crowded():
            if self._halves == 0:
                return HALF_ALONE if half else ALL
            if half or given_up():
                return HALF_BESIDE
            self._changed.wait(LOOK_S)
        self._partner_wanted = self._halves == 0
        return HALF_BESIDE

    @property
    def _is_busy(self) -> bool:
        return self._rested_ms > BUSY * self._interval_ms

    @property
    def _half_is_faster(self) -> bool:
        return self._squares[True] < self._squares[False]

    def _half_if_alone(self) -> bool:
        """Whether half of the threads answer a batch alone sooner; at times the contrary, which may be so now."""
        half = self._half_is_faster
        if half != self._half_favoured:
            self._half_favoured, self._taken, self._try_after = half, 0, TRY_AGAIN
        self._taken += 1
        if self._taken <= self._try_after:
            return half
        if self._taken == self._try_after + TRY_FOR:
            self._taken, self._try_after = 0, min(2 * self._try_after, TRY_SELDOM)
        return not half and self._squares[True] < MUCH_SLOWER**2 * self._squares[False]

    def give_back(self) -> None:
        """Note that a batch with half of the threads is done."""
        with self._changed:
            self._halves -= 1
            if self._halves == 0:
                self._partner_wanted = False  # what waited was not answered after all
            self._changed.notify_all()

    @contextmanager
    def timed(self, share: Share, images: int) -> Iterator[None]:
        """Time the inference of a batch; a time counts unless others were inferred beside it, or kept coming."""
        begin_s, beside = time.perf_counter(), self._beside
        yield
        each_ms = (time.perf_counter() - begin_s) * 1e3 / max(1, images)
        with self._changed:
            if share.alone and beside == self._beside and not self._is_busy:
                square = min(each_ms**2, self._latest[share.half])
                self._squares[share.half] += NEWEST_WEIGHT * (square - self._squares[share.half])
