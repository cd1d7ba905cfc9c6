"""Joins frames with the boxes another detector found in them, by stamp: whichever comes first waits for the other.

Pure and bounded: a frame that waits too long, or that too many others follow, is given up; so are boxes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lisard_ros.frames import Region

T = TypeVar("T")
Key = tuple[str, int]

# Boxes of a small message cost little; a detector may be ahead of a slow image transport by seconds.
BOXES_KEPT = 256


@dataclass(frozen=True, slots=True)
class Matched(Generic[T]):
    """A frame and the regions that belong to it."""

    frame: T
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T]):
    frame: T
    since_s: float


class BoxJoiner(Generic[T]):
    """Waiting frames of one camera, and the boxes that came before their frame."""

    def __init__(self, max_frames: int, max_wait_s: float, on_given_up: Callable[[T], None]) -> None:
        """on_given_up: called with each frame whose boxes did not come in time."""
        self._max_frames, self._max_wait_s, self._on_given_up = max_frames, max_wait_s, on_given_up
        self._frames: OrderedDict[Key, _Waiting[T]] = OrderedDict()
        self._boxes: OrderedDict[Key, tuple[Region, ...]] = OrderedDict()
        self.boxes_given_up = 0

    def frame(self, key: Key, frame: T, now_s: float) -> Matched[T] | None:
        """Offer a frame; return the match if its boxes are here, else keep it waiting."""
        self.expire(now_s)
        regions = self._boxes.pop(key, None)
        if regions is not None:
            return Matched(frame, regions)
        earlier = self._frames.pop(key, None)
        if earlier is not None:
            self._on_given_up(earlier.frame)
        self._frames[key] = _Waiting(frame, now_s)
        while len(self._frames) > self._max_frames:
            self._on_given_up(self._frames.popitem(last=False)[1].frame)
        return None

    def boxes(self, key: Key, regions: Sequence[Region], now_s: float) -> Matched[T] | None:
        """Offer the boxes of one stamp; return the match if the frame waits, else keep them."""
        self.expire(now_s)
        waiting = self._frames.pop(key, None)
        if waiting is not None:
            return Matched(waiting.frame, tuple(regions))
        if self._boxes.pop(key, None) is not None:
            self.boxes_given_up += 1
        self._boxes[key] = tuple(regions)
        while len(self._boxes) > BOXES_KEPT:
            self._boxes.popitem(last=False)
            self.boxes_given_up += 1
        return None

    def expire(self, now_s: float) -> None:
        """Give up the frames that have waited longer than allowed."""
        while self._frames:
            key, waiting = next(iter(self._frames.items()))
            if now_s - waiting.since_s <= self._max_wait_s:
                return
            del self._frames[key]
            self._on_given_up(waiting.frame)

    def close(self) -> None:
        """Give up everything that still waits."""
        while self._frames:
            self._on_given_up(self._frames.popitem(last=False)[1].frame)
        self.boxes_given_up += len(self._boxes)
        self._boxes.clear()
