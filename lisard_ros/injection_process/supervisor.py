"""Keeps the injection process going beside perception, and gives it the newest frames.

One thread: it hands a frame over when the process wants one, takes its messages, and starts it again when it ended,
hung or used too much memory, each time later than before. Perception pays for the copy of a frame and for nothing else.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from lisard_ros.bundle import Bundle
from lisard_ros.errors import one_line
from lisard_ros.frames import Frame, Region
from lisard_ros.inference.pipeline import Pipeline
from lisard_ros.injection_process import counters as causes
from lisard_ros.injection_process.counters import InjectionCounters
from lisard_ros.injection_process.process import InjectionProcess, exited_soon
from lisard_ros.injection_process.watch import SAMPLE_S, ProcessLimits, ProcessWatch
from lisard_ros.injection_process.wire import (
    CopyAnswer,
    FrameOrder,
    FrameRequest,
    InjectionPlan,
    Message,
    Ready,
    SharedFrameHead,
    StartOrder,
)

STARTING, RUNNING, WAITING, GIVEN_UP, OFF = "starting", "running", "waiting to start again", "given up", "off"
MOST_STARTS = 5  # in a row, none of which lasted
LASTED_S = 60.0  # after which a process has proved itself
FIRST_WAIT_S = 1.0  # from its end to the next start; doubled each time

Context = TypeVar("Context")


@dataclass(frozen=True, slots=True)
class InjectionStatus:
    """How the injection process does.

    cause: why it last ended, '' if it never did. starts: how often it was started. failures: ends in a row. share: of
    one core's time that it used lately. engine, priority: as the process reports them.
    """

    state: str = OFF
    cause: str = ""
    starts: int = 0
    failures: int = 0
    pid: int = 0
    share: float = 0.0
    resident_mb: float = 0.0
    engine: str = ""
    priority: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Offer(Generic[Context]):
    """A frame that waits, or is being attacked. copies: how many injections it was offered for."""

    frame: Frame
    regions: tuple[Region, ...]
    context: Context
    plan: InjectionPlan

    @property
    def copies(self) -> int:
        return len(self.plan.names)


class InjectionSupervisor(Generic[Context]):
    """Runs between its making and `stop`. Context: what the caller wants back with the answers to a frame."""

    def __init__(
        self,
        pipeline: Pipeline,
        plan: InjectionPlan,
        limits: ProcessLimits,
        counters: InjectionCounters,
        publish: Callable[[Context, CopyAnswer, InjectionPlan], None],
        report: Callable[[str, str], None],
        surrogate: Bundle | None = None,
    ) -> None:
        """Start the process.

        Args:
            pipeline: Whose bundles and engines the process opens for itself.
            plan: What is injected.
            limits: What the process may need.
            counters: Where outcomes are counted.
            publish: Called in the supervisor's thread with each answer to an attacked copy.
            report: Called in any thread with a kind of news, and the news in words.
            surrogate: A bundle whose gradients are followed, in the place of the pipeline's own.
        """
        self._pipeline, self._plan, self._limits, self._counters = pipeline, plan, limits, counters
        self._surrogate = surrogate
        self._publish, self._report = publish, report
        self._lock = threading.Lock()
        self._waiting: dict[str, _Offer[Context]] = {}  # in the order in which the cameras began to wait
        self._drawn: dict[str, float] = {}
        self._wants_frame = self._stopping = False
        self._status = InjectionStatus(STARTING)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)
        self._thread = threading.Thread(target=self._run, name="lisard_injection", daemon=True)
        self._thread.start()

    @property
    def status(self) -> InjectionStatus:
        """How the process does now."""
        return self._status

    def offer(self, frame: Frame, regions: Sequence[Region], context: Context) -> None:
        """Offer a frame whose operational answer is given; it is copied only if the process takes it.

        A frame of the same camera that still waits is replaced. regions: as `Pipeline.prepare` found them.
        """
        plan = self._plan
        if plan.cameras and frame.camera not in plan.cameras:
            return
        with self._lock:
            if self._stopping or self._status.state == GIVEN_UP or not self._draws(frame.camera, plan.fraction):
                return
            offer = _Offer(frame, tuple(regions), context, plan)
            self._counters.offered(offer.copies)
            older = self._waiting.get(frame.camera)
            self._waiting[frame.camera] = offer
            wanted = self._wants_frame
        if older is not None:
            self._counters.replaced(older.copies)
        if wanted:
            self._wake()

    def use(self, plan: InjectionPlan) -> None:
        """Attack the frames after the current one by `plan`."""
        self._plan = plan

    def stop(self, limit_s: float) -> tuple[threading.Thread, ...]:
        """End the process, count what it has not answered; return the thread if it does not end within `limit_s`."""
        with self._lock:
            self._stopping = True
        self._wake()
        self._thread.join(limit_s)
        if self._thread.is_alive():
            return (self._thread,)
        os.close(self._wake_write)
        os.close(self._wake_read)
        return ()

    # --- what follows runs in the supervisor's thread -------------------------------------------------------------

    def _run(self) -> None:
        """Start the process again and again until `stop`."""
        failures = 0
        while not self._stopping:
            began_s = time.monotonic()
            try:
                cause = self._serve()
            except Exception as error:  # a bug here must not end the supervision
                cause = f"{type(error).__name__}: {one_line(error)}"
            if self._stopping:
                break
            failures = 1 if time.monotonic() - began_s >= LASTED_S else failures + 1
            given_up = failures >= MOST_STARTS
            wait_s = FIRST_WAIT_S * 2 ** (failures - 1)
            self._set(state=GIVEN_UP if given_up else WAITING, cause=cause, failures=failures, pid=0, share=0.0)
            if given_up:
                self._report("end", f"the injection process ended {failures} times in a row and is given up: {cause}")
            else:
                self._report("end", f"the injection process is started again in {wait_s:g} s: {cause}")
            self._pause(None if given_up else wait_s)
        self._give_up_waiting()
        self._set(state=OFF, pid=0, share=0.0)

    def _serve(self) -> str:
        """Run one process until it ends or must be ended; return why."""
        plan = self._plan
        start = replace(StartOrder.of(self._pipeline, self._surrogate), answer=plan.answer, plan=plan)
        self._set(state=STARTING, starts=self._status.starts + 1)
        try:
            process = InjectionProcess(start, self._limits.memory_mb)
        except OSError as error:
            return f"the system cannot start it: {one_line(error)}"
        watch = ProcessWatch(process, self._limits)
        self._set(pid=process.pid)
        served = _Served[Context](process, watch)
        try:
            return self._attend(served)
        finally:
            with self._lock:
                self._wants_frame = False
            if served.copies_left:
                self._counters.failed(causes.DEACTIVATED if self._stopping else served.cause, len(served.copies_left))

    def _attend(self, served: _Served[Context]) -> str:
        """Exchange orders and messages with one process; return why it is at its end."""
        process, watch = served.process, served.watch
        poll = select.poll()
        poll.register(process.messages, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        try:
            while not self._stopping:
                poll.poll(SAMPLE_S * 1e3)
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 1 << 12)
                messages = process.read()
                if messages is None:
                    exited_soon(process)
                    break
                for message in messages:
                    self._take(message, served)
                self._hand_over(served)
                reason = watch.judged(time.monotonic())
                self._set(share=watch.share, resident_mb=watch.resident_mb)
                if reason:
                    served.cause = watch.cause
                    process.trouble = reason
                    break
        except OSError as error:  # the pipe broke while an order was written: its end is read next
            process.trouble = process.trouble or f"no order reaches it: {one_line(error)}"
        finally:
            ended = process.end()
        return ended

    def _take(self, message: Message, served: _Served[Context]) -> None:
        served.watch.alive(message.pause_s if isinstance(message, CopyAnswer) else 0.0)
        if isinstance(message, Ready):
            self._set(state=RUNNING, engine=message.engine, priority=message.priority)
            running = f"injection runs in process {served.process.pid} ({message.priority}): {message.engine}"
            self._report("start", running)
        elif isinstance(message, FrameRequest):
            if served.copies_left:  # a copy that it forgot is one that it could not answer
                self._counters.failed(causes.INTERNAL, len(served.copies_left))
                served.copies_left.clear()
            with self._lock:
                self._wants_frame = True
            served.watch.rests()
        elif isinstance(message, CopyAnswer) and message.injection in served.copies_left:
            served.copies_left.remove(message.injection)
            self._settle(message, served)

    def _settle(self, answer: CopyAnswer, served: _Served[Context]) -> None:
        """Publish an answer and count it, or count why there is none."""
        offer = served.offer
        if answer.outcome == "answered" and offer is not None:
            try:
                self._publish(offer.context, answer, offer.plan)
            except Exception as error:  # a bug, or a middleware that is going down; counted under this copy
                self._counters.failed(causes.INTERNAL)
                text = f"an attacked answer was not published: {type(error).__name__}: {one_line(error)}"
                self._report(answer.injection, text)
                return
        elif answer.outcome == "failed":
            text = f"an attacked copy was not answered ({answer.injection}): {answer.error}"
            self._report(answer.injection, text)
        self._counters.done(answer.outcome, answer.injection)

    def _hand_over(self, served: _Served[Context]) -> None:
        """Give the process the frame of the camera that waits longest, if it wants one."""
        plan, offer = self._plan, None
        with self._lock:
            while self._wants_frame and offer is None and self._waiting:
                offer = self._waiting.pop(next(iter(self._waiting)))
                if offer.plan.names != plan.names:
                    self._counters.replaced(offer.copies)
                    offer = None
            if offer is None:
                return
            self._wants_frame = False
        offer, frame = replace(offer, plan=plan), offer.frame
        served.number += 1
        served.offer, served.copies_left = offer, list(offer.plan.names)
        served.watch.works()
        served.process.order(
            FrameOrder(served.number, SharedFrameHead.of(frame, offer.regions), offer.plan), frame.image
        )

    def _draws(self, camera: str, fraction: float) -> bool:
        """Whether this frame is one of the share of its camera; evenly spread, beginning with the first."""
        drawn = self._drawn.get(camera, 1.0 - fraction) + fraction
        chosen = drawn >= 1.0 - 1e-9
        self._drawn[camera] = drawn - 1.0 if chosen else drawn
        return chosen

    def _give_up_waiting(self) -> None:
        with self._lock:
            left, self._waiting = tuple(self._waiting.values()), {}
        for offer in left:
            self._counters.replaced(offer.copies)

    def _pause(self, seconds: float | None) -> None:
        """Wait; None: until `stop`. Frames of before are not attacked after it."""
        deadline_s = None if seconds is None else time.monotonic() + seconds
        if seconds is None:
            self._give_up_waiting()
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        while not self._stopping and (deadline_s is None or time.monotonic() < deadline_s):
            left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            poll.poll(None if left_s is None else left_s * 1e3)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 1 << 12)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been woken often enough
            os.write(self._wake_write, b"x")

    def _set(self, **changes: object) -> None:
        self._status = replace(self._status, **changes)  # type: ignore[arg-type]


class _Served(Generic[Context]):
    """One process and the frame that it has. cause: under which open copies are counted when it ends."""

    def __init__(self, process: InjectionProcess, watch: ProcessWatch) -> None:
        self.process, self.watch = process, watch
        self.number = 0
        self.offer: _Offer[Context] | None = None
        self.copies_left: list[str] = []
        self.cause = causes.ENDED
