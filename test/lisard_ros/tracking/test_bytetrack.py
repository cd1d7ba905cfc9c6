"""Tracks of ByteTrack: when ids begin and end, which boxes a track takes, and what must hold for any boxes."""

from __future__ import annotations

import random as python_random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.frames import Detection, Hypothesis
from lisard_ros.tracking.bytetrack import ByteTrack, ByteTrackSettings

S = 10**9
STEP = S // 30


def box(left: float, top: float = 100, side: float = 40, score: float = 0.8, label: str = "stop") -> Detection:
    """A square box."""
    return Detection((left, top, left + side, top + side), (Hypothesis(label, 0, score),))


def ids(items: Sequence[Detection]) -> list[str]:
    """Ids in order."""
    return [item.id for item in items]


def run(tracker: ByteTrack, *frames: Sequence[Detection], start: int = S, step: int = STEP) -> list[list[str]]:
    """Ids of the reported boxes of each frame."""
    return [ids(tracker.update(items, (), start + n * step).reported) for n, items in enumerate(frames)]


def test_an_object_gets_its_id_with_its_second_box_and_keeps_it() -> None:
    assert run(ByteTrack(), *[[box(10 + 3 * n)] for n in range(5)]) == [[""], ["1"], ["1"], ["1"], ["1"]]


def test_ids_follow_the_objects_not_their_places_in_the_answer() -> None:
    left, right = box(10), box(300)
    assert run(ByteTrack(), [left, right], [left, right], [right, left], [right]) == [
        ["", ""],
        ["1", "2"],
        ["2", "1"],
        ["2"],
    ]


def test_a_box_that_is_seen_once_never_gets_an_id() -> None:
    tracker = ByteTrack()
    assert run(tracker, [box(10)], [], [box(10)], [box(10)]) == [[""], [], [""], ["1"]]


def test_an_object_returns_under_its_id_within_a_second_and_as_a_new_one_later() -> None:
    tracker = ByteTrack()
    run(tracker, [box(10)], [box(10)])
    assert ids(tracker.update([box(10)], (), S + 29 * STEP).reported) == ["1"]
    assert ids(tracker.update([box(10)], (), 4 * S).reported) == [""]
    assert ids(tracker.update([box(10)], (), 4 * S + STEP).reported) == ["2"], "ids are not used again"


def test_a_moving_object_is_found_behind_a_gap_by_its_velocity() -> None:
    tracker = ByteTrack()
    run(tracker, *[[box(10 + 5 * n)] for n in range(10)])
    assert ids(tracker.update([box(10 + 5 * 24)], (), S + 24 * STEP).reported) == ["1"], "70 px on, 40 px wide"


def test_lost_frames_change_nothing() -> None:
    """Time comes from the stamps: of every third frame, a velocity in pixels per frame would be three times too low."""
    tracker = ByteTrack()
    every_third = [[box(10 + 9 * n)] for n in range(8)]
    assert run(tracker, *every_third, step=3 * STEP)[-1] == ["1"]
    assert ids(tracker.update([box(10 + 9 * 7 + 3 * 6)], (), S + 7 * 3 * STEP + 6 * STEP).reported) == ["1"]


def test_a_faint_box_continues_a_track_and_begins_none() -> None:
    tracker = ByteTrack()
    run(tracker, [box(10)], [box(10)])
    answer = tracker.update([], [box(11, score=0.2), box(300, score=0.3)], S + 2 * STEP)
    assert ids(answer.recovered) == ["1"] and answer.recovered[0].box_xyxy_px == box(11).box_xyxy_px
    assert not tracker.update([], [box(300, score=0.3)], S + 3 * STEP).recovered
    assert ids(tracker.update([box(12)], (), S + 4 * STEP).reported) == ["1"]


def test_a_faint_box_is_no_end_of_a_gap() -> None:
    """A track that was lost comes back with a box that is reported (section 3 of the paper)."""
    tracker = ByteTrack()
    run(tracker, [box(10)], [box(10)], [])
    assert not tracker.update([], [box(10, score=0.2)], S + 3 * STEP).recovered


def test_a_reported_box_goes_before_a_faint_one() -> None:
    tracker = ByteTrack()
    run(tracker, [box(10)], [box(10)])
    answer = tracker.update([box(14)], [box(10, score=0.2)], S + 2 * STEP)
    assert ids(answer.reported) == ["1"] and not answer.recovered


def test_a_class_that_changes_keeps_the_id() -> None:
    frames = [[box(10)], [box(11)], [box(12, label="speedlimit")], [box(13)]]
    assert run(ByteTrack(), *frames) == [[""], ["1"], ["1"], ["1"]]


def test_of_two_classes_at_one_place_each_keeps_its_track() -> None:
    one, other = box(10, score=0.8), box(10, score=0.7, label="speedlimit")
    swapped = [box(10, score=0.6), box(10, score=0.9, label="speedlimit")]
    assert run(ByteTrack(), [one, other], [one, other], swapped) == [["", ""], ["1", "2"], ["1", "2"]]


def test_a_jump_back_in_time_begins_anew() -> None:
    tracker = ByteTrack()
    assert run(tracker, [box(10)], [box(10)]) == [[""], ["1"]]
    assert run(tracker, [box(10)], [box(10)], start=5) == [[""], ["2"]]


def test_two_frames_of_one_stamp_are_no_error() -> None:
    assert run(ByteTrack(), [box(10)], [box(10)], [box(10)], step=0) == [[""], ["1"], ["1"]]


def test_ids_of_another_detector_are_replaced() -> None:
    foreign = Detection((0.0, 0.0, 10.0, 10.0), (Hypothesis("stop", 0, 0.9),), "upstream_7")
    assert run(ByteTrack(), [foreign], [foreign]) == [[""], ["1"]]


@pytest.mark.parametrize(
    "corners", [(5.0, 5.0, 5.0, 9.0), (9.0, 5.0, 5.0, 9.0), (-1e300, 0.0, 1e300, 5.0), (0.0, 0.0, 1e-300, 1e-300)]
)
def test_boxes_of_no_area_or_of_any_size_are_passed_on(corners: tuple[float, float, float, float]) -> None:
    odd = Detection(corners, ())
    tracker = ByteTrack()
    answers = [tracker.update([odd, box(10)], [odd], S + n * STEP) for n in range(3)]
    assert all(answer.reported[0].box_xyxy_px == corners for answer in answers)
    assert answers[-1].reported[1].id


def test_memory_is_bounded() -> None:
    tracker = ByteTrack(ByteTrackSettings(max_tracks=20))
    draw = python_random.Random(0)
    for n in range(60):
        places = [box(draw.uniform(0, 600), draw.uniform(0, 400), 15) for _ in range(50)]
        tracker.update(places, places, S + n * STEP)
        tracker.update(places, places, S + n * STEP + 1)
        assert len(tracker._tracks) <= 20 and len(tracker._motion.values) == len(tracker._tracks)


# --- what must hold for any boxes ----------------------------------------------------------------------------------

corner = st.integers(0, 60).map(lambda n: 5.0 * n)
boxes = st.builds(
    box,
    corner,
    corner,
    st.sampled_from([10.0, 25.0, 40.0]),
    st.sampled_from([0.5, 0.7, 0.9]),
    st.sampled_from(["stop", "speedlimit"]),
)
sequences = st.lists(
    st.tuples(st.lists(boxes, max_size=6), st.lists(boxes, max_size=3), st.sampled_from([0, STEP, S // 2, 2 * S, -S])),
    max_size=12,
)


def update_all(sequence: Sequence[tuple[Sequence[Detection], Sequence[Detection], int]]) -> list[list[Detection]]:
    """All boxes of each frame after tracking, in their order."""
    tracker, stamp, frames = ByteTrack(), 10 * S, []
    for reported, faint, step in sequence:
        stamp += step
        answer = tracker.update(reported, faint, stamp)
        assert [item.box_xyxy_px for item in answer.reported] == [item.box_xyxy_px for item in reported]
        assert [item.hypotheses for item in answer.reported] == [item.hypotheses for item in reported]
        frames.append([*answer.reported, *answer.recovered])
    return frames


@given(sequences)
def test_ids_are_unique_in_a_frame_and_never_used_again(
    sequence: list[tuple[list[Detection], list[Detection], int]],
) -> None:
    frames = update_all(sequence)
    last_seen: dict[str, int] = {}
    highest = 0
    for number, items in enumerate(frames):
        named = [item.id for item in items if item.id]
        assert len(named) == len(set(named))
        for name in named:
            assert int(name) > highest or name in last_seen
            last_seen[name] = number
        highest = max([highest, *map(int, named)])
    jumps = [number for number, (_, _, step) in enumerate(sequence) if step < 0 or step > S]
    for jump in jumps:
        before = {item.id for items in frames[:jump] for item in items} - {""}
        assert not before & {item.id for items in frames[jump:] for item in items}, "no track goes on over a jump"


@given(sequences, st.randoms(use_true_random=False))
def test_the_order_of_the_boxes_decides_nothing(
    sequence: list[tuple[list[Detection], list[Detection], int]], draw: python_random.Random
) -> None:
    shuffled = [
        (draw.sample(reported, len(reported)), draw.sample(faint, len(faint)), step)
        for reported, faint, step in sequence
    ]

    def as_sets(frames: list[list[Detection]]) -> list[list[tuple[object, ...]]]:
        return [sorted((i.box_xyxy_px, i.hypotheses[0].label, i.hypotheses[0].score, i.id) for i in f) for f in frames]

    assert as_sets(update_all(sequence)) == as_sets(update_all(shuffled))


@given(sequences)
def test_the_same_boxes_give_the_same_ids(sequence: list[tuple[list[Detection], list[Detection], int]]) -> None:
    assert update_all(sequence) == update_all(sequence)
