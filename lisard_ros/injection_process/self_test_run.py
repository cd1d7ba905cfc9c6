"""A self test in the injection process, seen from the parent: it waits for the report, and for nothing that hangs."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from lisard_ros.bundle import Bundle
from lisard_ros.errors import BackendError, LisardError, UsageError, one_line
from lisard_ros.evaluation.live_images import LiveFrame
from lisard_ros.evaluation.self_test_report import SelfTestProgress
from lisard_ros.inference.pipeline import Pipeline
from lisard_ros.injection_process.process import InjectionProcess, exited_soon
from lisard_ros.injection_process.watch import ProcessLimits, ProcessWatch
from lisard_ros.injection_process.wire import (
    SelfTestDone,
    SelfTestOrder,
    SelfTestRefused,
    SelfTestStep,
    SharedFrameHead,
    StartOrder,
)

# Between two signs of life lies a batch under one attack: some hundred gradients of 32 images, at the lowest priority.
BUSY_FACTOR = 120.0
LOOK_S = 0.1  # how soon a cancellation is noticed
CANCEL_S = 2.0  # for the process to send what it has
CANCELLED = "the self test was cancelled"


@dataclass(frozen=True, slots=True)
class Cancellation:
    """A wish to end a self test; callable from any thread. at_once: without what it has measured so far."""

    asked: threading.Event = field(default_factory=threading.Event)
    at_once: threading.Event = field(default_factory=threading.Event)

    def ask(self, *, at_once: bool = False) -> None:
        """End the test."""
        if at_once:
            self.at_once.set()
        self.asked.set()


@dataclass(frozen=True, slots=True)
class SelfTestResources:
    """What a self test may take.

    process: memory and patience. threads: of its model. max_share: of one core's time. lowest: give way to everybody
    else who wants the processor.
    """

    process: ProcessLimits = ProcessLimits()
    threads: int = 1
    max_share: float = 1.0
    lowest: bool = True


def run(
    pipeline: Pipeline,
    order: SelfTestOrder,
    resources: SelfTestResources,
    cancellation: Cancellation,
    progress: Callable[[SelfTestProgress], None],
    live: Sequence[LiveFrame] | None = None,
    surrogate: Bundle | None = None,
) -> SelfTestDone:
    """Run a self test with another instance of the pipeline's engines, and return its report and images.

    Args:
        pipeline: The deployed pipeline; its bundles are tested as they lie in memory.
        order: What is tested; its live frames and its share are filled in here.
        resources: What the process may take.
        cancellation: Ends the test: the report then has the cases that were finished.
        progress: Called in this thread.
        live: Answered frames to attack instead of the reference images.
        surrogate: A bundle whose gradients are followed, in the place of the pipeline's own.

    Raises:
        LisardError: There is no report: the test was refused or cancelled at once, or its process ended, hung or
            needed too much memory.
    """
    heads = None if live is None else tuple(SharedFrameHead.of(one.frame, one.regions) for one in live)
    filled = replace(order, live=heads, max_share=resources.max_share)
    start = replace(StartOrder.of(pipeline, surrogate), threads=resources.threads, self_test=filled)
    images = [one.frame.image for one in live or ()]
    try:
        process = InjectionProcess(start, resources.process.memory_mb, images, lowest=resources.lowest)
    except OSError as error:
        raise BackendError("the process of the self test cannot be started", found=one_line(error)) from error
    try:
        done = _attend(process, resources.process, cancellation, progress)
    finally:
        ended = process.end()
    if done is None:
        raise BackendError("the process of the self test ended before the test", found=ended)
    return done


def _attend(
    process: InjectionProcess,
    limits: ProcessLimits,
    cancellation: Cancellation,
    progress: Callable[[SelfTestProgress], None],
) -> SelfTestDone | None:
    """Take the messages of the process until its report is here; None where it ended without one."""
    watch = ProcessWatch(process, replace(limits, busy_factor=BUSY_FACTOR))
    poll = select.poll()
    poll.register(process.messages, select.POLLIN)
    given_up_s: float | None = None
    while True:
        poll.poll(LOOK_S * 1e3)
        messages = process.read()
        for message in messages or ():
            if isinstance(message, SelfTestDone):
                return message
            if isinstance(message, SelfTestRefused):
                raise LisardError(message.reason)
            if isinstance(message, SelfTestStep):
                progress(message.progress)
            watch.alive(message.pause_s if isinstance(message, SelfTestStep) else 0.0)
        if messages is None:
            exited_soon(process)
            return None
        now_s = time.monotonic()
        if cancellation.asked.is_set() and given_up_s is None:
            process.interrupt()
            given_up_s = now_s + CANCEL_S
        if cancellation.at_once.is_set() or (given_up_s is not None and now_s >= given_up_s):
            raise UsageError(CANCELLED)
        if reason := watch.judged(now_s):
            raise BackendError("the process of the self test was ended", found=reason)
