"""Notices that the injection process hangs or grows, from what the system tells about it."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from lisard_ros.injection_process import counters as causes
from lisard_ros.injection_process.process import InjectionProcess, ProcessSample

LOAD_S = 120.0  # for the model to be opened, at the lowest priority
SAMPLE_S = 0.5
# What may pass between two samples and still count in full: this process may have been stopped itself.
LONGEST_STEP_S = 2.0
SHARE_WINDOW = 20  # samples


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What the process may need.

    hang_s: seconds without a sign of life while it has work. memory_mb: MiB. busy_factor: a process that computes may
    take so much longer than one that does nothing, because an attack by queries is one long answer.
    """

    hang_s: float = 10.0
    memory_mb: int = 2048
    busy_factor: float = 12.0


class ProcessWatch:
    """Notices a process that hangs or grows. Time is counted only while the process could have gone on.

    A process that wants the processor and does not get it has not hung: it has the lowest priority.
    """

    def __init__(self, process: InjectionProcess, limits: ProcessLimits) -> None:
        """Begin with a process that has just been started, and opens its model."""
        self._process, self._limits = process, limits
        self._allowed_s: float | None = LOAD_S
        self._waited_s = 0.0
        self._sampled_s = time.monotonic()
        self._last = process.sample()
        self._history: deque[tuple[float, float]] = deque([(self._sampled_s, self._last.cpu_s)], SHARE_WINDOW)
        self.share = 0.0
        self.cause = causes.ENDED

    @property
    def resident_mb(self) -> float:
        """Memory that it holds, in MiB."""
        return self._last.resident_mb

    def works(self) -> None:
        """It has a frame now."""
        self.alive(0.0)

    def rests(self) -> None:
        """It has nothing to do."""
        self._allowed_s = None

    def alive(self, pause_s: float) -> None:
        """It gave a sign of life and sleeps for `pause_s`."""
        self._waited_s, self._allowed_s = 0.0, self._limits.hang_s + pause_s

    def judged(self, now_s: float) -> str:
        """Take a sample from time to time; return why the process must be ended, '' while it need not."""
        step_s = now_s - self._sampled_s
        if step_s < SAMPLE_S:
            return ""
        last, self._last = self._last, self._process.sample()
        self._sampled_s = now_s
        self._history.append((now_s, self._last.cpu_s))
        (first_s, first_cpu_s), (last_s, last_cpu_s) = self._history[0], self._history[-1]
        self.share = max(0.0, (last_cpu_s - first_cpu_s) / (last_s - first_s)) if last_s > first_s else 0.0
        if self._last.resident_mb > self._limits.memory_mb:
            self.cause = causes.MEMORY
            return (
                f"it used {self._last.resident_mb:.0f} MiB of memory, and may use {self._limits.memory_mb} "
                "(injection.max_memory_mb)"
            )
        self._waited_s += idle_s(last, self._last, min(step_s, LONGEST_STEP_S), self._limits.busy_factor)
        if self._allowed_s is not None and self._waited_s >= self._allowed_s:
            self.cause = causes.HUNG
            return f"it gave no sign of life for {self._waited_s:.0f} s (state {self._last.state or 'unknown'})"
        return ""


def idle_s(last: ProcessSample, now: ProcessSample, step_s: float, busy_factor: float) -> float:
    """Return how much of the time between two samples counts against a process that gave no sign of life.

    All of it for one that did nothing, a part for one that computed, nothing for one that wanted the processor and got
    none.
    """
    if now.cpu_s > last.cpu_s:
        return step_s / busy_factor
    return 0.0 if now.state == "R" else step_s
