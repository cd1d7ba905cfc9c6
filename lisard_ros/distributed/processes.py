"""Workers as processes of this machine. One that dies takes nothing with it: its slices are answered again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_any
from typing import Protocol

from lisard_ros.distributed.plan import ReplayJob, Task, TaskResult
from lisard_ros.distributed.work import perform
from lisard_ros.errors import DataError, LisardError

MOST_DEATHS = 3  # without a finished task in between


class TaskPool(Protocol):
    """Workers that do the tasks of a replay."""

    def results(self, job: ReplayJob, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """Yield the result of each task, in whatever order they finish.

        Raises:
            LisardError: A task cannot be done, or workers end again and again.
        """

    def close(self) -> None:
        """End the workers."""


class ProcessPool:
    """Processes of this machine."""

    def __init__(self, count: int) -> None:
        """count: how many, 1 or more. They are started with the first task."""
        self._count = count
        self._executor: ProcessPoolExecutor | None = None

    def results(self, job: ReplayJob, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """See TaskPool."""
        left, deaths = list(tasks), 0
        while left:
            executor = self._started()
            futures = {executor.submit(perform, job, task): task for task in left}
            try:
                for future in _as_they_finish(futures):
                    result = future.result()
                    if isinstance(result, LisardError):
                        raise result
                    left.remove(futures[future])
                    deaths = 0
                    yield result
            except BrokenProcessPool:
                deaths += 1
                self.close()
                if deaths >= MOST_DEATHS:
                    raise workers_die(deaths) from None

    def close(self) -> None:
        """End the processes, also those at work."""
        if self._executor is not None:
            executor, self._executor = self._executor, None
            for process in multiprocessing.active_children():
                process.terminate()
            executor.shutdown(wait=True, cancel_futures=True)

    def _started(self) -> ProcessPoolExecutor:
        if self._executor is None:
            # Spawned, not forked: the runtimes have threads of their own.
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._count, context, initializer=_follow_the_command)
        return self._executor


def _as_they_finish(
    futures: dict[Future[TaskResult | LisardError], Task],
) -> Iterator[Future[TaskResult | LisardError]]:
    """Yield finished ones; those that a death has broken come last, so that no finished one is done again."""
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        yield from sorted(done, key=lambda future: isinstance(future.exception(), BrokenProcessPool))


def workers_die(times: int) -> DataError:
    """Return the error for workers that end again and again."""
    return DataError(
        "the workers end before they have answered a slice",
        found=f"{times} times in a row",
        expected="slices that are answered",
        cure="they may need more memory than there is (dmesg names the killer): take fewer workers or shorter slices",
    )


def _follow_the_command() -> None:
    """Leave Ctrl-C to the command, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    command = multiprocessing.parent_process()
    assert command is not None  # this runs in a worker

    def end_with_it() -> None:
        wait_for_any([command.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_it, name="end_with_command", daemon=True).start()
