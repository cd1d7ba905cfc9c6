"""The newest image of each camera, waiting for the worker; an older one that was not taken in time is replaced.

Thread-safe: the executor thread puts, the worker takes and sleeps while there is nothing. The camera that waits longest
is taken first, however often its image was replaced meanwhile, so that a fast camera cannot keep out the others.
"""

from __future__ import annotations

import threading
import time

from lisard_ros.node.channel import QueuedImage


class LatestFrameBuffer:
    """One place per camera; a replaced image is counted in its channel."""

    def __init__(self) -> None:
        """Start empty and open."""
        self._images: dict[str, QueuedImage] = {}  # in the order in which the cameras began to wait
        self._ready = threading.Condition()
        self._closed = False
        self._busy = False

    def put(self, image: QueuedImage) -> None:
        """Store `image` as the newest of its camera; one that comes after closing counts as replaced."""
        with self._ready:
            if self._closed:
                replaced: QueuedImage | None = image
            else:
                replaced = self._images.get(image.channel.name)
                self._images[image.channel.name] = image
                self._ready.notify()
        if replaced is not None:
            replaced.channel.counters.replaced()

    def take(self, most: int = 1, window_s: float = 0.0) -> tuple[QueuedImage, ...] | None:
        """Wait for an image, then up to `window_s` for others; return up to `most` of them, or None once closed."""
        with self._ready:
            while not self._images and not self._closed:
                self._ready.wait()
            if window_s > 0.0:
                self._wait_for_others(window_s, most)
            if self._closed:
                return None
            cameras = list(self._images)[:most]
            taken = tuple(self._images.pop(camera) for camera in cameras)
            self._busy = True
        return taken

    @property
    def busy(self) -> bool:
        """Whether images wait or the worker is at work; a hint without the lock."""
        return self._busy or bool(self._images)

    def rest(self) -> bool:
        """Called by the worker when it has nothing left to do; False when an image has come meanwhile."""
        with self._ready:
            if self._images:
                return False
            self._busy = False
        return True

    def close(self) -> tuple[QueuedImage, ...]:
        """Wake the worker for good and return the images that nobody took."""
        with self._ready:
            self._closed = True
            left = tuple(self._images.values())
            self._images = {}
            self._ready.notify_all()
        return left

    def _wait_for_others(self, window_s: float, most: int) -> None:
        deadline = time.monotonic() + window_s
        while len(self._images) < most and not self._closed:
            remaining = deadline - time.monotonic()
            if remaining <= 0.0:
                return
            self._ready.wait(remaining)
