"""Reads and decodes frames in a thread of their own while the network runs: neither holds Python's lock meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
MOST_WAITING = 4
_LOOK_S = 0.1  # how often a full queue looks whether anybody still reads


class _End(Generic[Item]):
    """The last entry: what the reading ended with, None for the end of the recording."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def read_ahead(items: Iterable[Item], most: int = MOST_WAITING) -> Iterator[Item]:
    """Yield the items in their order; up to `most` of them wait.

    An error of the reading is raised behind the items that came before it. When the caller stops early, the thread ends
    with the item that it is at.
    """
    waiting: queue.Queue[Item | _End[Item]] = queue.Queue(most)
    stopped = threading.Event()

    def put(entry: Item | _End[Item]) -> None:
        while not stopped.is_set():
            try:
                waiting.put(entry, timeout=_LOOK_S)
                return
            except queue.Full:
                continue

    def read() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
        except BaseException as error:  # raised again where the items are used
            put(_End(error))
        else:
            put(_End(None))

    thread = threading.Thread(target=read, name="read_ahead", daemon=True)
    thread.start()
    try:
        while True:
            entry = waiting.get()
            if isinstance(entry, _End):
                if entry.error is not None:
                    raise entry.error
                return
            yield entry
    finally:
        stopped.set()
        thread.join()
