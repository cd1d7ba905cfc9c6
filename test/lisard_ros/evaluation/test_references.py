"""Choosing among many images: evenly over all, and with labels that differ."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.evaluation import references


def test_some_of_many_are_spread_evenly() -> None:
    assert references.spread(np.arange(10), 2).tolist() == [2, 7] and references.spread(np.arange(0), 2).size == 0
    assert references.spread(np.array([3, 5, 8]), 7).tolist() == [3, 5, 8], "all where there are no more"


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_places_are_equally_far_apart(total: int, count: int) -> None:
    chosen = references.spread(np.arange(total), count)
    assert len(chosen) == min(total, count)
    assert (np.abs(np.diff(chosen) - total / min(total, count)) < 2).all()


def test_chosen_labels_differ_and_come_from_all_over() -> None:
    assert references.of_different_labels("aabbccddeeff", 2) == [0, 2]
    assert references.of_different_labels("aaaaaaaaaaab", 2) == [0, 11]
    assert references.of_different_labels("abcab", 3, used={"a"}) == [1, 2]
    assert references.of_different_labels("", 3) == []
