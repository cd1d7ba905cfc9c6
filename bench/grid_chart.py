"""A grid of variants as one drawing: a variant per row, a dot per seed for each of three figures on one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from statistics import mean
from typing import Any

import grid_table

WIDTH, LEFT, RIGHT, TOP, ROW = 860, 170, 30, 56, 26
# What is drawn, how it is called and its colour (told apart by people who see no red or no green, too).
SHOWN = {
    grid_table.WHITE: ("white-box PGD-10", "#d55e00"),
    grid_table.GRAY_WORST: ("worst gray-box condition", "#0072b2"),
    grid_table.CLEAN: ("clean", "#009e73"),
}
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333}.axis{stroke:#ccc}.span{stroke:#bbb;stroke-width:2}"
    ".ground{fill:#fff}circle{stroke:#fff;stroke-width:1}"
)


@dataclass(frozen=True)
class Variant:
    """One row: its name, and column of SHOWN -> its figure for each seed, in [0, 1]."""

    name: str
    figures: Mapping[str, list[float]]

    @property
    def order(self) -> float:
        """By what rows are sorted: the worst gray-box condition, else nothing."""
        worst = self.figures[grid_table.GRAY_WORST]
        return mean(worst) if worst else 0.0


def drawing(report: Mapping[str, Any]) -> str:
    """An SVG file of its own, from the JSON report of `lisard evaluate` alone; the most robust variant comes first."""
    variants = sorted(map(_variant, grid_table.by_variant(report).items()), key=lambda variant: -variant.order)
    height = TOP + ROW * len(variants) + 14
    body = [*_axis(height), *_legend(), *(part for row, variant in enumerate(variants) for part in _row(variant, row))]
    title = f"Accuracy of each variant on {report['images']} images, in %"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">'
        f'<style>{STYLE}</style><rect class="ground" width="{WIDTH}" height="{height}"/>{"".join(body)}</svg>\n'
    )


def _variant(found: tuple[str, list[dict[str, float]]]) -> Variant:
    name, seeds = found
    return Variant(name, {column: [seed[column] for seed in seeds if column in seed] for column in SHOWN})


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _axis(height: int) -> list[str]:
    marks = [n / 5 for n in range(6)]
    lines = [f'<line class="axis" x1="{_x(m):.1f}" x2="{_x(m):.1f}" y1="{TOP - 8}" y2="{height - 8}"/>' for m in marks]
    return lines + [_text(_x(m), TOP - 14, f"{100 * m:.0f} %", "middle") for m in marks]


def _legend() -> list[str]:
    parts, x = [], float(LEFT)
    for name, colour in SHOWN.values():
        parts += [f'<circle cx="{x:.0f}" cy="14" r="6" fill="{colour}"/>', _text(x + 11, 18.5, name, "start")]
        x += 40 + 7.2 * len(name)
    return parts


def _row(variant: Variant, row: int) -> list[str]:
    """The name, a line from its lowest to its highest figure, and the dots."""
    y = TOP + ROW * row + ROW / 2
    every = [value for values in variant.figures.values() for value in values]
    line = f'<line class="span" x1="{_x(min(every)):.1f}" x2="{_x(max(every)):.1f}" y1="{y}" y2="{y}"/>'
    dots = [
        f'<circle cx="{_x(value):.1f}" cy="{y}" r="6" fill="{colour}"><title>{escape(variant.name)}, {name}: '
        f"{100 * value:.1f} %</title></circle>"
        for column, (name, colour) in SHOWN.items()
        for value in variant.figures[column]
    ]
    return [_text(LEFT - 14, y + 4.5, variant.name, "end"), line, *dots]


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
