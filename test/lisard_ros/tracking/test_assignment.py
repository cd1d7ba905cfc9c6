"""The chosen pairs have the largest total that any choice has."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.tracking.assignment import assign


def best_total(benefits: np.ndarray) -> float:
    """The largest total over all choices, by trying them all."""
    gains = np.where(benefits > 0, benefits, 0.0)
    if gains.shape[0] > gains.shape[1]:
        gains = gains.T
    count, width = gains.shape
    return max(float(gains[range(count), list(choice)].sum()) for choice in permutations(range(width), count))


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.integers(1, 5).flatmap(
            lambda m: st.lists(
                st.lists(st.sampled_from([-1.0, 0.0, 0.1, 0.25, 0.5, 0.7, 0.75, 1.0]), min_size=m, max_size=m),
                min_size=n,
                max_size=n,
            )
        )
    )
)
def test_no_other_choice_is_better(table: list[list[float]]) -> None:
    benefits = np.array(table)
    pairs = assign(benefits)
    rows, columns = [row for row, _ in pairs], [column for _, column in pairs]
    assert len(set(rows)) == len(rows) and len(set(columns)) == len(columns) and rows == sorted(rows)
    assert all(benefits[pair] > 0 for pair in pairs)
    assert sum(benefits[pair] for pair in pairs) == pytest.approx(best_total(benefits))


def test_a_row_gives_way_where_the_total_gains() -> None:
    assert assign(np.array([[0.9, 0.8], [0.85, 0.0]])) == [(0, 1), (1, 0)]
    assert assign(np.array([[0.9, 0.1], [0.85, 0.0]])) == [(0, 1), (1, 0)]
    assert assign(np.array([[0.9, 0.01], [0.85, 0.0], [0.0, 0.5]])) == [(0, 0), (2, 1)]


def test_larger_tables_against_scipy() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="scipy is no requirement")
    random = np.random.default_rng(0)
    for rows, columns in ((40, 60), (60, 40), (50, 50)):
        benefits = random.uniform(-0.5, 1, (rows, columns))
        gains = np.maximum(benefits, 0)
        expected = gains[optimize.linear_sum_assignment(gains, maximize=True)].sum()
        assert sum(benefits[pair] for pair in assign(benefits)) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 2)])
def test_nothing_to_gain_gives_no_pairs(shape: tuple[int, int]) -> None:
    assert assign(np.zeros(shape)) == [] and assign(np.full(shape, np.nan)) == []
