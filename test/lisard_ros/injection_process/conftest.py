"""A real injection process and its results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lisard_ros.frames import Frame, Region
from lisard_ros.inference.pipeline import Pipeline
from lisard_ros.injection_process import supervisor
from lisard_ros.injection_process.counters import InjectionCounters, InjectionCounts
from lisard_ros.injection_process.supervisor import InjectionSupervisor
from lisard_ros.injection_process.watch import ProcessLimits
from lisard_ros.injection_process.wire import CopyAnswer, InjectionPlan

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from waiting import wait_until

sys.path.pop(0)


@dataclass
class Injecting:
    """A supervisor with its real process. context: number of the frame."""

    pipeline: Pipeline
    plan: InjectionPlan
    limits: ProcessLimits = field(default_factory=ProcessLimits)

    def __post_init__(self) -> None:
        self.counters = InjectionCounters()
        self.answers: list[tuple[int, CopyAnswer]] = []
        self.reports: list[str] = []
        self.frames = 0
        self.supervisor: InjectionSupervisor[int] = InjectionSupervisor(
            self.pipeline,
            self.plan,
            self.limits,
            self.counters,
            lambda context, answer, plan: self.answers.append((context, answer)),
            lambda kind, text: self.reports.append(text),
        )

    @property
    def counts(self) -> InjectionCounts:
        return self.counters.counts()

    @property
    def pid(self) -> int:
        """Process id of the process that runs now."""
        return int(wait_until(lambda: self.supervisor.status.state == "running" and self.supervisor.status.pid, "it"))

    def offer(self, frame: Frame, regions: tuple[Region, ...] | None = None) -> int:
        """Offer a frame as the node does, after its operational answer; return its number."""
        prepared = self.pipeline.prepare([frame], None if regions is None else [regions])
        self.frames += 1
        self.supervisor.offer(frame, prepared.regions[0], self.frames)
        return self.frames

    def settled(self) -> InjectionCounts:
        """Wait until every copy has an outcome."""
        wait_until(lambda: self.counts.pending == 0, f"the outcomes: {self.reports}")
        return self.counts

    def answers_to(self, number: int) -> dict[str, CopyAnswer]:
        return {answer.injection: answer for context, answer in self.answers if context == number}


@pytest.fixture
def injecting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Injecting]]:
    """Start supervisors, which begin again after a moment; all are stopped."""
    monkeypatch.setattr(supervisor, "FIRST_WAIT_S", 0.05)
    made: list[Injecting] = []

    def make(pipeline: Pipeline, *names: str, limits: ProcessLimits | None = None, **changes: Any) -> Injecting:
        plan = InjectionPlan(names, 16.0, 3, **{"answer": pipeline.settings, **changes})
        made.append(Injecting(pipeline, plan, limits or ProcessLimits()))
        return made[-1]

    yield make
    for one in made:
        assert one.supervisor.stop(10.0) == ()
