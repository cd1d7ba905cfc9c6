"""Numbers with their uncertainty, against published or computable values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.evaluation.statistics import clustered, interval_of, paired_difference, percentiles, proportion


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),  # worked example found in many texts on the Wilson score interval
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),  # the same
        (0, 20, 0.0, 0.1611),  # the same
        (1, 29, 0.0061, 0.1718),  # the same
    ],
)
def test_wilson_against_known_values(hits: int, n: int, low: float, high: float) -> None:
    found = proportion(hits, n)
    assert found.share == hits / n
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_is_symmetric(case: tuple[int, int]) -> None:
    hits, n = case
    found, mirrored = proportion(hits, n), proportion(n - hits, n)
    assert 0 <= found.low <= found.share + 1e-12 and found.share <= found.high + 1e-12 and found.high <= 1
    assert math.isclose(found.low, 1 - mirrored.high, abs_tol=1e-12)


def test_no_data_is_no_number() -> None:
    empty = proportion(0, 0)
    assert math.isnan(empty.share) and math.isnan(empty.low) and str(empty) == "no data"
    assert str(proportion(8, 10)) == "80.0 % [49.0, 94.3] n=10"


def test_percentiles() -> None:
    found = percentiles(range(101))
    assert (found.n, found.p50_ms, found.p95_ms, found.p99_ms, found.max_ms) == (101, 50, 95, 99, 100)
    assert math.isnan(percentiles([]).p50_ms)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_percentiles_are_ordered(values: list[float]) -> None:
    found = percentiles(values)
    assert min(values) <= found.p50_ms <= found.p95_ms + 1e-9 and found.p95_ms <= found.p99_ms + 1e-9
    assert found.p99_ms <= found.max_ms + 1e-9 and found.max_ms == max(values)


def test_groups_that_agree_leave_no_width() -> None:
    ours, theirs, groups = [1, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0], ["a", "a", "b", "b", "c", "c"]
    found = paired_difference(ours, theirs, groups, seed=0)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_one_group_leaves_no_width() -> None:
    found = paired_difference([1, 1, 0], [0, 1, 0], ["a"] * 3, seed=0)
    assert found.low == found.high == pytest.approx(1 / 3)


def test_images_of_one_track_count_as_one_piece_of_evidence() -> None:
    """Ten copies of each image must not make the interval narrower."""
    random = np.random.default_rng(1)
    ours, theirs = random.integers(0, 2, 30), random.integers(0, 2, 30)
    once = paired_difference(ours, theirs, [str(n) for n in range(30)], seed=2)
    copied = paired_difference(np.repeat(ours, 10), np.repeat(theirs, 10), np.repeat(range(30), 10).tolist(), seed=2)
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.1)


def test_tracks_of_one_image_have_wilsons_interval() -> None:
    hits = np.arange(40) < 30
    assert clustered(hits, range(40)) == proportion(30, 40)


def test_copies_of_each_image_say_no_more_than_the_image() -> None:
    hits = np.random.default_rng(1).integers(0, 2, 60)
    once, copied = clustered(hits, range(60)), clustered(np.repeat(hits, 10), np.repeat(range(60), 10))
    assert (copied.share, copied.n) == (once.share, 600)
    assert copied.low == pytest.approx(once.low, abs=0.003) and copied.high == pytest.approx(once.high, abs=0.003)


def test_the_interval_of_tracks_is_near_that_of_the_bootstrap() -> None:
    """Tracks of different lengths, some easy and some hard."""
    random = np.random.default_rng(5)
    groups = np.repeat(np.arange(150), random.integers(5, 15, 150))
    hits = random.random(len(groups)) < random.beta(2, 1, 150)[groups]
    found, again = clustered(hits, groups), paired_difference(hits, np.zeros_like(hits), groups.tolist(), 0, 20_000)
    assert found.low == pytest.approx(again.low, abs=0.006) and found.high == pytest.approx(again.high, abs=0.006)
    assert found.high - found.low > 2 * (proportion(found.hits, found.n).high - found.share)


def test_where_all_are_right_each_track_counts_about_once() -> None:
    found = clustered(np.ones(1330), np.repeat(range(133), 10))
    assert found.low == pytest.approx(proportion(133, 133).low, abs=0.002) and found.high == 1
    assert clustered([], []).n == 0


def test_one_mistake_more_does_not_make_a_share_much_surer() -> None:
    lows = [clustered(np.arange(1330) >= wrong, np.repeat(range(133), 10)).low for wrong in range(30)]
    assert np.diff(lows).max() < 0.001


@pytest.mark.parametrize(("tracks", "share"), [(133, 0.97), (133, 0.99), (133, 0.5), (20, 0.9), (5, 0.8), (5, 0.02)])
def test_nominal_95_percent_hold_the_truth_about_as_often(tracks: int, share: float) -> None:
    """Tracks of ten frames that are nearly all right or nearly all wrong, as frames of one sign are."""
    random = np.random.default_rng(0)
    groups = np.repeat(range(tracks), 10)
    held = 0
    for _ in range(400):
        hits = random.random(len(groups)) < random.beta(share, 1 - share, tracks)[groups]
        found = clustered(hits, groups)
        held += found.low <= share <= found.high
    assert held >= 0.93 * 400


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=60))
def test_an_interval_of_tracks_holds_the_share_and_is_no_narrower(images: list[tuple[bool, int]]) -> None:
    hits, groups = zip(*images, strict=True)
    found, independent = clustered(hits, groups), proportion(sum(hits), len(hits))
    assert found.low <= found.share <= found.high and found.low >= 0 and found.high <= 1
    assert found.high - found.low >= independent.high - independent.low - 1e-12


def test_the_bootstrap_is_near_the_normal_interval() -> None:
    random = np.random.default_rng(3)
    ours, theirs = random.integers(0, 2, 400), random.integers(0, 2, 400)
    found = paired_difference(ours, theirs, [str(n) for n in range(400)], seed=4)
    half = 1.96 * np.std(ours - theirs) / 20
    assert found.value == pytest.approx(np.mean(ours - theirs))
    assert found.low == pytest.approx(found.value - half, abs=0.01)
    assert found.high == pytest.approx(found.value + half, abs=0.01)


def test_the_same_seed_gives_the_same_interval() -> None:
    ours, theirs, groups = [1, 0, 1, 1], [0, 1, 1, 0], list("abcd")
    assert paired_difference(ours, theirs, groups, 7) == paired_difference(ours, theirs, groups, 7)
    assert paired_difference(ours, theirs, groups, 7) != paired_difference(ours, theirs, groups, 8)


def test_an_interval_leaves_out_resamples_without_a_figure() -> None:
    drawn = np.concatenate([[0.5], np.linspace(0, 1, 41), [math.nan, math.nan]])
    found = interval_of(drawn)
    assert (found.value, found.low, found.high) == (0.5, pytest.approx(0.025), pytest.approx(0.975))
    nothing = interval_of(np.array([0.5, math.nan]))
    assert nothing.value == 0.5 and math.isnan(nothing.low) and math.isnan(nothing.high)
