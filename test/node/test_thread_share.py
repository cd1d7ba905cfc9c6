"""A batch that is alone gets all threads while they are faster; batches side by side get half of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lisard_ros.node import thread_share
from lisard_ros.node.thread_share import TRY_AGAIN, ThreadShare


class Clock:
    """Seconds by hand."""

    now_s = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(thread_share.time, "perf_counter", lambda: made.now_s)
    yield made


def infer(share: ThreadShare, clock: Clock, seconds: float, *, half: bool, images: int = 1) -> None:
    with share.timed(images, half=half):
        clock.now_s += seconds


def test_one_thread_always_gets_all() -> None:
    share = ThreadShare(1)
    assert not any(share.take_half(crowded=crowded) for crowded in (True, False))
    assert share.ended()


def test_half_while_something_waits_or_runs_beside() -> None:
    share = ThreadShare(2)
    assert not share.take_half(crowded=False)
    assert share.take_half(crowded=True) and share.take_half(crowded=False)
    share.give_back()
    assert share.take_half(crowded=False)
    share.give_back()
    share.give_back()
    assert not share.take_half(crowded=False)
    assert (share.ended(), share.ended()) == (False, True)


def test_half_where_all_threads_are_slower_and_all_are_tried_again(clock: Clock) -> None:
    share = ThreadShare(2)
    infer(share, clock, 0.02, half=False)
    infer(share, clock, 0.06, half=True, images=2)  # 30 ms for each image
    assert not share.take_half(crowded=False)
    for _ in range(10):  # another process took a core
        infer(share, clock, 0.08, half=False)
    taken = []
    for _ in range(2 * TRY_AGAIN):
        taken.append(share.take_half(crowded=False))
        if taken[-1]:
            share.give_back()
    assert taken.count(False) == 2
    for _ in range(20):  # it is gone
        infer(share, clock, 0.02, half=False)
    assert not share.take_half(crowded=False)
