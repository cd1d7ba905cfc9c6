"""Which frames of a recording are independent evidence: blocks of frames that resemble each other.

Neighbouring frames show the same scene, so an interval counts blocks, not frames. A frame whose image was there before
belongs to the block of its first appearance, wherever it comes again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

import numpy as np

from lisard_ros.bags.reader import BagFrame
from lisard_ros.errors import UsageError
from lisard_ros.frames import Frame
from lisard_ros.message_fields import NS_PER_S

TIME, TRACK, BAG, FRAME = BY = ("time", "track", "bag", "frame")
DEFAULT_BLOCK_S = 10.0  # a vehicle has left the scene by then
_FINGERPRINT_BYTES = 1 << 16


class Blocks:
    """Gives each frame the number of its block.

    time: frames of the same stretch of time, of all cameras. track: frames that a chain of tracks (objects with an id)
    connects. bag: frames of one recording. frame: each frame alone.
    """

    def __init__(self, by: str = TIME, block_s: float = DEFAULT_BLOCK_S) -> None:
        """by: one of BY; block_s: length of a stretch of time, above 0."""
        self.by, self.block_s = by, block_s if by == TIME else 0.0
        self._block_ns = max(1, round(block_s * NS_PER_S))
        self._numbers: dict[Hashable, int] = {}
        self._above: list[int] = []  # of each number one that it was joined with, or itself
        self._first_ns: dict[int, int] = {}
        self._images: dict[int, int] = {}  # fingerprint -> number
        self._tracked = False
        self.copies = 0

    def add(self, item: BagFrame) -> int:
        """Return the number of the next frame; `settled` says which numbers are one block in the end."""
        keys = self._keys(item)
        number = self._number(keys[0]) if keys else self._new()
        for key in keys[1:]:
            self._join(number, self._number(key))
        if item.frame is None:
            return number
        image = _fingerprint(item.frame)
        self.copies += image in self._images
        return self._images.setdefault(image, number)

    def settled(self, numbers: Sequence[int]) -> list[int]:
        """Return the block of each number, from 0 in the order of appearance.

        Raises:
            UsageError: Blocks by track, and no label names one.
        """
        if self.by == TRACK and self._above and not self._tracked:
            raise UsageError(
                "--by track",
                found="labels without tracks",
                expected="the `id` of recorded boxes, or `track` in the labels",
                cure="use --by time",
            )
        order: dict[int, int] = {}
        return [order.setdefault(self._root(number), len(order)) for number in numbers]

    def _keys(self, item: BagFrame) -> tuple[Hashable, ...]:
        """Names of the blocks that the frame connects; none for a frame that stands alone."""
        if self.by == BAG:
            return (item.recording,)
        if self.by == TIME:
            first_ns = self._first_ns.setdefault(item.recording, item.stamp_ns)
            return ((item.recording, (item.stamp_ns - first_ns) // self._block_ns),)
        if self.by == FRAME:
            return ()
        names = [region.id for region in item.regions or () if region.id] + [item.track] * bool(item.track)
        self._tracked = self._tracked or bool(names)
        return tuple((item.recording, name) for name in names)

    def _number(self, key: Hashable) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._new()
        return number

    def _new(self) -> int:
        self._above.append(len(self._above))
        return len(self._above) - 1

    def _join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        self._above[max(one, other)] = min(one, other)

    def _root(self, number: int) -> int:
        while self._above[number] != number:
            self._above[number] = self._above[self._above[number]]
            number = self._above[number]
        return number


def _fingerprint(frame: Frame) -> int:
    """Hash every so many rows, so that equal images are seen at little cost."""
    rows = np.ascontiguousarray(frame.image[:: max(1, frame.image.nbytes // _FINGERPRINT_BYTES)])
    digest = hashlib.blake2b(str(frame.image.shape).encode(), digest_size=8)
    digest.update(rows.data)
    return int.from_bytes(digest.digest(), "little")
