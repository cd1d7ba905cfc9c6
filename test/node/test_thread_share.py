"""A batch that is alone gets all threads while they are faster; batches side by side get half of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lisard_ros.inference.batching import BatchChoice
from lisard_ros.node import thread_share
from lisard_ros.node.thread_share import ALL, HALF_ALONE, HALF_BESIDE, TRY_AGAIN, Share, ThreadShare

SIDE_BY_SIDE = BatchChoice(1, "", side_by_side=True, rested_ms=20.0, rested_half_ms=30.0)


class Clock:
    """Seconds by hand."""

    now_s = 0.0


@pytest.fixture
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


def halves_alone(sharing: ThreadShare, batches: int) -> int:
    """How many of `batches`, one after the other, get half of the threads."""
    halves = 0
    for _ in range(batches):
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
    assert halves_alone(sharing, 2 * TRY_AGAIN) == 2 * TRY_AGAIN - 2
    for _ in range(40):  # it is gone
        infer(sharing, clock, 0.02, ALL)
    assert sharing.take(alone) == ALL


@pytest.mark.parametrize(("half_ms", "tried"), [(25.0, 2), (35.0, 0)])
def test_half_is_tried_again_unless_it_is_much_slower(half_ms: float, tried: int) -> None:
    sharing = ThreadShare(BatchChoice(1, "", side_by_side=True, rested_ms=20.0, rested_half_ms=half_ms))
    assert halves_alone(sharing, 2 * TRY_AGAIN) == tried


def test_threads_that_wake_up_late_now_and_then_count_for_more_than_their_mean(clock: Clock) -> None:
    """As in a virtual machine: mostly 1.3 ms on all threads, 6 ms in each sixth run; 2.1 ms on half of them."""
    sharing = ThreadShare(BatchChoice(1, "", side_by_side=True, rested_ms=1.3, rested_half_ms=2.1))
    for run in range(60):
        infer(sharing, clock, 0.006 if run % 6 == 0 else 0.0013, ALL)
        infer(sharing, clock, 0.0021, HALF_ALONE)
    assert halves_alone(sharing, 10) >= 9


def test_the_time_beside_another_batch_does_not_count(clock: Clock) -> None:
    late = BatchChoice(1, "", side_by_side=True, rested_ms=11.0, rested_half_ms=7.7)
    sharing = ThreadShare(late)
    for _ in range(TRY_AGAIN - 11):
        assert sharing.take(alone) == HALF_ALONE
        with sharing.timed(HALF_ALONE, 1):
            beside = sharing.take(alone)
            infer(sharing, clock, 0.05, beside)
        sharing.give_back()
        sharing.give_back()
    assert halves_alone(sharing, 10) == 10


def test_the_times_after_a_rest_decide_until_batches_are_timed() -> None:
    assert ThreadShare(SIDE_BY_SIDE).take(alone) == ALL
    late = BatchChoice(1, "", side_by_side=True, rested_ms=11.0, rested_half_ms=7.7)
    assert halves_alone(ThreadShare(late), 10) >= 9
