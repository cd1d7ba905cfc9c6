"""Images that the page of a report shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Gallery(Generic[T]):
    """Samples T of one condition. patch: the print of a printed patch as a data URI, else empty."""

    title: str
    samples: tuple[T, ...]
    patch: str = ""
