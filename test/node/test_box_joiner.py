"""Joining frames and boxes by stamp: every frame comes out once, matched or given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.frames import Region
from lisard_ros.node.box_joiner import BOXES_KEPT, BoxJoiner

BOX = Region((0.0, 0.0, 2.0, 2.0))


def key(stamp: int) -> tuple[str, int]:
    return ("", stamp)


def joiner(frames: int = 3, wait_s: float = 1.0) -> BoxJoiner[int]:
    return BoxJoiner(frames, wait_s)


def test_whichever_comes_first_waits() -> None:
    join = joiner()
    assert join.frame(key(1), 1, 0.0) is None
    match = join.boxes(key(1), [BOX], 0.1)
    assert match is not None and match.frame == 1 and match.regions == (BOX,)
    assert join.boxes(key(2), [], 0.2) is None
    early = join.frame(key(2), 2, 0.3)
    assert early is not None and early.regions == ()
    assert join.take_given_up() == ()


def test_frames_are_given_up_by_number_and_by_time() -> None:
    join = joiner()
    for stamp in range(5):
        join.frame(key(stamp), stamp, 0.0)
    assert join.take_given_up() == (0, 1)
    join.expire(1.5)
    assert join.take_given_up() == (2, 3, 4)
    assert join.take_given_up() == ()


def test_boxes_are_bounded_and_counted() -> None:
    join = joiner()
    for stamp in range(BOXES_KEPT + 5):
        join.boxes(key(stamp), [BOX], 0.0)
    assert join.boxes_given_up == 5
    join.close()
    assert join.boxes_given_up == BOXES_KEPT + 5


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=80))
def test_every_frame_comes_out_exactly_once(events: list[tuple[bool, int]]) -> None:
    join, matched, offered = joiner(), [], 0
    for number, (is_frame, stamp) in enumerate(events):
        if is_frame:
            offered += 1
            match = join.frame(key(stamp), number, number / 10)
        else:
            match = join.boxes(key(stamp), [BOX], number / 10)
        if match is not None:
            matched.append(match.frame)
    join.close()
    lost = list(join.take_given_up())
    assert len(matched) + len(lost) == offered and len(set(matched + lost)) == offered
