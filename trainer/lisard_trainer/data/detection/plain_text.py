"""Reading label files line by line: numbers that are none are named with file and line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lisard_ros.errors import DataError

from ..files import SUFFIXES


@dataclass(frozen=True)
class Line:
    """The words of one line that is not empty, and where it stands."""

    words: tuple[str, ...]
    where: str

    def numbers(self, first: int, count: int) -> tuple[float, ...]:
        """`count` numbers from word `first` on; DataError names the line."""
        try:
            found = tuple(float(word) for word in self.words[first : first + count])
        except ValueError as error:
            raise self.wrong(str(error), f"{count} numbers") from error
        if len(found) < count:
            raise self.wrong(f"{len(self.words)} words", f"{first + count} or more")
        return found

    def wrong(self, found: str, expected: str) -> DataError:
        """The error of this line."""
        return DataError(self.where, found=found, expected=expected, cure="mend the label file")


def lines(file: Path, shown: str) -> Iterator[Line]:
    """The lines of a label file with their words."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"labels {file}", found=str(error), expected="a text file", cure="mend or remove it") from error
    for number, line in enumerate(text.splitlines(), 1):
        words = tuple(line.split())
        if words:
            yield Line(words, f"{shown}:{number}")


def images_below(folder: Path) -> list[str]:
    """Image files below a folder, relative to it, in order."""
    found = []
    for place, _, names in os.walk(folder):
        below = Path(place).relative_to(folder).as_posix()
        found += [name if below == "." else f"{below}/{name}" for name in names if name.lower().endswith(SUFFIXES)]
    return sorted(found)
