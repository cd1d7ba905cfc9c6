"""The page of a report: Markdown, and one HTML file with everything in it.

A task fills a ReportPage from what it measured; how it is shown is decided here, for all tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from lisard_ros.reporting import pages
from lisard_ros.reporting.display import Tile

from . import tables
from .charts import Chart
from .tables import NOT_RUN, SHORT_HASH, Table

TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class CaptionedImage:
    """An image as a data URI, and what it is called."""

    uri: str
    caption: str


@dataclass(frozen=True)
class ImageCard:
    """Images side by side, and what was answered: at last the right thing or not (None: neither)."""

    images: tuple[CaptionedImage, ...]
    text: str = ""
    answer: str = ""
    right: bool | None = None


@dataclass(frozen=True)
class Gallery:
    """Images of one condition. enlarged: they have few pixels, which shall be seen."""

    title: str
    cards: tuple[ImageCard, ...]
    enlarged: bool = True

    @property
    def single(self) -> bool:
        """Whether each card is one image."""
        return all(len(card.images) == 1 for card in self.cards)


@dataclass(frozen=True)
class Section:
    """A part of the page. folded: tables that the page shows on demand. Markdown has all tables and no images."""

    title: str
    about: str = ""
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    folded: tuple[Table, ...] = ()
    galleries: tuple[Gallery, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.tables or self.charts or self.folded or self.galleries)


@dataclass(frozen=True)
class ReportPage:
    """What a report shows.

    lead: what was measured. notes: paragraphs that explain the figures. facts: what they rest on, name and value.
    passed: whether the checks hold. tiles: key figures.
    """

    title: str
    lead: str
    notes: tuple[str, ...]
    command: str
    facts: tuple[tuple[str, str], ...]
    passed: bool
    sections: tuple[Section, ...]
    tiles: tuple[Tile, ...] = ()


def short_commit(commit: str) -> str:
    """The start of its hash, and whether files were changed."""
    return commit[:SHORT_HASH] + (" with changes" if "+" in commit else "")


def present(*found: Table | None) -> tuple[Table, ...]:
    """Those that there are."""
    return tuple(table for table in found if table is not None)


def markdown(page: ReportPage) -> str:
    """The page with all of its tables."""
    facts = "; ".join(f"{name.lower()} {value}" for name, value in page.facts)
    shown = [table for section in page.sections for table in (*section.tables, *section.folded)]
    parts = [
        f"# {page.title}",
        f"{page.lead} ({facts}).",
        *page.notes,
        f"Made with `{page.command}`. This page is generated.",
        *(tables.markdown(table) for table in shown),
    ]
    return "\n\n".join(parts) + "\n"


def html(page: ReportPage) -> str:
    """The page as one file without links."""
    environment = pages.environment(Path(__file__).parent)
    environment.filters["wrapped"] = wrapped
    sections = [section for section in page.sections if not section.empty]
    return environment.get_template(TEMPLATE).render(page=page, sections=sections, not_run=NOT_RUN)


def wrapped(text: str) -> Markup:
    """Lines may break behind the underscores of a long name."""
    return escape(text).replace("_", Markup("_<wbr>"))
