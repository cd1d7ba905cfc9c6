"""The frame counters: the equation always holds, percentiles are right, overwritten frames are not lost."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.evaluation.statistics import percentiles
from lisard_ros.node.frame_counters import FrameCounters, SequenceGaps

EVENTS = st.lists(
    st.sampled_from(["answered", "replaced", "too_old", "bad_image", "bad_output", "none", "lost"]), max_size=60
)


@given(EVENTS)
def test_received_is_the_sum_of_all_outcomes(events: list[str]) -> None:
    counters = FrameCounters()
    for event in events:
        if event == "lost":
            counters.lost(2)
            continue
        counters.arrived(0.0)
        {
            "answered": lambda: counters.answered({"total": 1.0}, 0.0),
            "replaced": counters.replaced,
            "too_old": counters.too_old,
            "none": lambda: None,
        }.get(event, lambda cause=event: counters.failed(cause))()
    seen, counts = Counter(events), counters.counts()
    assert counts.received == len(events) - seen["lost"]
    assert counts.received == (
        counts.answered + counts.replaced + counts.too_old + counts.failed_total + counts.pending
    )
    assert counts.pending == seen["none"] and counts.lost_in_transport == 2 * seen["lost"]
    assert counts.failed.get("bad_output", 0) == seen["bad_output"]


def test_percentiles_are_those_of_replay_and_benchmarks() -> None:
    counters, values = FrameCounters(), [4.0, 1.0, 3.0, 2.0]
    for value in values:
        counters.answered({"infer": value}, 0.0)
    assert counters.percentiles() == {"infer": percentiles(values)}


def test_frames_overwritten_in_the_queue_are_replaced_not_lost() -> None:
    counters = FrameCounters()
    gaps = SequenceGaps()
    for gid, number in [(b"a", 7), (b"b", 1), (b"a", 8), (b"a", 20), (b"b", 2), (b"a", 3)]:
        counters.arrived(0.0)
        counters.gap(gaps.saw({"data": gid}, number))
    counters.lost(4)
    counts = counters.counts()
    assert (counts.received, counts.replaced, counts.lost_in_transport) == (6 + 11 - 4, 11 - 4, 4)
    assert gaps.saw(None, 5) == 0 and gaps.saw({"data": b"a"}, None) == 0


def test_without_the_publisher_gaps_count_while_there_is_one() -> None:
    """Jazzy's rclpy tells the number and not the publisher: numbers of two publishers would look like gaps."""
    gaps = SequenceGaps()
    assert [gaps.saw(None, number, alone=True) for number in (7, 8, 12, 13)] == [0, 0, 3, 0]
    assert [gaps.saw(None, number, alone=False) for number in (1, 14, 2)] == [0, 0, 0]
    assert [gaps.saw(None, number, alone=True) for number in (20, 21, 3, 5)] == [0, 0, 0, 1]


def test_windows_forget_old_frames_and_jumps_forget_ages() -> None:
    counters = FrameCounters(window_frames=3)
    for value in range(10):
        counters.answered({"infer": float(value), "age": float(value)}, float(value))
    assert counters.percentiles()["infer"].n == 3 and counters.percentiles()["infer"].p50_ms == 8.0
    counters.jumped_back()
    assert "age" not in counters.percentiles() and counters.counts().jumps_back == 1
    counters.injected(2.0)
    assert counters.percentiles()["inject"].max_ms == 2.0


def test_rate_and_silence() -> None:
    counters = FrameCounters()
    for number in range(300):
        counters.arrived(number / 30)
        counters.answered({}, number / 30)
    assert counters.rate_hz(10.0, over_s=5.0) == pytest.approx(30, rel=0.02)
    assert counters.silent_s(12.0, since_s=0.0) == pytest.approx(12.0 - 299 / 30)
    assert FrameCounters().silent_s(9.0, since_s=4.0) == 5.0
    fast = FrameCounters(window_frames=100)
    for number in range(1000):
        fast.answered({}, number / 200)
    assert fast.rate_hz(5.0) == pytest.approx(200, rel=0.02)
