"""A recording as it is played: its messages as serialised bytes, their stamps, and when each is due. No rclpy.

The stamp of a serialised (CDR) message that starts with a std_msgs/Header lies right behind the encapsulation header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lisard_ros.errors import DataError, UsageError
from lisard_ros.message_fields import NS_PER_S, from_ns, to_ns

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader
    from rosbags.interfaces import Connection

ENCAPSULATION_BYTES = 4
LITTLE_ENDIAN_FLAG = 1


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the bag: bag_ns is when it was recorded; data are its serialised (CDR) bytes."""

    topic: str
    bag_ns: int
    data: bytes


def stamp_format(data: bytes) -> str:
    """Return the struct format of the stamp behind the encapsulation header, by its byte order."""
    return "<iI" if data[1] & LITTLE_ENDIAN_FLAG else ">iI"


def read_stamp_ns(data: bytes) -> int:
    """Read header.stamp from a serialised message that starts with a header."""
    seconds, nanoseconds = struct.unpack_from(stamp_format(data), data, ENCAPSULATION_BYTES)
    return to_ns(seconds, nanoseconds)


def shift_stamp(data: bytes, by_ns: int) -> bytes:
    """Return a copy of a serialised message that starts with a header, its stamp moved by `by_ns`."""
    moved = bytearray(data)
    struct.pack_into(stamp_format(data), moved, ENCAPSULATION_BYTES, *from_ns(read_stamp_ns(data) + by_ns))
    return bytes(moved)


class Recording:
    """The chosen topics of one rosbag2 recording; use it in a `with` block."""

    def __init__(self, bag: Path, topics: Sequence[str]) -> None:
        """Remember what to open; `topics` empty means all."""
        if not bag.exists():
            raise DataError("no such bag", found=bag, expected="the folder of a rosbag2 recording")
        self._bag, self._topics = bag, tuple(topics)
        self._reader: AnyReader | None = None
        self.connections: list[Connection] = []

    def __enter__(self) -> Recording:
        """Open the bag and check that it holds the chosen topics."""
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore

        try:
            reader = AnyReader([self._bag], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
            reader.open()
        except Exception as error:
            raise DataError(f"cannot open the bag {self._bag}: {error}", expected="a rosbag2 recording") from error
        self._reader = reader
        if not reader.is2:
            raise DataError("this is a ROS 1 bag", found=self._bag, cure="convert it with rosbags-convert")
        absent = sorted(set(self._topics) - {link.topic for link in reader.connections})
        if absent:
            raise UsageError("topics not in the bag", found=", ".join(absent), expected=sorted(reader.topics))
        self.connections = [c for c in reader.connections if not self._topics or c.topic in self._topics]
        return self

    def __exit__(self, *_: object) -> None:
        """Close the bag."""
        if self._reader is not None:
            self._reader.close()

    def messages(self) -> Iterator[Message]:
        """Yield the messages in the order in which they were recorded."""
        assert self._reader is not None
        for link, bag_ns, data in self._reader.messages(connections=self.connections):
            yield Message(link.topic, bag_ns, bytes(data))

    def period_ns(self) -> int:
        """Length of one pass for a loop: the duration and one mean interval of the busiest topic."""
        assert self._reader is not None
        duration = self._reader.end_time - 1 - self._reader.start_time  # end_time is just after the last message
        most = max((link.msgcount for link in self.connections), default=1)
        return int(duration + duration // max(1, most - 1))


class Pace:
    """When each message is due, on a steady clock, in nanoseconds after the start."""

    def __init__(self, rate: float | None, hz: float | None) -> None:
        """`hz` counts distinct recording times and wins over `rate`; neither means at once."""
        self._rate, self._hz = rate, hz
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._step = -1

    def due_ns(self, bag_ns: int) -> int:
        """Return when the message recorded at `bag_ns` is due; call it once for each message, in order."""
        if self._first_ns is None:
            self._first_ns = bag_ns
        if bag_ns != self._last_ns:
            self._step, self._last_ns = self._step + 1, bag_ns
        if self._hz:
            return round(self._step * NS_PER_S / self._hz)
        return round((bag_ns - self._first_ns) / self._rate) if self._rate else 0
