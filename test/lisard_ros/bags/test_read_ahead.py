"""Frames that are read ahead: their order, errors behind earlier frames, and an end in the middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lisard_ros.bags.read_ahead import read_ahead


def test_the_order_stays() -> None:
    assert list(read_ahead(iter(range(100)), 3)) == list(range(100)) and list(read_ahead(iter(()))) == []


def test_an_error_comes_behind_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise ValueError("damage")

    found = []
    with pytest.raises(ValueError, match="damage"):
        for item in read_ahead(items(), 2):
            found.append(item)
    assert found == [0, 1, 2, 3, 4]


def test_a_caller_that_stops_early_leaves_no_thread() -> None:
    stream = read_ahead(iter(range(1000)), 2)
    assert next(stream) == 0
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "read_ahead"]
