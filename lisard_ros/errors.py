"""Errors that a user can act on: what is wrong, what was found, what was expected, and the cure.

Every error that input from outside can cause is one of these; anything else that escapes is a bug of this package.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LisardError(Exception):
    """Base of all errors with a message for users; `str()` gives the whole sentence."""

    def __init__(self, what: str, *, found: object = None, expected: object = None, cure: str | None = None) -> None:
        """Keep the four parts.

        Args:
            what: What is wrong.
            found: What there was instead; None: not shown.
            expected: What would have been right; None: not shown.
            cure: What the user can do about it.
        """
        self.what, self.found, self.expected, self.cure = what, found, expected, cure
        details = [f"found {found}"] if found is not None else []
        details += [f"expected {expected}"] if expected is not None else []
        text = what + (": " + ", ".join(details) if details else "")
        super().__init__(f"{text}; {cure}" if cure else text)


class BundleError(LisardError):
    """A model bundle is missing, malformed, tampered with or of another schema."""


class NewerSchemaError(BundleError):
    """A model bundle was written by a newer release of this package."""


class ImageError(LisardError):
    """An image cannot be turned into pixels: encoding, size, step or data are wrong."""


class BackendError(LisardError):
    """An inference backend cannot be used or refused the model."""


class OutputError(LisardError):
    """A model answered with something that cannot be interpreted (NaN, infinity, wrong shape)."""


class AttackError(LisardError):
    """An attack is unknown, unavailable for this model, or has impossible settings."""


class DataError(LisardError):
    """A data set, bag or label file is missing, malformed or contradicts itself."""


class UsageError(LisardError):
    """A command or parameter was used wrongly (exit status 2)."""


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return the text of a foreign exception as one line of at most `limit` characters, or its type."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name closest in spelling to `word`, or None when nothing is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return close[0] if close else None


def unknown_name(kind: str, word: str, known: Iterable[str], error: type[LisardError] = UsageError) -> LisardError:
    """Build the error for a name that is not one of `known`, with the nearest valid name as the cure."""
    names = sorted(known)
    guess = nearest(word, names)
    cure = f"did you mean '{guess}'?" if guess else None
    return error(f"unknown {kind}", found=repr(word), expected="one of " + ", ".join(names), cure=cure)
