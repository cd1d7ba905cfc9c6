"""Losses and failures of the last periods: what ended long ago is forgotten."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.node.camera_monitor import LossWindow, RecentFailures
from lisard_ros.node.frame_counters import Counts


def test_faults_are_forgotten_after_some_periods() -> None:
    recent = RecentFailures()
    assert recent.update({"bad_image": 3}) == {"bad_image": 3}
    for _ in range(9):
        assert recent.update({"bad_image": 3}) == {"bad_image": 3}
    assert recent.update({"bad_image": 3}) == {}
    assert recent.update({"bad_image": 4, "bad_output": 1}) == {"bad_image": 1, "bad_output": 1}


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
