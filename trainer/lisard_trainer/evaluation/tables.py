"""Tables of a report, for Markdown and for the page: cells with their share, so that a page can colour them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lisard_ros.evaluation.statistics import Interval, Proportion

from .models import ModelSource

NOT_RUN, NONE = "not run", "–"
SHORT_HASH = 12
LOW, MIDDLE, HIGH = (190, 50, 40), (222, 165, 45), (35, 135, 85)  # heat: red, amber, green
Badge = Literal["", "good", "bad", "warning", "note"]


@dataclass(frozen=True)
class Cell:
    """Text of a cell.

    share: in [0,1], for its colour. weak: its attack does not count. hint: more, on demand. badge: a verdict, which the
    page colours.
    """

    text: str
    share: float | None = None
    weak: bool = False
    hint: str = ""
    badge: Badge = ""

    @property
    def heat(self) -> str:
        """A background for a share: red at 0, amber at one half, green at 1; faint, so that text stays readable."""
        if self.share is None or math.isnan(self.share):
            return ""
        ends, at = ((LOW, MIDDLE), 2 * self.share) if self.share < 0.5 else ((MIDDLE, HIGH), 2 * self.share - 1)
        red, green, blue = (round(a + (b - a) * at) for a, b in zip(*ends, strict=True))
        return f"background: rgba({red}, {green}, {blue}, {0.12 if self.weak else 0.34})"

    @property
    def has_interval(self) -> bool:
        """Whether it is a value with an interval: the page writes them below each other."""
        return " [" in self.text


@dataclass(frozen=True)
class Table:
    """What it shows, names of columns (the first names the rows), rows of a name and cells."""

    title: str
    about: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]

    @property
    def has_figures(self) -> bool:
        """Whether its cells are figures rather than words."""
        return any(cell.share is not None or cell.has_interval for _, cells in self.rows for cell in cells)


def with_interval(value: Interval, form: str, factor: float = 1) -> str:
    """A figure and its interval in brackets, each times the factor; form: as in a format string."""
    figure, low, high = (f"{factor * number:{form}}" for number in (value.value, value.low, value.high))
    return f"{figure} [{low}, {high}]"


def percent(value: Proportion) -> str:
    """97.1 [96.1, 97.9]."""
    return with_interval(Interval(value.share, value.low, value.high), ".1f", 100) if value.n else "no data"


def points(value: Interval) -> str:
    """+1.2 [-0.3, +2.7]."""
    return with_interval(value, "+.1f", 100)


def fraction(value: Interval) -> str:
    """0.853 [0.796, 0.914]."""
    return with_interval(value, ".3f")


def texts(*values: object) -> tuple[Cell, ...]:
    """Cells of words."""
    return tuple(Cell(str(value)) for value in values)


def holds(fulfilled: bool) -> Cell:
    """Whether something that must hold does."""
    return Cell("yes", badge="good") if fulfilled else Cell("NO", badge="bad")


def sources(found: Iterable[ModelSource], more: Mapping[str, str]) -> Table:
    """Who took part. more: further columns, and the fields that they show."""
    rows = tuple(
        (
            s.model,
            texts(s.role, s.recipe, *(getattr(s, f) for f in more.values()), s.seed, s.epochs, s.sha256[:SHORT_HASH]),
        )
        for s in found
    )
    return Table("What took part", "", ("model", "part", "recipe", *more, "seed", "epochs", "sha256"), rows)


def requirements(rows: Iterable[tuple[str, str, str, bool]], counts: bool) -> Table:
    """What must hold for a gray-box attack to count: each requirement, what was found, what is required, and whether it
    holds.
    """
    verdict = "It counts." if counts else "It does NOT count: strengthen the surrogate or the attack first."
    cells = tuple((what, (*texts(found, required), holds(fulfilled))) for what, found, required, fulfilled in rows)
    return Table("Does the gray-box attack count?", verdict, ("requirement", "found", "required", "holds"), cells)


def mean(cells: Iterable[Cell]) -> Cell:
    """The mean of the shares that were measured."""
    shares = [cell.share for cell in cells if cell.share is not None]
    share = sum(shares) / len(shares) if shares else None
    return Cell(NOT_RUN) if share is None else Cell(f"{100 * share:.1f}", share)


def markdown(table: Table) -> str:
    """Title, what it shows, and the rows. A name may hold any character, so what would end a cell is escaped."""
    parts = [f"## {table.title}", *([table.about] if table.about else [])]
    if table.rows:
        # In brackets where an attack does not count.
        rows = [
            [name, *(f"({cell.text})" if cell.weak and cell.share is not None else cell.text for cell in cells)]
            for name, cells in table.rows
        ]
        lines: list[Sequence[str]] = [table.header, ["---"] * len(table.header), *rows]
        escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in escaped))
    return "\n\n".join(parts)
