"""A batch that is alone gets all threads while they are faster; batches side by side get half of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lisard_ros.inference.batching import BatchChoice
from lisard_ros.node import thread_share
from lisard_ros.node.thread_share import TRY_AGAIN, ThreadShare

SIDE_BY_SIDE = BatchChoice(1, "", side_by_side=True, rested_ms=20.0, rested_half_ms=30.0)


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
    share = ThreadShare(BatchChoice(1, ""))
    assert not any(share.take_half(waiting) for waiting in (crowded, alone))


def test_halves_come_in_pairs() -> None:
    share = ThreadShare(SIDE_BY_SIDE)
    assert not share.take_half(alone)
    assert share.take_half(crowded) and share.take_half(alone), "the second one is why the first took half"
    share.give_back()
    share.give_back()
    assert not share.take_half(alone)


def test_a_batch_alone_waits_for_the_half_that_runs_and_gets_all_threads() -> None:
    share, taken = ThreadShare(SIDE_BY_SIDE), []
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
        share, looks = ThreadShare(SIDE_BY_SIDE), iter([False, False, True])
        assert share.take_half(crowded) and share.take_half(alone)
        share.give_back()
        assert later(share, lambda looks=looks: next(looks))


def test_a_partner_that_does_not_come_is_not_waited_for() -> None:
    share = ThreadShare(SIDE_BY_SIDE)
    assert share.take_half(crowded)
    share.give_back()
    assert not share.take_half(alone)


def lone_halves(share: ThreadShare, batches: int) -> int:
    """How many of `batches`, one after the other, get half of the threads."""
    halves = 0
    for _ in range(batches):
        if share.take_half(alone):
            share.give_back()
            halves += 1
    return halves


def test_half_where_all_threads_are_slower_and_all_are_tried_again(clock: Clock) -> None:
    share = ThreadShare(SIDE_BY_SIDE)
    infer(share, clock, 0.06, half=True, images=2)  # 30 ms for each image
    assert not share.take_half(alone)
    for _ in range(20):  # another process took a core
        infer(share, clock, 0.08, half=False)
    assert lone_halves(share, 2 * TRY_AGAIN) == 2 * TRY_AGAIN - 2
    for _ in range(40):  # it is gone
        infer(share, clock, 0.02, half=False)
    assert not share.take_half(alone)


def test_threads_that_wake_up_late_now_and_then_count_for_more_than_their_mean(clock: Clock) -> None:
    """As in a virtual machine: mostly 1.3 ms on all threads, 6 ms in each sixth run; 2.1 ms on half of them."""
    share = ThreadShare(BatchChoice(1, "", side_by_side=True, rested_ms=1.3, rested_half_ms=2.1))
    for run in range(60):
        infer(share, clock, 0.006 if run % 6 == 0 else 0.0013, half=False)
        infer(share, clock, 0.0021, half=True)
    assert lone_halves(share, 10) >= 9


def test_the_times_after_a_rest_decide_until_batches_are_timed() -> None:
    assert not ThreadShare(SIDE_BY_SIDE).take_half(alone)
    late = BatchChoice(1, "", side_by_side=True, rested_ms=11.0, rested_half_ms=7.7)
    assert lone_halves(ThreadShare(late), 10) >= 9
