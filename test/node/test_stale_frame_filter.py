"""The limit of age, and jumps of time."""

from __future__ import annotations

from lisard_ros.node.stale_frame_filter import StaleFrameFilter


def test_the_age_limit_is_lifted_after_a_jump_until_stamps_and_clock_agree() -> None:
    stale_frames = StaleFrameFilter()
    assert not stale_frames.saw(2_000, 0.0) and not stale_frames.saw(2_000, 0.1)
    assert stale_frames.too_old(500.0, 100.0, 0.2)
    assert stale_frames.saw(1_000, 0.3)
    assert not stale_frames.too_old(500.0, 100.0, 0.4), "the clock has not followed yet"
    assert not stale_frames.too_old(50.0, 100.0, 0.5)
    assert stale_frames.too_old(500.0, 100.0, 0.6), "in force again after a frame within the limit"
    assert stale_frames.saw(10, 0.7)
    assert stale_frames.too_old(500.0, 100.0, 0.7 + StaleFrameFilter.GRACE_S), "in force again after the grace time"
    assert not stale_frames.too_old(1e9, 0.0, 9.0), "0 is off"
