"""What the files of recordings have in common, whatever their format: topics, definitions of types, messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

CDR, ROS1 = "cdr", "ros1"


class StorageError(Exception):
    """A part of a file cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Definition:
    """The definition of a message type. format: ros2msg, ros2idl, ros1msg or ''."""

    format: str
    text: str


@dataclass(frozen=True, slots=True)
class StoredTopic:
    """A topic of a file. encoding: CDR, ROS1, or something that is not read."""

    name: str
    kind: str
    encoding: str


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A serialised message. log_ns: when it was recorded."""

    topic: StoredTopic
    log_ns: int
    raw: bytes


class StorageFile(Protocol):
    """One open file of a recording. damage: what was found wrong so far, line by line."""

    damage: list[str]

    @property
    def topics(self) -> tuple[StoredTopic, ...]:
        """All topics."""

    @property
    def definitions(self) -> dict[str, Definition]:
        """Definitions by type, where the file has them."""

    def expected(self, topics: Sequence[str]) -> int | None:
        """Return how many messages these topics should have; None: nobody knows."""

    def messages(self, topics: Sequence[str]) -> Iterator[StoredMessage]:
        """Yield what can be read, by time where the file has an index."""

    def close(self) -> None:
        """Close the file."""
