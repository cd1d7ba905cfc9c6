"""What the files of recordings have in common, whatever their format: topics, definitions of types, messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

CDR, ROS1 = "cdr", "ros1"


class StorageError(Exception):
    """A part of a file cannot be read; the message has the reason."""


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
    """A serialised message. log_ns: when it was recorded; file: number of its file among those of the recording."""

    topic: StoredTopic
    log_ns: int
    raw: bytes
    file: int = 0


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

    @property
    def can_seek(self) -> bool:
        """Whether `messages` finds the place of `since_ns` without reading what comes before; not in a damaged file."""

    def messages(self, topics: Sequence[str], since_ns: int | None = None) -> Iterator[StoredMessage]:
        """Yield what can be read, by time where the file has an index.

        since_ns: only what was recorded then or later, in the same order; for files that `can_seek`.
        """

    def close(self) -> None:
        """Close the file."""
