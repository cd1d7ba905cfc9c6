"""Curves of the page as inline SVG: accuracy over a setting, one line for each model. No library, no script."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from lisard_ros.evaluation.statistics import Proportion

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 300, 56, 18, 14, 46
COLOURS = 6  # classes c0..c5 of the stylesheet


@dataclass(frozen=True)
class Curve:
    """One model's line: places on the horizontal axis in [0,1], and the accuracy at each."""

    name: str
    points: tuple[tuple[float, Proportion], ...]


@dataclass(frozen=True)
class Chart:
    """Accuracy over something: a line with its 95 % band for each model, its colour by its place in the list.

    about: what it shows in words. ticks: places on the horizontal axis in [0,1], and their labels.
    """

    title: str
    about: str
    axis: str
    ticks: tuple[tuple[float, str], ...]
    curves: tuple[Curve, ...]

    @property
    def drawing(self) -> str:
        """The chart as SVG."""
        parts = []
        for percent in range(0, 101, 25):
            y = _y(percent / 100)
            parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(_text(LEFT - 8, y + 4, f"{percent} %", "end"))
        base = HEIGHT - BOTTOM
        for at, words in self.ticks:
            parts.append(f'<line class="rule" x1="{_x(at):.1f}" x2="{_x(at):.1f}" y1="{base}" y2="{base + 5}"/>')
            parts.append(_text(_x(at), base + 18, words))
        parts.append(_text(WIDTH / 2, HEIGHT - 8, self.axis))
        for number, curve in enumerate(self.curves):
            upper = [f"{_x(at):.1f},{_y(value.high):.1f}" for at, value in curve.points]
            lower = [f"{_x(at):.1f},{_y(value.low):.1f}" for at, value in reversed(curve.points)]
            parts.append(f'<polygon class="band c{number % COLOURS}" points="{" ".join(upper + lower)}"/>')
        for number, curve in enumerate(self.curves):
            places = " ".join(f"{_x(at):.1f},{_y(value.share):.1f}" for at, value in curve.points)
            parts.append(f'<polyline class="line c{number % COLOURS}" points="{places}"/>')
            for at, value in curve.points:
                shares = f"{100 * value.share:.1f} % [{100 * value.low:.1f}, {100 * value.high:.1f}]"
                dot = f'cx="{_x(at):.1f}" cy="{_y(value.share):.1f}" r="3.2"'
                title = f"<title>{escape(curve.name)}: {shares}</title>"
                parts.append(f'<circle class="dot c{number % COLOURS}" {dot}>{title}</circle>')
        title, body = escape(self.title), "".join(parts)
        return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{body}</svg>'


def _x(at: float) -> float:
    return LEFT + at * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
