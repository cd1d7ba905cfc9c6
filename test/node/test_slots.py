"""The newest-frame slots: replacement, batching over cameras, closing."""

from __future__ import annotations

import threading
import time

from lisard_ros.node.slots import NewestSlots


def test_the_newest_replaces_and_is_reported() -> None:
    slots: NewestSlots[int] = NewestSlots()
    assert slots.put("a", 1) is None
    assert slots.put("a", 2) == 1
    assert slots.put("b", 9) is None
    assert slots.take_all() == {"a": 2, "b": 9}


def test_closing_wakes_the_taker_and_gives_back_what_is_left() -> None:
    slots: NewestSlots[int] = NewestSlots()
    taken: list[object] = []
    taker = threading.Thread(target=lambda: taken.append(slots.take_all()))
    taker.start()
    assert slots.close() == {}
    taker.join(5)
    assert taken == [None]
    assert slots.put("a", 3) == 3

    full: NewestSlots[int] = NewestSlots()
    full.put("a", 1)
    assert full.close() == {"a": 1}
    assert full.take_all() is None


def test_the_window_collects_the_other_cameras() -> None:
    slots: NewestSlots[int] = NewestSlots()
    slots.put("a", 1)
    threading.Timer(0.05, slots.put, ("b", 2)).start()
    begin_s = time.monotonic()
    assert slots.take_all(window_s=5.0, cameras=2) == {"a": 1, "b": 2}
    assert time.monotonic() - begin_s < 4.0


def test_the_window_ends_when_another_camera_is_dead() -> None:
    slots: NewestSlots[int] = NewestSlots()
    slots.put("a", 1)
    assert slots.take_all(window_s=0.05, cameras=2) == {"a": 1}


def test_nothing_is_lost_between_threads() -> None:
    slots: NewestSlots[int] = NewestSlots()
    replaced: list[int] = []
    taken: list[int] = []

    def take() -> None:
        while (batch := slots.take_all()) is not None:
            taken.extend(batch.values())

    taker = threading.Thread(target=take)
    taker.start()
    for number in range(5000):
        old = slots.put("a", number)
        if old is not None:
            replaced.append(old)
    left = list(slots.close().values())
    taker.join(5)
    assert sorted(replaced + taken + left) == list(range(5000))


def test_the_taker_is_busy_until_it_rests_with_empty_slots() -> None:
    slots: NewestSlots[int] = NewestSlots()
    assert not slots.busy
    slots.put("a", 1)
    assert slots.busy
    slots.take_all()
    assert slots.busy, "at work"
    slots.put("a", 2)
    assert not slots.rest(), "something came meanwhile"
    slots.take_all()
    assert slots.rest() and not slots.busy
