"""The newest frame of each camera, waiting for the worker; an older one that was not taken in time is replaced.

Thread-safe: the executor thread puts, the worker takes all cameras at once and sleeps while there is nothing.
"""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestSlots(Generic[T]):
    """One slot per camera; `put` returns the item it replaced, so that the caller counts it."""

    def __init__(self) -> None:
        """Start empty and open."""
        self._items: dict[str, T] = {}
        self._ready = threading.Condition()
        self._closed = False
        self._busy = False

    def put(self, camera: str, item: T) -> T | None:
        """Store `item` as the newest of `camera`; return the one it replaces (or `item` itself once closed)."""
        with self._ready:
            if self._closed:
                return item
            replaced = self._items.get(camera)
            self._items[camera] = item
            self._ready.notify()
        return replaced

    def take_all(self, window_s: float = 0.0, cameras: int = 1) -> dict[str, T] | None:
        """Wait for an item, then up to `window_s` for all `cameras`; return camera -> item, or None once closed."""
        with self._ready:
            while not self._items and not self._closed:
                self._ready.wait()
            if window_s > 0.0:
                self._wait_for_others(window_s, cameras)
            if self._closed:
                return None
            taken, self._items = self._items, {}
            self._busy = True
        return taken

    @property
    def busy(self) -> bool:
        """Whether items wait or the taker is at work; a hint without the lock."""
        return self._busy or bool(self._items)

    def rest(self) -> bool:
        """Called by the taker when it has nothing left to do; False when an item has come meanwhile."""
        with self._ready:
            if self._items:
                return False
            self._busy = False
        return True

    def close(self) -> dict[str, T]:
        """Wake the taker for good and return what nobody took: camera -> item."""
        with self._ready:
            self._closed = True
            left, self._items = self._items, {}
            self._ready.notify_all()
        return left

    def _wait_for_others(self, window_s: float, cameras: int) -> None:
        deadline = time.monotonic() + window_s
        while len(self._items) < cameras and not self._closed:
            remaining = deadline - time.monotonic()
            if remaining <= 0.0:
                return
            self._ready.wait(remaining)
