"""The newest image of each camera, waiting for the worker; an older one that was not taken in time is replaced.

Thread-safe: the executor thread and the worker put, the worker takes. The camera that waits longest is taken first,
however often its image was replaced meanwhile, so that a fast camera cannot keep out the others.
"""

from __future__ import annotations

import threading

from lisard_ros.node.channel import QueuedImage


class LatestFrameBuffer:
    """One place per camera; a replaced image is counted in its channel."""

    def __init__(self) -> None:
        """Start empty and open."""
        self._images: dict[str, QueuedImage] = {}  # in the order in which the cameras began to wait
        self._lock = threading.Lock()
        self._closed = False

    def put(self, image: QueuedImage) -> None:
        """Store `image` as the newest of its camera; one that comes after closing counts as replaced."""
        with self._lock:
            replaced: QueuedImage | None = image
            if not self._closed:
                replaced = self._images.get(image.channel.name)
                self._images[image.channel.name] = image
        if replaced is not None:
            replaced.channel.counters.replaced()

    def take(self, most: int = 1) -> tuple[QueuedImage, ...]:
        """Take up to `most` images, one per camera; none when nothing waits."""
        with self._lock:
            return tuple(self._images.pop(camera) for camera in list(self._images)[:most])

    @property
    def waiting(self) -> int:
        """How many cameras have an image waiting."""
        return len(self._images)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> tuple[QueuedImage, ...]:
        """Refuse images from now on and return those that nobody took."""
        with self._lock:
            self._closed = True
            left = tuple(self._images.values())
            self._images = {}
        return left
