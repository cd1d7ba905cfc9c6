"""Slices of equal time, in the order of the replay."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.bags.frame_order import FrameStart
from lisard_ros.bags.recordings import RecordingInfo
from lisard_ros.distributed.plan import FrameSlice, RecordingScan, SliceCutter, SliceTask, tasks

STAMPS = st.lists(st.integers(0, 10**12), max_size=60)


def ends_of(stamps: list[int], slice_s: float, whole: bool) -> tuple[int, ...]:
    """Of each slice the number of the frame behind it."""
    cutter = SliceCutter(slice_s, whole)
    begins = [number for number, stamp in enumerate(stamps) if cutter.begins(stamp)]
    return (*begins[1:], len(stamps)) if stamps else ()


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
    parts = [(FrameSlice(0, 0, 2), FrameSlice(0, 2, 5)), (), (FrameSlice(2, 0, 3),)]
    scans = [
        RecordingScan(n, info, tuple(SliceTask(part, FrameStart()) for part in of_one), Counter(), False, (), None)
        for n, of_one in enumerate(parts)
    ]
    assert [task.part for task in tasks(scans)] == [FrameSlice(0, 0, 2), FrameSlice(0, 2, 5), FrameSlice(2, 0, 3)]
    assert [scan.frames for scan in scans] == [5, 0, 3]
