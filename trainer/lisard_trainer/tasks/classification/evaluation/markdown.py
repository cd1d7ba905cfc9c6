"""The report as a page of Markdown, generated from the report alone."""

from __future__ import annotations

from collections.abc import Sequence

from . import tables
from .report import ClassificationReport
from .tables import Cell, Grid


def page(report: ClassificationReport) -> str:
    """The whole page."""
    parts = [f"# {report.title}", _preface(report)]
    parts += [_section(grid) for grid in tables.all_of(report)]
    return "\n\n".join(parts) + "\n"


def _preface(report: ClassificationReport) -> str:
    return (
        f"{report.measured_on} (data sha256 `{report.data_sha256[:12]}`); "
        "attacks cover all of them unless n says otherwise, rounded to 8 bit within the budget. "
        f"Suite {report.suite}; {report.device}; commit `{report.commit[:12]}`; {report.made_at}.\n\n"
        "Gray-box: the attacker knows architecture and training data, not the weights (it attacks a surrogate of its "
        "own). White-box: the attacker has the weights. Query: it may only ask for answers.\n\n"
        f"Made with `{report.command}`. This page is generated."
    )


def _section(grid: Grid) -> str:
    head = f"## {grid.title}" + (f"\n\n{grid.about}" if grid.about else "")
    if not grid.rows:
        return head
    rows = [[name, *(_text(cell) for cell in cells)] for name, cells in grid.rows]
    return f"{head}\n\n{_table(grid.header, rows)}"


def _text(cell: Cell) -> str:
    return f"({cell.text})" if cell.weak and cell.share is not None else cell.text


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
