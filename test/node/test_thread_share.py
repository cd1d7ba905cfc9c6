"""A batch that is alone gets all threads while they are faster; batches side by side get half of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lisard_ros.inference.batching import BatchChoice
from lisard_ros.node import thread_share
from lisard_ros.node.thread_share import (
    ALL,
    HALF_ALONE,
    HALF_BESIDE,
    TRY_AGAIN,
    TRY_FOR,
    TRY_SELDOM,
    Share,
    ThreadShare,
)

SIDE_BY_SIDE = BatchChoice(1, "", side_by_side=True, rested_ms=20.0, rested_half_ms=30.0)


class Clock:
    """Seconds by hand."""

    now_s = 0.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(thread_share.time, "perf_counter", lambda: made.now_s)
    yield made


def infer(sharing: ThreadShare, clock: Clock, seconds: float, share: Share, images: int = 1) -> None:
    with sharing.timed(share, images):
        clock.now_s += seconds


def alone() -> bool:
    return False


def crowded() -> bool:
    return True


def test_one_thread_always_gets_all() -> None:
    sharing = ThreadShare(BatchChoice(1, ""))
    assert {sharing.take(waiting) for waiting in (crowded, alone)} == {ALL}


def test_halves_come_in_pairs() -> None:
    sharing = ThreadShare(SIDE_BY_SIDE)
    assert sharing.take(alone) == ALL
    assert sharing.take(crowded) == HALF_BESIDE
    assert sharing.take(alone) == HALF_BESIDE, "it is why the first took half"
    sharing.give_back()
    sharing.give_back()
    assert sharing.take(alone) == ALL


def test_a_batch_alone_waits_for_the_half_that_runs_and_gets_all_threads() -> None:
    sharing, taken = ThreadShare(SIDE_BY_SIDE), []
    assert sharing.take(crowded).half and sharing.take(alone).half
    sharing.give_back()
    waiting = threading.Thread(target=lambda: taken.append(sharing.take(alone)))
    waiting.start()
    assert not taken
    sharing.give_back()
    waiting.join(30)
    assert taken == [ALL]


def test_a_batch_that_waits_takes_half_when_others_come_or_the_other_half_is_given_up() -> None:
    for later in (lambda sharing, now: sharing.take(now, alone), lambda sharing, now: sharing.take(alone, now)):
        sharing, looks = ThreadShare(SIDE_BY_SIDE), iter([False, False, True])
        assert sharing.take(crowded).half and sharing.take(alone).half
        sharing.give_back()
        assert later(sharing, lambda looks=looks: next(looks)) == HALF_BESIDE


def test_a_partner_that_does_not_come_is_not_waited_for() -> None:
    sharing = ThreadShare(SIDE_BY_SIDE)
    assert sharing.take(crowded).half
    sharing.give_back()
    assert sharing.take(alone) == ALL


def halves_alone(sharing: ThreadShare, batches: int, clock: Clock, interval_s: float = 1.0) -> int:
    """How many of `batches`, one after the other, get half of the threads."""
    halves = 0
    for _ in range(batches):
        clock.now_s += interval_s
        if sharing.take(alone).half:
            sharing.give_back()
            halves += 1
    return halves


def test_half_where_all_threads_are_slower_and_all_are_tried_again(clock: Clock) -> None:
    sharing = ThreadShare(SIDE_BY_SIDE)
    infer(sharing, clock, 0.06, HALF_ALONE, images=2)  # 30 ms for each image
    assert sharing.take(alone) == ALL
    for _ in range(20):  # another process took a core
        infer(sharing, clock, 0.08, ALL)
    assert halves_alone(sharing, TRY_AGAIN + TRY_FOR, clock) == TRY_AGAIN
    assert halves_alone(sharing, 2 * TRY_AGAIN + TRY_FOR, clock) == 2 * TRY_AGAIN, "rarer now"
    for _ in range(40):  # it is gone
        infer(sharing, clock, 0.02, ALL)
    assert sharing.take(alone) == ALL


def test_one_very_late_answer_does_not_take_the_threads_away(clock: Clock) -> None:
    sharing = ThreadShare(SIDE_BY_SIDE)
    infer(sharing, clock, 5.0, ALL)  # the process was stopped
    assert sharing.take(alone) == ALL


def test_all_threads_that_wake_up_late_after_a_long_sleep_are_found_faster_again(clock: Clock) -> None:
    """The first of them takes as long as half of the threads do, those right after it take half as long."""
    sharing = ThreadShare(BatchChoice(1, "", side_by_side=True, rested_ms=18.0, rested_half_ms=17.0))
    before_half = True
    for _ in range(4 * TRY_AGAIN):
        clock.now_s += 1.0
        share = sharing.take(alone)
        infer(sharing, clock, 0.017 if share.half else 0.018 if before_half else 0.009, share)
        before_half = share.half
        if share.half:
            sharing.give_back()
    assert sharing.take(alone) == ALL


def test_all_threads_are_tried_too_where_half_of_them_always_run_already(clock: Clock) -> None:
    """Without it the network would keep two halves busy for ever after one bad second."""
    sharing = ThreadShare(BatchChoice(1, "", side_by_side=True, rested_ms=18.0, rested_half_ms=17.0))
    assert sharing.take(alone) == HALF_ALONE
    for _ in range(TRY_AGAIN - 1):
        clock.now_s += 1.0
        assert sharing.take(alone) == HALF_BESIDE
        sharing.give_back()

    def ends_now() -> bool:
        sharing.give_back()
        return False

    assert sharing.take(alone, given_up=ends_now) == ALL


def test_batches_that_come_as_fast_as_all_threads_answer_get_half_until_they_come_slower(clock: Clock) -> None:
    sharing = ThreadShare(SIDE_BY_SIDE)
    assert halves_alone(sharing, 100, clock, 0.040) == 0
    halves_alone(sharing, 100, clock, 0.021)
    assert halves_alone(sharing, 100, clock, 0.021) == 100
    halves_alone(sharing, 100, clock, 0.040)
    assert halves_alone(sharing, 100, clock, 0.040) == 0


def test_times_of_a_busy_network_do_not_count(clock: Clock) -> None:
    sharing = ThreadShare(SIDE_BY_SIDE)
    halves_alone(sharing, 200, clock, 0.021)
    for _ in range(100):
        infer(sharing, clock, 0.06, ALL)
    halves_alone(sharing, 100, clock)
    assert sharing.take(alone) == ALL


def test_tries_stay_below_one_in_a_hundred_in_the_long_run(clock: Clock) -> None:
    late = ThreadShare(BatchChoice(1, "", side_by_side=True, rested_ms=11.0, rested_half_ms=7.7))
    halves_alone(late, 10 * TRY_SELDOM, clock)
    assert 10 * TRY_SELDOM - halves_alone(late, 10 * TRY_SELDOM, clock) < TRY_SELDOM / 10


@pytest.mark.parametrize(("half_ms", "tried"), [(25.0, TRY_FOR), (35.0, 0)])
def test_half_is_tried_again_unless_it_is_much_slower(half_ms: float, tried: int, clock: Clock) -> None:
    sharing = ThreadShare(BatchChoice(1, "", side_by_side=True, rested_ms=20.0, rested_half_ms=half_ms))
    assert halves_alone(sharing, 2 * TRY_AGAIN, clock) == tried


def test_threads_that_wake_up_late_now_and_then_count_for_more_than_their_mean(clock: Clock) -> None:
    """As in a virtual machine: mostly 1.3 ms on all threads, 6 ms in each sixth run; 2.1 ms on half of them."""
    sharing = ThreadShare(BatchChoice(1, "", side_by_side=True, rested_ms=1.3, rested_half_ms=2.1))
    for run in range(60):
        infer(sharing, clock, 0.006 if run % 6 == 0 else 0.0013, ALL)
        infer(sharing, clock, 0.0021, HALF_ALONE)
    assert halves_alone(sharing, 10, clock) >= 9


def test_the_time_beside_another_batch_does_not_count(clock: Clock) -> None:
    late = BatchChoice(1, "", side_by_side=True, rested_ms=11.0, rested_half_ms=7.7)
    sharing = ThreadShare(late)
    for _ in range(TRY_AGAIN // 2 - 5):
        clock.now_s += 1.0
        assert sharing.take(alone) == HALF_ALONE
        with sharing.timed(HALF_ALONE, 1):
            beside = sharing.take(alone)
            infer(sharing, clock, 0.05, beside)
        sharing.give_back()
        sharing.give_back()
    assert halves_alone(sharing, 10, clock) == 10


def test_the_times_after_a_rest_decide_until_batches_are_timed(clock: Clock) -> None:
    assert ThreadShare(SIDE_BY_SIDE).take(alone) == ALL
    late = BatchChoice(1, "", side_by_side=True, rested_ms=11.0, rested_half_ms=7.7)
    assert halves_alone(ThreadShare(late), 10, clock) >= 9
