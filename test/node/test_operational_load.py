"""Rate and latency with and without injection are kept apart, and silence is no part of a rate."""

from __future__ import annotations

import pytest

from lisard_ros.node.operational_load import WINDOW_FRAMES, Load, OperationalLoad


def test_both_kinds_are_kept_apart() -> None:
    load = OperationalLoad()
    assert load.load(attacked=True) == load.load(attacked=False) == Load()
    for number in range(11):
        load.answered(10.0 + number, number * 0.1, injecting=False)
    for number in range(5):
        load.answered(40.0, 1.1 + number * 0.2, injecting=True)
    off, on = load.load(attacked=False), load.load(attacked=True)
    assert (off.frames, on.frames) == (11, 5)
    assert off.rate_hz == pytest.approx(10.0) and on.rate_hz == pytest.approx(5.0)
    assert off.p50_ms == pytest.approx(15.0) and on.p99_ms == pytest.approx(40.0)


def test_silence_is_no_part_of_the_rate_and_the_window_is_bounded() -> None:
    load = OperationalLoad()
    for number in range(3 * WINDOW_FRAMES):
        silence_s = 100.0 if number >= 2 * WINDOW_FRAMES else 0.0
        load.answered(5.0, number * 0.05 + silence_s, injecting=True)
    found = load.load(attacked=True)
    assert found.frames == WINDOW_FRAMES and found.rate_hz == pytest.approx(20.0)
