"""The books: the equation always holds, percentiles are right, ages survive jumps of time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.node.accounting import (
    AgeGate,
    CameraBooks,
    Counts,
    LossWindow,
    SequenceGaps,
    summarise,
)

EVENTS = st.lists(
    st.sampled_from(["answered", "replaced", "too_old", "bad_image", "bad_output", "none", "lost"]), max_size=60
)


@given(EVENTS)
def test_received_is_the_sum_of_all_outcomes(events: list[str]) -> None:
    books = CameraBooks()
    for event in events:
        if event == "lost":
            books.lost(2)
            continue
        books.arrived(0.0)
        {
            "answered": lambda: books.answered({"total": 1.0}, 0.0),
            "replaced": books.replaced,
            "too_old": books.too_old,
            "none": lambda: None,
        }.get(event, lambda cause=event: books.failed(cause))()
    seen, counts = Counter(events), books.counts()
    assert counts.received == len(events) - seen["lost"]
    assert counts.received == (
        counts.answered + counts.replaced + counts.too_old + counts.failed_total + counts.pending
    )
    assert counts.pending == seen["none"] and counts.lost_in_transport == 2 * seen["lost"]
    assert counts.failed.get("bad_output", 0) == seen["bad_output"]


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=300))
def test_percentiles_are_values_that_occurred_and_match_numpy(values: list[float]) -> None:
    got = summarise(values)
    assert got is not None
    for share, value in ((50, got.p50_ms), (95, got.p95_ms), (99, got.p99_ms)):
        assert value == np.percentile(values, share, method="inverted_cdf")
    assert got.max_ms == max(values) and got.count == len(values)


def test_frames_overwritten_in_the_queue_are_replaced_not_lost() -> None:
    books = CameraBooks()
    gaps = SequenceGaps()
    for gid, number in [(b"a", 7), (b"b", 1), (b"a", 8), (b"a", 20), (b"b", 2), (b"a", 3)]:
        books.arrived(0.0)
        books.gap(gaps.saw({"data": gid}, number))
    books.lost(4)
    counts = books.counts()
    assert (counts.received, counts.replaced, counts.lost_in_transport) == (6 + 11 - 4, 11 - 4, 4)
    assert gaps.saw(None, 5) == 0 and gaps.saw({"data": b"a"}, None) == 0


def test_windows_forget_old_frames_and_jumps_forget_ages() -> None:
    books = CameraBooks(window_frames=3)
    for value in range(10):
        books.answered({"infer": float(value), "age": float(value)}, float(value))
    assert books.percentiles()["infer"].count == 3 and books.percentiles()["infer"].p50_ms == 8.0
    books.jumped_back()
    assert "age" not in books.percentiles() and books.counts().jumps_back == 1
    books.injected(2.0)
    assert books.percentiles()["inject"].max_ms == 2.0


def test_rate_and_silence() -> None:
    books = CameraBooks()
    for number in range(300):
        books.arrived(number / 30)
        books.answered({}, number / 30)
    assert books.rate_hz(10.0, over_s=5.0) == pytest.approx(30, rel=0.02)
    assert books.silent_s(12.0, since_s=0.0) == pytest.approx(12.0 - 299 / 30)
    assert CameraBooks().silent_s(9.0, since_s=4.0) == 5.0
    fast = CameraBooks(window_frames=100)
    for number in range(1000):
        fast.answered({}, number / 200)
    assert fast.rate_hz(5.0) == pytest.approx(200, rel=0.02)


def test_the_age_limit_is_lifted_after_a_jump_until_stamps_and_clock_agree() -> None:
    gate = AgeGate()
    assert not gate.saw(2_000, 0.0) and not gate.saw(2_000, 0.1)
    assert gate.too_old(500.0, 100.0, 0.2)
    assert gate.saw(1_000, 0.3)
    assert not gate.too_old(500.0, 100.0, 0.4), "the clock has not followed yet"
    assert not gate.too_old(50.0, 100.0, 0.5)
    assert gate.too_old(500.0, 100.0, 0.6), "in force again after a frame within the limit"
    assert gate.saw(10, 0.7)
    assert gate.too_old(500.0, 100.0, 0.7 + AgeGate.GRACE_S), "in force again after the grace time"
    assert not gate.too_old(1e9, 0.0, 9.0), "0 is off"


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), min_size=1, max_size=40))
def test_the_loss_window_counts_only_recent_loss(steps: list[tuple[int, int]]) -> None:
    window, received, lost = LossWindow(span=4), 0, 0
    for got, gone in steps:
        received, lost = received + got, lost + gone
        result = window.update(Counts(received=received, lost_in_transport=lost))
    recent = steps[-4:] if len(steps) > 4 else steps
    assert result[0] == sum(gone for _, gone in recent)
    sent = sum(got + gone for got, gone in recent)
    assert result[1] == (result[0] / sent if sent else 0.0)
