"""What the page is told: the answered image, drops per second, a new start, silence, readers that return."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.statuses import StatusView
from lisard_ros.watch import board as boards
from lisard_ros.watch.board import Board, sample_of
from lisard_ros.watch.views import ShownAnswer, ShownImage


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board("a node", can_act=True, steady_s=clock)


def camera(received: int = 0, name: str = "front", **counts: Any) -> StatusView:
    values = {"received": received, "rate_hz": 9.5, **counts}
    return StatusView(f"camera {name}", 0, "ok", tuple((key, str(value)) for key, value in values.items()))


def image(stamp_ns: int) -> ShownImage:
    return ShownImage(stamp_ns, 640, 480, b"jpeg")


def test_drops_are_counted_per_second_and_not_across_a_restart(board: Board, clock: Clock) -> None:
    for received, replaced in ((10, 4), (30, 14), (5, 1)):
        board.saw_statuses("/p", [camera(received, replaced=replaced)], clock.now_s)
        clock.now_s += 2.0
    (card,) = board.view()[0].cameras
    assert [sample.drops["replaced"] for sample in card.samples] == [0.0, 5.0, 0.0]


def test_the_newest_answered_image_is_shown(board: Board) -> None:
    for stamp in (1, 2, 3):
        board.saw_image("front", image(stamp))
    assert board.view()[0].cameras[0].frame.stamp_ns == "3", "nobody has answered yet"
    board.saw_answer("front", ShownAnswer(2))
    frame = board.view()[0].cameras[0].frame
    assert (frame.stamp_ns, frame.answer.stamp_ns) == ("2", 2)
    assert board.image("front", 2).jpeg == b"jpeg"
    assert board.image("front", 9) is None and board.image("rear", 2) is None


def test_a_reader_gets_each_sample_once_and_a_new_one_gets_all(board: Board, clock: Clock) -> None:
    board.saw_statuses("/p", [camera(1)], 1.0)
    _, seen = board.view()
    assert board.view(after=seen)[0].cameras[0].samples == ()
    board.saw_statuses("/p", [camera(2)], 2.0)
    assert [s.time_s for s in board.view(after=seen)[0].cameras[0].samples] == [2.0]
    assert [s.time_s for s in board.view()[0].cameras[0].samples] == [1.0, 2.0]


def test_silence_is_said_and_stops_the_buttons(board: Board, clock: Clock) -> None:
    assert "no perception node" in board.view()[0].state
    board.saw_statuses("/p", [camera(1)], 1.0)
    assert board.view()[0].can_act
    clock.now_s += boards.SILENT_S + 1
    page, _ = board.view()
    assert page.state == "/p has been silent for 6 s" and not page.alive and not page.can_act
    board.saw_statuses("/p", [camera(0)], 9.0)
    assert board.view()[0].alive, "it came back"
    board.ended("the recording has ended")
    assert board.view()[0].state == "the recording has ended"


def test_a_second_node_is_named_and_not_mixed_in(board: Board) -> None:
    board.saw_statuses("/a", [camera(1)], 1.0)
    board.saw_statuses("/b", [camera(9, "rear")], 1.0)
    page, _ = board.view()
    assert (page.node, page.others, [c.name for c in page.cameras]) == ("/a", ("/b",), ["front"])


@given(st.dictionaries(st.sampled_from(["received", "replaced", "total_p50_ms", "rate_hz"]), st.text(max_size=8)))
def test_whatever_a_node_says_a_sample_is_finite(values: dict[str, str]) -> None:
    status = StatusView("camera x", 0, "", tuple(values.items()))
    for before in (None, camera(3, replaced=1)):
        sample = sample_of(status, before, 0.0, 0.0)
        for number in (sample.rate_hz, sample.p50_ms, *sample.drops.values()):
            assert number is None or abs(number) < float("inf")
