"""What fills the board of `lisard watch`, and what its buttons can do."""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    """Fills a board until it is closed."""

    def close(self) -> None:
        """End what fills the board."""


class Actions(Protocol):
    """What the buttons do; each call blocks and answers with a sentence for people.

    Raises:
        LisardError: The node cannot be reached, or refuses.
    """

    def set_injection(self, on: bool) -> str:
        """Switch injection on or off."""

    def self_test(self, limit_s: float) -> str:
        """Run the self test and wait for its outcome."""

    def cancel_self_test(self) -> str:
        """End a self test that is under way."""


class NodeSource(Source, Actions, Protocol):
    """A running node: it fills the board, and the buttons act on it."""
