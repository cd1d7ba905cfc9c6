"""Drawings of reports as inline SVG: latency of every frame, and where the time goes. No library, no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol


class StageLatency(Protocol):
    """Percentiles of one stage in milliseconds."""

    @property
    def stage(self) -> str:
        """Its name."""

    @property
    def p50_ms(self) -> float:
        """Median."""

    @property
    def p95_ms(self) -> float:
        """95th percentile."""

    @property
    def p99_ms(self) -> float:
        """99th percentile."""


@dataclass(frozen=True, slots=True)
class TrackSpan:
    """A time in which a track has a box in every frame, in seconds from the first box of all tracks."""

    begin_s: float
    end_s: float
    recovered: bool


@dataclass(frozen=True, slots=True)
class TrackTimes:
    """When a track has boxes. name: its id and class."""

    name: str
    spans: tuple[TrackSpan, ...]


@dataclass(frozen=True, slots=True)
class ShareTimes:
    """A share over time, such as that of right answers: (begin in s, length in s, share) of stretches that have one."""

    name: str
    shares: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class StrengthCurve:
    """An attack at several strengths: (strength, share, lower and upper bound)."""

    name: str
    points: tuple[tuple[float, float, float, float], ...]


WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 860, 260, 58, 34, 14, 74
BAR_PX, GAP_PX, NAME_PX = 18, 8, 96
SHARE_PX, CURVE_NAME_PX = 26, 190
DASHES = ("none", "7 4", "2 3", "10 3 2 3")
TRACK_PX, TRACK_NAME_PX, PALE = 10, 190, ' style="opacity:0.4"'


def latency_plot(delays_ms: Sequence[float], marks: StageLatency) -> str:
    """Draw one dot for each answered frame, in the order of sending, with lines at the percentiles."""
    if not delays_ms:
        return ""
    top_ms = _round_up(max(delays_ms))
    parts = [_grid(top_ms), *_dots(delays_ms, top_ms)]
    for name, (value, y_line, y_text) in _apart(marks, top_ms):
        line = f'<line class="mark" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_line:.1f}" y2="{y_line:.1f}"/>'
        parts += [line, _text(WIDTH - RIGHT + 6, y_text + 4, f"{name} {value:.1f}", "start")]
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(_text(middle, HEIGHT - 6, "answered frames in the order of sending", "middle"))
    return _svg(WIDTH, HEIGHT, parts, "End-to-end latency of each frame")


def stage_bars(stages: Sequence[StageLatency]) -> str:
    """Draw the median of each stage as a bar with a tick at its 95th percentile."""
    if not stages:
        return ""
    scale = (WIDTH - NAME_PX - 150) / max(max(stage.p95_ms for stage in stages), 1e-9)
    parts = []
    for row, stage in enumerate(stages):
        y = GAP_PX + row * (BAR_PX + GAP_PX)
        tick = NAME_PX + stage.p95_ms * scale
        parts += [
            _text(NAME_PX - 8, y + BAR_PX - 5, stage.stage, "end"),
            f'<rect class="bar" x="{NAME_PX}" y="{y}" width="{max(1.0, stage.p50_ms * scale):.1f}" height="{BAR_PX}"/>',
            f'<line class="tick" x1="{tick:.1f}" x2="{tick:.1f}" y1="{y}" y2="{y + BAR_PX}"/>',
            _text(tick + 8, y + BAR_PX - 5, f"{stage.p50_ms:.2f} ms, p95 {stage.p95_ms:.2f}", "start"),
        ]
    return _svg(WIDTH, GAP_PX + len(stages) * (BAR_PX + GAP_PX), parts, "Median and 95th percentile of each stage")


def share_timeline(rows: Sequence[ShareTimes], end_s: float, title: str = "Share of right answers over time") -> str:
    """Draw one row for each condition with a bar for each stretch of time, as high as its share."""
    if not rows:
        return ""
    scale = (WIDTH - TRACK_NAME_PX - RIGHT) / max(end_s, 1e-9)
    bottom = GAP_PX + len(rows) * (SHARE_PX + GAP_PX)
    parts = []
    for number, row in enumerate(rows):
        foot = GAP_PX + number * (SHARE_PX + GAP_PX) + SHARE_PX
        parts.append(_text(TRACK_NAME_PX - 8, foot - 6, escape(row.name), "end"))
        parts.append(f'<line class="grid" x1="{TRACK_NAME_PX}" x2="{WIDTH - RIGHT}" y1="{foot}" y2="{foot}"/>')
        for begin_s, length_s, share in row.shares:
            high = max(1.0, share * SHARE_PX)
            parts.append(
                f'<rect class="bar" x="{TRACK_NAME_PX + begin_s * scale:.1f}" y="{foot - high:.1f}" '
                f'width="{max(0.8, length_s * scale - 0.4):.1f}" height="{high:.1f}"/>'
            )
    parts += [
        _text(TRACK_NAME_PX, bottom + 14, "0 s", "start"),
        _text(WIDTH - RIGHT, bottom + 14, f"{end_s:.1f} s", "end"),
    ]
    return _svg(WIDTH, bottom + 20, parts, title)


def strength_curves(curves: Sequence[StrengthCurve]) -> str:
    """Draw the share of right answers over the strength of each attack, with 95 % intervals."""
    if not curves:
        return ""
    most = max(point[0] for curve in curves for point in curve.points)
    wide = WIDTH - LEFT - CURVE_NAME_PX
    parts = [_share_grid(LEFT + wide)]
    ends = sorted(range(len(curves)), key=lambda number: -curves[number].points[-1][1])
    lowest = 0.0
    for number in ends:
        curve = curves[number]
        spots = [(LEFT + strength / max(most, 1e-9) * wide, *map(_share_y, rest)) for strength, *rest in curve.points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in spots)
        dash = DASHES[number % len(DASHES)]
        parts.append(f'<polyline class="curve" points="{line}" stroke-dasharray="{dash}"/>')
        for x, y, low, high in spots:
            parts.append(f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
            parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
        lowest = max(spots[-1][1], lowest + 14)
        parts.append(_text(LEFT + wide + 8, lowest + 4, escape(curve.name), "start"))
    for value in sorted({point[0] for curve in curves for point in curve.points}):
        parts.append(_text(LEFT + value / max(most, 1e-9) * wide, HEIGHT - BOTTOM + 16, f"{value:g}", "middle"))
    return _svg(WIDTH, max(HEIGHT, int(lowest) + 10), parts, "Share of right answers over strength")


def _share_grid(right_px: float) -> str:
    lines = []
    for part in range(5):
        y = _share_y(part / 4)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{right_px}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(_text(LEFT - 8, y + 4, f"{25 * part} %", "end"))
    return "".join(lines)


def _share_y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def track_timeline(tracks: Sequence[TrackTimes]) -> str:
    """Draw one row for each track with a bar where it has boxes, paler where the track alone makes them boxes."""
    if not tracks:
        return ""
    end_s = max(track.spans[-1].end_s for track in tracks)
    scale = (WIDTH - TRACK_NAME_PX - RIGHT) / max(end_s, 1e-9)
    bottom = GAP_PX + len(tracks) * (TRACK_PX + GAP_PX)
    parts = []
    for row, track in enumerate(tracks):
        y = GAP_PX + row * (TRACK_PX + GAP_PX)
        parts.append(_text(TRACK_NAME_PX - 8, y + TRACK_PX - 1, escape(track.name), "end"))
        parts += [
            f'<rect class="bar" x="{TRACK_NAME_PX + span.begin_s * scale:.1f}" y="{y}" '
            f'width="{max(1.0, (span.end_s - span.begin_s) * scale):.1f}" height="{TRACK_PX}"'
            f"{PALE if span.recovered else ''}/>"
            for span in track.spans
        ]
    parts += [
        _text(TRACK_NAME_PX, bottom + 14, "0 s", "start"),
        _text(WIDTH - RIGHT, bottom + 14, f"{end_s:.1f} s", "end"),
    ]
    return _svg(WIDTH, bottom + 20, parts, "When each track has a box")


def _dots(delays_ms: Sequence[float], top_ms: float) -> list[str]:
    step = (WIDTH - LEFT - RIGHT) / max(1, len(delays_ms) - 1)
    return [
        f'<circle class="dot" cx="{LEFT + index * step:.1f}" cy="{_y(value, top_ms):.1f}" r="2.4"/>'
        for index, value in enumerate(delays_ms)
    ]


def _grid(top_ms: float) -> str:
    lines = []
    for part in range(5):
        value = top_ms * part / 4
        y = _y(value, top_ms)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(_text(LEFT - 8, y + 4, f"{value:g} ms", "end"))
    return "".join(lines)


def _apart(marks: StageLatency, top_ms: float) -> list[tuple[str, tuple[float, float, float]]]:
    """Place the labels of the percentiles so that they do not cover each other."""
    placed: list[tuple[str, tuple[float, float, float]]] = []
    lowest = float(HEIGHT)
    for name, value in (("p50", marks.p50_ms), ("p95", marks.p95_ms), ("p99", marks.p99_ms)):
        y_line = _y(value, top_ms)
        lowest = min(y_line, lowest - 14)
        placed.append((name, (value, y_line, lowest)))
    return placed


def _y(value: float, top_ms: float) -> float:
    return HEIGHT - BOTTOM - value / top_ms * (HEIGHT - BOTTOM - TOP)


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 4, 10, 20, 40, ... above `value`, so that quarters are round too."""
    power = 10 ** math.floor(math.log10(max(value, 0.1)))
    return next(float(power * factor) for factor in (1, 2, 4, 6, 8, 10, 20) if power * factor >= value)


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def _svg(width: int, height: int, parts: Sequence[str], title: str) -> str:
    body = "".join(parts)
    return f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">{body}</svg>'
