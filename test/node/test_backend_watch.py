"""A call is overdue when it was seen to take so long; time that nobody saw pass does not count."""

from __future__ import annotations

from lisard_ros.node.backend_watch import LONGEST_STEP_S, BackendWatch


def test_a_call_is_overdue_after_its_deadline_and_forgotten_when_it_returns() -> None:
    watch = BackendWatch()
    assert watch.overdue(1.0, 100.0) == ()
    with watch.call(()):
        assert watch.overdue(1.0, 100.5) == (), "seen for the first time"
        assert watch.overdue(1.0, 101.0) == ()
        (call,) = watch.overdue(1.0, 101.5)
        assert call.images == () and watch.under_way() == (call,)
    assert watch.overdue(1.0, 102.0) == () and watch.under_way() == ()


def test_a_process_that_was_stopped_has_not_waited_for_its_backend() -> None:
    watch = BackendWatch()
    with watch.call(()):
        watch.overdue(10.0, 0.0)
        assert watch.overdue(10.0, 1000.0) == ()
        assert watch.overdue(10.0, 1001.0) == ()
        (call,) = watch.under_way()
        assert call.waited_s == LONGEST_STEP_S + 1.0


def test_every_thread_has_its_own_call_and_each_call_its_own_time() -> None:
    watch = BackendWatch()
    with watch.call(()):
        watch.overdue(2.0, 0.0)
        watch.overdue(2.0, 1.0)
    with watch.call(()):
        assert watch.overdue(2.0, 2.0) == () and watch.overdue(2.0, 3.0) == ()
