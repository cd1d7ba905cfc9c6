"""Joins frames with the boxes another detector found in them, by stamp: whichever comes first waits for the other.

Pure and bounded: a frame that waits too long, or that too many others follow, is given up; so are boxes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
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
    """Waiting frames, and the boxes that came before their frame.

    Frames whose boxes did not come in time are kept until `take_given_up` is called.
    """

    def __init__(self, max_frames: int, max_wait_s: float) -> None:
        """Keep at most `max_frames` frames waiting, each for `max_wait_s` seconds."""
        self._max_frames, self._max_wait_s = max_frames, max_wait_s
        self._frames: OrderedDict[Key, _Waiting[T]] = OrderedDict()
        self._boxes: OrderedDict[Key, tuple[Region, ...]] = OrderedDict()
        self._given_up: list[T] = []
        self.boxes_given_up = 0

    def frame(self, key: Key, frame: T, now_s: float) -> Matched[T] | None:
        """Offer a frame; return the match if its boxes are here, else keep it waiting."""
        self.expire(now_s)
        regions = self._boxes.pop(key, None)
        if regions is not None:
            return Matched(frame, regions)
        earlier = self._frames.pop(key, None)
        if earlier is not None:
            self._given_up.append(earlier.frame)
        self._frames[key] = _Waiting(frame, now_s)
        while len(self._frames) > self._max_frames:
            self._give_up_oldest()
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
        while self._frames and now_s - next(iter(self._frames.values())).since_s > self._max_wait_s:
            self._give_up_oldest()

    def close(self) -> None:
        """Give up everything that still waits."""
        while self._frames:
            self._give_up_oldest()
        self.boxes_given_up += len(self._boxes)
        self._boxes.clear()

    def take_given_up(self) -> tuple[T, ...]:
        """Return the frames given up since the last call, the oldest first."""
        given_up = tuple(self._given_up)
        self._given_up.clear()
        return given_up

    def _give_up_oldest(self) -> None:
        self._given_up.append(self._frames.popitem(last=False)[1].frame)
