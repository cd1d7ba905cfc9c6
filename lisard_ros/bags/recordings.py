"""The files of recordings: what they are, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """One recording that was read. sha256: of its files. lost: messages known to be lost, None: unknown.

    damage: what was wrong with it, line by line.
    """

    path: str
    sha256: str
    bytes: int
    images: int
    lost: int | None = 0
    damage: tuple[str, ...] = ()
