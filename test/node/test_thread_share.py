"""A batch that is alone gets all threads while they are faster; batches side by side get half of them."""

from __future__ import annotations

import threading
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


def alone() -> bool:
    return False


def crowded() -> bool:
    return True


def test_one_thread_always_gets_all() -> None:
    share = ThreadShare(1)
    assert not any(share.take_half(waiting) for waiting in (crowded, alone))
    assert share.ended()


def test_halves_come_in_pairs() -> None:
    share = ThreadShare(2)
    assert not share.take_half(alone)
    assert share.take_half(crowded) and share.take_half(alone), "the second one is why the first took half"
    share.give_back()
    share.give_back()
    assert not share.take_half(alone)
    assert (share.ended(), share.ended()) == (False, True)


def test_a_batch_alone_waits_for_the_half_that_runs_and_gets_all_threads() -> None:
    share, taken = ThreadShare(2), []
    assert share.take_half(crowded) and share.take_half(alone)
    share.give_back()
    waiting = threading.Thread(target=lambda: taken.append(share.take_half(alone)))
    waiting.start()
    assert not taken
    share.give_back()
    waiting.join(30)
    assert taken == [False]


def test_a_batch_that_waits_takes_half_when_others_come_or_the_other_half_is_given_up() -> None:
    for later in (lambda share, now: share.take_half(now, alone), lambda share, now: share.take_half(alone, now)):
        share, looks = ThreadShare(2), iter([False, False, True])
        assert share.take_half(crowded) and share.take_half(alone)
        share.give_back()
        assert later(share, lambda looks=looks: next(looks))


def test_a_partner_that_does_not_come_is_not_waited_for() -> None:
    share = ThreadShare(2)
    assert share.take_half(crowded)
    share.give_back()
    assert not share.take_half(alone)


def test_half_where_all_threads_are_slower_and_all_are_tried_again(clock: Clock) -> None:
    share = ThreadShare(2)
    infer(share, clock, 0.02, half=False)
    infer(share, clock, 0.06, half=True, images=2)  # 30 ms for each image
    assert not share.take_half(alone)
    for _ in range(10):  # another process took a core
        infer(share, clock, 0.08, half=False)
    taken = []
    for _ in range(2 * TRY_AGAIN):
        taken.append(share.take_half(alone))
        if taken[-1]:
            share.give_back()
    assert taken.count(False) == 2
    for _ in range(20):  # it is gone
        infer(share, clock, 0.02, half=False)
    assert not share.take_half(alone)
