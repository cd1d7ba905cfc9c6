"""Stamps to nanoseconds and back; boxes by their corners."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.images import to_region
from lisard_ros.message_fields import box_xyxy_px, from_ns, stamp_ns


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 10**9 - 1))
def test_stamps_survive_the_way_there_and_back(sec: int, nanosec: int) -> None:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec))
    assert from_ns(stamp_ns(header)) == (sec, nanosec)


def detection(x: float, *scores: float) -> Any:
    """A box of 4 x 6 pixels around (x, 5), with hypotheses of these scores."""
    centre = SimpleNamespace(position=SimpleNamespace(x=x, y=5.0))
    results = [SimpleNamespace(hypothesis=SimpleNamespace(class_id=f"c{s}", score=s)) for s in scores]
    return SimpleNamespace(bbox=SimpleNamespace(center=centre, size_x=4.0, size_y=6.0), results=results, id="7")


def test_a_box_is_given_by_its_corners() -> None:
    assert box_xyxy_px(detection(3.0)) == (1.0, 2.0, 5.0, 8.0)


def test_a_region_has_the_best_hypothesis() -> None:
    region = to_region(detection(3.0, 0.25, 0.75))
    assert region is not None and (region.label, region.score, region.id) == ("c0.75", 0.75, "7")
    unknown = to_region(detection(3.0))
    assert unknown is not None and unknown.label is None and unknown.score is None
    assert to_region(detection(math.nan, 0.5)) is None
