"""Drawings of reports: every frame is a dot, every stage a bar, nothing is no drawing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lisard_ros.reporting import charts
from lisard_ros.reporting.charts import TrackSpan, TrackTimes


@dataclass(frozen=True)
class Stage:
    """Percentiles of a stage."""

    stage: str = "end to end"
    p50_ms: float = 2.0
    p95_ms: float = 3.0
    p99_ms: float = 3.1


def test_charts_hold_every_frame_and_stage() -> None:
    svg = charts.latency_plot([1.0, 2.0, 3.0], Stage())
    assert svg.count('class="dot"') == 3 and "p99 3.1" in svg and "4 ms" in svg
    assert charts.stage_bars([replace(Stage(), stage="infer")]).count('class="bar"') == 1
    assert charts.latency_plot([], Stage()) == "" and charts.stage_bars([]) == ""


def test_tracks_are_rows_with_bars_and_their_names_are_escaped() -> None:
    spans = (TrackSpan(0.0, 1.0, False), TrackSpan(1.0, 2.0, True))
    svg = charts.track_timeline([TrackTimes("1 <stop>", spans), TrackTimes("2 stop", spans[:1])])
    assert svg.count("<rect") == 3 and svg.count("opacity") == 1
    assert "1 &lt;stop&gt;" in svg and "2.0 s" in svg and charts.track_timeline([]) == ""
