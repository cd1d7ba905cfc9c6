"""The filter against the textbook's matrices; time in seconds, so that lost frames change nothing but the certainty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.tracking import motion
from lisard_ros.tracking.motion import MotionNoise

NOISE = MotionNoise()
BOX = np.array([[100.0, 50.0, 140.0, 110.0]])


def textbook_step(
    mean: np.ndarray, covariance: np.ndarray, seconds: float, disturbance: float, measured: float, variance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Predict and correct position and velocity of one quantity with matrices."""
    transition = np.array([[1, seconds], [0, 1]])
    added = disturbance * np.array([[seconds**3 / 3, seconds**2 / 2], [seconds**2 / 2, seconds]])
    mean, covariance = transition @ mean, transition @ covariance @ transition.T + added
    observed = np.array([[1.0, 0.0]])
    total = observed @ covariance @ observed.T + variance
    gain = covariance @ observed.T / total
    mean = mean + (gain * (measured - mean[0])).ravel()
    return mean, (np.eye(2) - gain @ observed) @ covariance


def test_it_is_the_kalman_filter() -> None:
    state = motion.begin(BOX, NOISE)
    mean = np.array([120.0, 0.0])
    covariance = np.diag([(NOISE.box * 60) ** 2, (NOISE.speed * 60) ** 2])
    for seconds, shift in ((0.1, 4.0), (0.3, 9.0), (0.05, 10.0)):
        height = state.values[0, 3]
        disturbance = (NOISE.acceleration * height) ** 2
        mean, covariance = textbook_step(mean, covariance, seconds, disturbance, 120.0 + shift, (NOISE.box * 60) ** 2)
        state = state.after(seconds, NOISE).corrected(BOX + [[shift, 0, shift, 0]], NOISE)
        assert state.values[0, 0] == pytest.approx(mean[0]) and state.rates[0, 0] == pytest.approx(mean[1])
        assert state.variances[0, 0] == pytest.approx(covariance[0, 0])
        assert state.covariances[0, 0] == pytest.approx(covariance[0, 1])
        assert state.rate_variances[0, 0] == pytest.approx(covariance[1, 1])


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_two_steps_are_one_of_their_sum(first_s: float, second_s: float) -> None:
    state = motion.begin(BOX, NOISE).after(0.1, NOISE).corrected(BOX + [[3, 1, 3, 1]], NOISE)
    steady = NOISE.__class__(acceleration=0.0, aspect_rate=0.0)  # noise follows the height, which grows meanwhile
    once, twice = state.after(first_s + second_s, steady), state.after(first_s, steady).after(second_s, steady)
    assert np.allclose(once.boxes_xyxy_px, twice.boxes_xyxy_px) and np.allclose(once.variances, twice.variances)


def test_it_follows_a_box_that_moves_and_grows() -> None:
    state = motion.begin(BOX, NOISE)
    for number in range(1, 15):
        box = BOX + number * np.array([[4.0, 2.0, 6.0, 5.0]])
        state = state.after(1 / 30, NOISE).corrected(box, NOISE)
    expected = BOX + 20 * np.array([[4.0, 2.0, 6.0, 5.0]])
    assert np.abs(state.after(6 / 30, NOISE).boxes_xyxy_px - expected).max() < 8
    size = state.keeping_size().after(6 / 30, NOISE).values[0, 3]
    assert size == pytest.approx(state.values[0, 3])


def test_a_shrinking_box_keeps_a_size() -> None:
    state = motion.begin(BOX, NOISE)
    for number in range(1, 6):
        state = state.after(0.1, NOISE).corrected(BOX + number * np.array([[2.0, 5.0, -2.0, -5.0]]), NOISE)
    left, top, right, bottom = state.after(10.0, NOISE).boxes_xyxy_px[0]
    assert right > left and bottom > top


def test_rows_and_joined() -> None:
    both = motion.begin(np.concatenate([BOX, BOX + 10]), NOISE)
    assert np.array_equal(both.rows([1, 0]).values, both.rows([1]).joined(both.rows([0])).values)
    assert both.boxes_xyxy_px == pytest.approx(np.concatenate([BOX, BOX + 10]))
