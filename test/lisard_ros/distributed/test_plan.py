"""Slices of equal time, and labels that are counted once."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.bags.evaluation_state import EvaluationState
from lisard_ros.bags.labels import LabelJoin
from lisard_ros.bags.recordings import RecordingInfo
from lisard_ros.distributed.merge import merged_joins
from lisard_ros.distributed.plan import FrameSlice, RecordingScan, SliceResult, ends_of, slices

STAMPS = st.lists(st.integers(0, 10**12), max_size=60)


@given(STAMPS, st.floats(1e-3, 1e4))
def test_slices_hold_every_frame_once_and_none_is_empty(stamps: list[int], slice_s: float) -> None:
    ends = ends_of(stamps, slice_s, whole=False)
    assert all(before < after for before, after in pairwise((0, *ends)))
    assert (ends[-1] if ends else 0) == len(stamps)
    assert ends_of(stamps, slice_s, whole=True) == ((len(stamps),) if stamps else ())


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=60).map(sorted), st.floats(0.01, 100))
def test_a_slice_of_rising_stamps_is_no_longer_than_it_may_be(stamps: list[int], slice_s: float) -> None:
    for start, stop in pairwise((0, *ends_of(stamps, slice_s, whole=False))):
        assert stamps[stop - 1] - stamps[start] < round(slice_s * 1e9) + 1


def test_slices_are_in_the_order_of_the_replay() -> None:
    info = RecordingInfo("a", "", 0, 0)
    scans = [RecordingScan(n, info, ends, Counter(), False) for n, ends in enumerate([(2, 5), (), (3,)])]
    assert slices(scans) == (FrameSlice(0, 0, 2), FrameSlice(0, 2, 5), FrameSlice(2, 0, 3))
    assert [scan.frames for scan in scans] == [5, 0, 3]


def result(recording: int, start: int, *joins: LabelJoin) -> SliceResult:
    return SliceResult(FrameSlice(recording, start, start + 1), EvaluationState(()), joins, True, (), "here")


def test_labels_without_a_frame_count_once_for_each_recording() -> None:
    first, second = LabelJoin("/a", "/l", 10.0, 3, 1, 0, 5), LabelJoin("/a", "/l", 12.0, 2, 0, 1, 4)
    other = LabelJoin("/b", "/l", 9.0, 1, 0, 0, 7)
    joins = merged_joins([result(0, 0, first, other), result(0, 1, first), result(1, 0, second)])
    assert joins == (LabelJoin("/a", "/l", 12.0, 8, 2, 1, 9), other)
