"""The images that the worker has taken and that have no outcome yet: each gets exactly one, whoever comes first.

A thread that returns from a stuck backend finds its images settled: they are neither published nor counted again.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from lisard_ros.node.channel import QueuedImage


class OpenFrames:
    """Thread-safe; an image is known by its identity."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._images: dict[int, QueuedImage] = {}

    def add(self, images: Sequence[QueuedImage]) -> None:
        """Note images that were just taken."""
        with self._lock:
            self._images.update({id(image): image for image in images})

    def is_open(self, image: QueuedImage) -> bool:
        """Whether the image has no outcome yet."""
        with self._lock:
            return id(image) in self._images

    def settle(self, image: QueuedImage) -> bool:
        """Give the image its outcome; False when it has one already, and nothing may be counted."""
        with self._lock:
            return self._images.pop(id(image), None) is not None

    def remaining(self) -> tuple[QueuedImage, ...]:
        """Return the images without an outcome, the oldest first."""
        with self._lock:
            return tuple(self._images.values())
