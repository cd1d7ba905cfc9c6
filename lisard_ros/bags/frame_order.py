"""The images of one recording in the order in which they are answered, and where reading can begin for any of them.

With several cameras images come in the order of their stamps, as far as a few messages allow. An index lets the reader
begin in the middle; which frames come from there is the same as from the beginning.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lisard_ros.bags.messages import header_stamp_ns
from lisard_ros.bags.recordings import Recording
from lisard_ros.bags.storage import ROS1, StoredMessage

_WAITING = 8  # messages of each camera that are put in the order of their stamps


@dataclass(frozen=True, slots=True)
class ReadPoint:
    """Where reading can begin. file: number among those of the recording; since_ns: recorded then or later, None: all.

    counts: how many images of each topic come before.
    """

    file: int = 0
    since_ns: int | None = None
    counts: tuple[tuple[str, int], ...] = ()

    @property
    def passed(self) -> int:
        """How many images come before."""
        return sum(count for _, count in self.counts)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """A message with an image. number: among those of its camera, from 0; place: among all as they are stored.

    point: where reading can begin so that it comes.
    """

    message: StoredMessage
    number: int
    place: int
    point: ReadPoint

    @property
    def stamp_ns(self) -> int:
        """The stamp of its header."""
        return header_stamp_ns(self.message.raw, self.message.topic.encoding == ROS1)


@dataclass(frozen=True, slots=True)
class FrameStart:
    """Where a frame and all that come after it are read.

    read: how many stored images are read until its turn comes; waiting: the places of those that have not had theirs,
    itself among them. The others before `read` belong to earlier frames.
    """

    point: ReadPoint = ReadPoint()
    read: int = 0
    waiting: tuple[int, ...] = ()


class FrameOrder:
    """Iterates over the images of some topics, in their order."""

    def __init__(self, recording: Recording, topics: Sequence[str], start: FrameStart | None = None) -> None:
        """start: of the first image, as `start_of` returned it; None: all images."""
        self._recording, self._topics, self._start = recording, topics, start or FrameStart()
        self._waiting: list[tuple[int, int, StoredImage]] = []
        self._read = self._start.point.passed
        self._begins = {self._start.point.file: replace(self._start.point, since_ns=None)}  # of each file that was read
        self._disordered: set[int] = set()
        self._images = self._ordered()

    def __iter__(self) -> Iterator[StoredImage]:
        """Return itself."""
        return self

    def __next__(self) -> StoredImage:
        """Return the next image."""
        return next(self._images)

    def start_of(self, image: StoredImage) -> FrameStart:
        """Return where the image that came last is read with those after it. Files may turn out to lack an index."""
        waiting = sorted([image, *(one for _, _, one in self._waiting)], key=lambda one: one.place)
        return FrameStart(waiting[0].point, self._read, tuple(one.place for one in waiting))

    def settled(self, start: FrameStart) -> FrameStart:
        """Return a start that holds now that all images were read: at the beginning of a file that cannot be sought."""
        file = start.point.file
        if self._recording.can_seek(file) and file not in self._disordered:
            return start
        return replace(start, point=self._begins[file])

    def _ordered(self) -> Iterator[StoredImage]:
        if len(self._topics) < 2:
            yield from self._stored()
            return
        for image in self._stored():
            heapq.heappush(self._waiting, (image.stamp_ns, image.place, image))
            if len(self._waiting) > _WAITING * len(self._topics):
                yield heapq.heappop(self._waiting)[2]
        while self._waiting:
            yield heapq.heappop(self._waiting)[2]

    def _stored(self) -> Iterator[StoredImage]:
        start = self._start
        point, seen, waiting = start.point, Counter(dict(start.point.counts)), frozenset(start.waiting)
        for message in self._recording.messages(self._topics, point.file, point.since_ns):
            if message.file != point.file or message.log_ns != point.since_ns:
                counts = tuple(seen.items())
                if message.file != point.file:
                    self._begins[message.file] = ReadPoint(message.file, None, counts)
                elif point.since_ns is not None and message.log_ns < point.since_ns:
                    self._disordered.add(message.file)
                point = ReadPoint(message.file, message.log_ns, counts)
            place, topic = self._read, message.topic.name
            self._read += 1
            image = StoredImage(message, seen[topic], place, point)
            seen[topic] += 1
            if place >= start.read or place in waiting:
                yield image
