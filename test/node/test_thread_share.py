"""A batch that is alone gets all threads while they are faster; batches side by side get half of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lisard_ros.node import thread_share
from lisard_ros.node.thread_share import PAIRS_FOR, TRY_AGAIN, ThreadShare


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


LOST = 5


def busy_share() -> ThreadShare:
    """A share of two threads that was told of lost frames once."""
    share = ThreadShare(2)
    assert not share.take_half(alone, 0)
    assert not share.take_half(alone, LOST)
    return share


def test_one_thread_always_gets_all() -> None:
    share = ThreadShare(1)
    assert not any(share.take_half(waiting, 0) for waiting in (crowded, alone))
    assert share.ended()


def test_frames_that_merely_wait_are_answered_one_after_the_other() -> None:
    share = ThreadShare(2)
    assert not any(share.take_half(crowded, LOST) for _ in range(50)), "those were lost before"
    assert not share.take_half(crowded, LOST + 1), "one is no reason"
    assert share.take_half(crowded, LOST + 3)


def test_pairs_end_some_time_after_the_last_loss() -> None:
    share, taken = busy_share(), 0
    while share.take_half(crowded, LOST):
        share.give_back()
        taken += 1
        assert taken < 3 * PAIRS_FOR
    assert taken >= PAIRS_FOR


def test_halves_come_in_pairs() -> None:
    share = busy_share()
    assert share.take_half(crowded, LOST) and share.take_half(alone, LOST), "the second one is why the first took half"
    share.give_back()
    share.give_back()
    assert not share.take_half(alone, LOST)
    assert (share.ended(), share.ended()) == (False, True)


def test_a_batch_alone_waits_for_the_half_that_runs_and_gets_all_threads() -> None:
    share, taken = busy_share(), []
    assert share.take_half(crowded, LOST) and share.take_half(alone, LOST)
    share.give_back()
    waiting = threading.Thread(target=lambda: taken.append(share.take_half(alone, LOST)))
    waiting.start()
    assert not taken
    share.give_back()
    waiting.join(30)
    assert taken == [False]


def test_a_batch_that_waits_takes_half_when_others_come_or_the_other_half_is_given_up() -> None:
    for later in (
        lambda share, now: share.take_half(now, LOST, alone),
        lambda share, now: share.take_half(alone, LOST, now),
    ):
        share, looks = busy_share(), iter([False, False, True])
        assert share.take_half(crowded, LOST) and share.take_half(alone, LOST)
        share.give_back()
        assert later(share, lambda looks=looks: next(looks))


def test_a_partner_that_does_not_come_is_not_waited_for() -> None:
    share = busy_share()
    assert share.take_half(crowded, LOST)
    share.give_back()
    assert not share.take_half(alone, LOST)


def test_half_where_all_threads_are_slower_and_all_are_tried_again(clock: Clock) -> None:
    share = ThreadShare(2)
    infer(share, clock, 0.02, half=False)
    infer(share, clock, 0.06, half=True, images=2)  # 30 ms for each image
    assert not share.take_half(alone, LOST)
    for _ in range(10):  # another process took a core
        infer(share, clock, 0.08, half=False)
    taken = []
    for _ in range(2 * TRY_AGAIN):
        taken.append(share.take_half(alone, LOST))
        if taken[-1]:
            share.give_back()
    assert taken.count(False) == 2
    for _ in range(20):  # it is gone
        infer(share, clock, 0.02, half=False)
    assert not share.take_half(alone, LOST)
