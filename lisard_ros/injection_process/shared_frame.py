"""One order and the pixels of its frame, or the pixels of many, in memory that two processes share.

The memory has no name: the system frees it when the last of the two processes ends, however it ends. The parent writes
only while the other process waits for a frame, so nobody reads what is being written.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

import numpy as np

from lisard_ros.frames import Pixels


class SharedFrame:
    """The writing or the reading end. fd: file descriptor of the memory."""

    def __init__(self, fd: int | None = None) -> None:
        """Make new memory, or join that of `fd`."""
        self.fd = os.memfd_create("lisard_injection") if fd is None else fd
        self._map: mmap.mmap | None = None
        self._size = 0

    def put(self, order: bytes, pixels: Pixels) -> tuple[int, int]:
        """Write an order and a copy of the pixels, uint8 of any shape and stride; return the number of bytes of both.

        Raises:
            OSError: The memory cannot grow.
        """
        memory = self._mapped(len(order) + pixels.size)
        memory[: len(order)] = order
        np.copyto(np.ndarray(pixels.shape, np.uint8, memory, len(order)), pixels)
        return len(order), pixels.size

    def put_all(self, images: Sequence[Pixels]) -> None:
        """Write copies of images one behind the other, uint8 of any shape and stride.

        Raises:
            OSError: The memory cannot grow.
        """
        memory, offset = self._mapped(sum(pixels.size for pixels in images)), 0
        for pixels in images:
            np.copyto(np.ndarray(pixels.shape, np.uint8, memory, offset), pixels)
            offset += pixels.size

    def order(self, size: int, pixels: int) -> bytes:
        """Return the order that lies there with that many bytes of pixels behind it."""
        return bytes(self._mapped(size + pixels)[:size])

    def pixels(self, shape: tuple[int, ...], offset: int) -> Pixels:
        """Return the pixels behind the order, uint8 of `shape`: a view, to be read only."""
        memory = self._mapped(offset + int(np.prod(shape)))
        view = np.ndarray(shape, np.uint8, memory, offset)
        view.flags.writeable = False
        return view

    def close(self) -> None:
        """Give the memory up; a view of it stays valid."""
        self._map = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _mapped(self, size: int) -> mmap.mmap:
        """The memory, at least `size` bytes of it; what was mapped before is freed with the last view of it."""
        if self._map is None or size > self._size:
            if os.fstat(self.fd).st_size < size:
                os.ftruncate(self.fd, size)
            self._size = max(size, os.fstat(self.fd).st_size)
            self._map = mmap.mmap(self.fd, self._size)
        return self._map
