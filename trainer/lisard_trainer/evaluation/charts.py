"""Curves of the page as inline SVG: accuracy over a setting, one line for each model. No library, no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 300, 56, 18, 14, 46
COLOURS = 6  # classes c0..c5 of the stylesheet


@dataclass(frozen=True)
class Point:
    """Accuracy in [0,1] with its interval, at a place of the axis in [0,1]."""

    at: float
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """One model's line."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Tick:
    """A labelled place on the horizontal axis, in [0,1]."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A drawing (SVG), its title and the names of its lines in the order of their colours."""

    title: str
    about: str
    drawing: str
    names: tuple[str, ...]


def chart(title: str, about: str, axis: str, ticks: Sequence[Tick], lines: Sequence[Curve]) -> Chart:
    """A line for each model, with what it shows in words."""
    return Chart(title, about, curves(title, axis, ticks, lines), tuple(line.name for line in lines))


def curves(title: str, axis: str, ticks: Sequence[Tick], lines: Sequence[Curve]) -> str:
    """Accuracy over something: a line with its 95 % band for each model, its colour by its place in the list."""
    parts = []
    for percent in range(0, 101, 25):
        y = _y(percent / 100)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{percent} %", "end"))
    base = HEIGHT - BOTTOM
    for tick in ticks:
        x = _x(tick.at)
        parts.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 5}"/>')
        parts.append(_text(x, base + 18, tick.text))
    parts.append(_text(WIDTH / 2, HEIGHT - 8, axis))
    parts += [_band(line, n) for n, line in enumerate(lines)]
    parts += [_line(line, n) for n, line in enumerate(lines)]
    body = "".join(parts)
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{body}</svg>'


def _x(at: float) -> float:
    return LEFT + at * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)


def _band(line: Curve, colour: int) -> str:
    upper = [f"{_x(p.at):.1f},{_y(p.high):.1f}" for p in line.points]
    lower = [f"{_x(p.at):.1f},{_y(p.low):.1f}" for p in reversed(line.points)]
    return f'<polygon class="band c{colour % COLOURS}" points="{" ".join(upper + lower)}"/>'


def _line(line: Curve, colour: int) -> str:
    places = " ".join(f"{_x(p.at):.1f},{_y(p.share):.1f}" for p in line.points)
    dots = "".join(
        f'<circle class="dot c{colour % COLOURS}" cx="{_x(p.at):.1f}" cy="{_y(p.share):.1f}" r="3.2">'
        f"<title>{escape(line.name)}: {100 * p.share:.1f} % [{100 * p.low:.1f}, {100 * p.high:.1f}]</title></circle>"
        for p in line.points
    )
    return f'<polyline class="line c{colour % COLOURS}" points="{places}"/>{dots}'


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
