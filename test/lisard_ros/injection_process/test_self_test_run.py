"""A self test in a real process: the same results as in this one, and an error whatever becomes of the process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lisard_ros.errors import BackendError, LisardError, UsageError
from lisard_ros.evaluation import self_test
from lisard_ros.evaluation.limits import DEFAULT_BLOCK_S
from lisard_ros.evaluation.live_images import LiveFrame, in_blocks
from lisard_ros.evaluation.self_test_report import SelfTestProgress, SelfTestReport
from lisard_ros.frames import Frame
from lisard_ros.inference.pipeline import Pipeline, open_pipeline
from lisard_ros.injection_process import self_test_run, watch
from lisard_ros.injection_process.process import InjectionProcess
from lisard_ros.injection_process.self_test_run import Cancellation, SelfTestResources
from lisard_ros.injection_process.watch import ProcessLimits
from lisard_ros.injection_process.wire import SelfTestOrder
from lisard_ros.reporting.self_test_album import SelfTestAlbum


def measured(
    pipeline: Pipeline,
    *suite: str,
    resources: SelfTestResources | None = None,
    cancellation: Cancellation | None = None,
    progress: Callable[[SelfTestProgress], None] = lambda _: None,
    live: list[LiveFrame] | None = None,
) -> SelfTestReport:
    order = SelfTestOrder(0, suite, 3)
    resources = resources or SelfTestResources()
    return self_test_run.run(pipeline, order, resources, cancellation or Cancellation(), progress, live).report


def test_it_finds_what_a_test_in_this_process_finds(tiny: Any) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    steps: list[SelfTestProgress] = []
    report = measured(pipeline, progress=steps.append)
    here = self_test.run(pipeline, seed=3)
    assert report == replace(here, backend=report.backend) and "threads=1" in report.backend
    assert [(step.case, step.name) for step in steps if step.done == step.images == 12] == [
        (number + 1, case.injection) for number, case in enumerate(report.cases)
    ]
    assert str(steps[0]) == "case 1 of 4 (clean), 0 of 12 images"


def test_live_frames_of_any_size_and_stride_and_both_stages(tiny: Any) -> None:
    first = tiny.armed_detector()
    both = open_pipeline(tiny.classifier(roi_classes=("red",)).path, threads=1, detector=first.path)
    images = [np.full((32 + n, 64, 3), 110 + n, np.uint8)[:, ::2] for n in range(3)]
    frames = [Frame(image, "bgr", n, "optical", "front") for n, image in enumerate(images)]
    live = [LiveFrame(frame, both.prepare([frame]).regions[0]) for frame in frames]
    suite = ("noise", "detector/noise", "detector/clean")
    report = measured(both, *suite, live=live)
    here = self_test.run(both, suite=suite, seed=3, live=in_blocks(live, DEFAULT_BLOCK_S))
    assert report == replace(here, backend=report.backend) and report.cases[0].accuracy.n > 0


def test_what_is_refused_is_refused_in_the_same_words(tiny: Any) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    with pytest.raises(UsageError) as here:
        self_test.run(pipeline, suite=["nose"])
    with pytest.raises(LisardError) as there:
        measured(pipeline, "nose")
    assert str(there.value) == str(here.value)


def test_the_images_of_the_page_cross_with_the_report(tiny: Any) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    order = SelfTestOrder(0, ("clean", "universal"), 3, examples=True)
    done = self_test_run.run(pipeline, order, SelfTestResources(), Cancellation(), print)
    album = SelfTestAlbum()
    self_test.run(pipeline, suite=order.suite, seed=3, watch=album.watch)
    assert done.examples == album.examples() and [one.injection for one in done.examples] == ["universal"]


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Send a signal to each process as soon as it is there; returns their ids."""

    def arrange(number: int) -> list[int]:
        pids: list[int] = []

        def started(*args: Any, **kwargs: Any) -> InjectionProcess:
            process = InjectionProcess(*args, **kwargs)
            pids.append(process.pid)
            os.kill(process.pid, number)
            return process

        monkeypatch.setattr(self_test_run, "InjectionProcess", started)
        return pids

    return arrange


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_crash_is_an_error_that_names_the_signal(number: int, tiny: Any, signalled: Callable[..., list[int]]) -> None:
    signalled(number)
    with pytest.raises(
        BackendError, match=f"ended before the test: found it was killed .{signal.Signals(number).name}"
    ):
        measured(tiny.pipeline(tiny.armed()))


def test_a_hang_ends_the_test_and_the_process(
    tiny: Any, signalled: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOAD_S", 1.0)
    pids = signalled(signal.SIGSTOP)
    with pytest.raises(BackendError, match="was ended: found it gave no sign of life for .* .state T"):
        measured(tiny.pipeline(tiny.armed()))
    assert not Path(f"/proc/{pids[0]}").exists()


def test_a_process_that_needs_too_much_memory_is_an_error(tiny: Any) -> None:
    small = SelfTestResources(ProcessLimits(memory_mb=64))
    with pytest.raises(BackendError, match=r"injection\.max_memory_mb"):
        measured(tiny.pipeline(tiny.armed()), resources=small)


def test_a_cancelled_test_gives_what_it_has(tiny: Any) -> None:
    cancellation = Cancellation()
    cancellation.ask()
    try:
        report = measured(tiny.pipeline(tiny.armed()), cancellation=cancellation)
    except UsageError as error:  # a loaded machine: the process did not get so far in time
        assert str(error) == self_test_run.CANCELLED
    else:
        assert report.cancelled and not report.passed and len(report.cases) < 4


def test_a_test_that_is_cancelled_at_once_waits_for_nothing(tiny: Any, signalled: Callable[..., list[int]]) -> None:
    pids, cancellation = signalled(signal.SIGSTOP), Cancellation()
    cancellation.ask(at_once=True)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UsageError, match="cancelled"):
        measured(tiny.pipeline(tiny.armed()), cancellation=cancellation)
    assert not Path(f"/proc/{pids[0]}").exists() and len(os.listdir("/proc/self/fd")) <= before


def test_a_share_and_a_higher_priority_change_no_result(tiny: Any) -> None:
    pipeline = tiny.pipeline(tiny.armed())
    resources = SelfTestResources(threads=2, max_share=0.9, lowest=False)
    report = measured(pipeline, "clean", resources=resources)
    assert report.cases == self_test.run(pipeline, suite=["clean"], seed=3).cases and "threads=2" in report.backend
