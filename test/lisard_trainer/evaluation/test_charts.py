"""Curves of a page: within their drawing, with names escaped."""

from __future__ import annotations

import re

from lisard_ros.evaluation.statistics import proportion
from lisard_trainer.evaluation import charts


def test_a_curve_stays_within_its_drawing():
    points = tuple((at, proportion(hits, 1)) for at, hits in ((0.0, 1), (1.0, 0)))
    drawing = charts.Chart("a & b", "", "eps", ((0.5, "8"),), (charts.Curve("m<1>", points),)).drawing
    places = [float(v) for v in re.findall(r'c[xy]="([\d.]+)"', drawing)]
    assert places == [charts.LEFT, charts.TOP, charts.WIDTH - charts.RIGHT, charts.HEIGHT - charts.BOTTOM]
    assert "m&lt;1&gt;" in drawing and "a &amp; b" in drawing
