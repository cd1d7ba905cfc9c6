"""Reads a frame, answers an attacked copy of it for each injection, and asks for the next one."""

from __future__ import annotations

import os
import time
from dataclasses import replace

from lisard_ros.bundle.manifest import DETECTOR_PREFIX
from lisard_ros.frames import Result
from lisard_ros.inference.pipeline import Attacked
from lisard_ros.injection import AttackSources, Injection, make_staged
from lisard_ros.injection_process import wire
from lisard_ros.injection_process.serving import Outlet, Pacing, open_engine
from lisard_ros.injection_process.shared_frame import SharedFrame
from lisard_ros.injection_process.wire import CopyAnswer, FrameOrder, InjectionPlan, StartOrder


def serve(
    start: StartOrder, plan: InjectionPlan, frames: SharedFrame, orders: int, outlet: Outlet, priority: str
) -> None:
    """Answer frames until the parent closes the pipe of orders. priority: of this process, for diagnostics."""
    server = InjectionServer(start, plan, frames, outlet)
    outlet.send(wire.Ready(server.engine, priority))
    while server.answer_next(orders):
        pass


class InjectionServer:
    """Its own instance of the model, and the injections of the latest plan."""

    def __init__(self, start: StartOrder, plan: InjectionPlan, frames: SharedFrame, outlet: Outlet) -> None:
        """Open the model; LisardError when that fails here."""
        self._frames, self._outlet = frames, outlet
        self._pipeline = open_engine(start)
        surrogate = None if start.surrogate is None else start.surrogate.bundle()
        self._sources = AttackSources(surrogate, threads=start.threads)
        self._plan: InjectionPlan | None = None
        self._injections: tuple[Injection, ...] = ()
        self._pacing = Pacing(self._pipeline)
        self.engine = self._pipeline.choice.backend.description
        self._use(plan)

    def answer_next(self, orders: int) -> bool:
        """Ask for a frame, wait for it and answer its attacked copies; False when the parent closed the pipe."""
        self._outlet.send(wire.FrameRequest())
        sizes = _read(orders, wire.SIZES.size)
        if len(sizes) < wire.SIZES.size:
            return False
        order_size, pixels_size = wire.SIZES.unpack(sizes)
        self._answer(wire.decode_frame(self._frames.order(order_size, pixels_size)), order_size)
        return True

    def _answer(self, order: FrameOrder, offset: int) -> None:
        self._pacing.restart()
        frame = order.head.frame(self._frames.pixels(order.head.shape, offset))
        self._use(order.plan)
        prepared = self._pipeline.prepare([frame], [order.head.regions])
        for injection in self._injections:
            (attacked,) = self._pipeline.answer_attacked(prepared, injection)
            pause = self._pacing.pause_s(order.plan.max_share)
            self._outlet.send(_copy_answer(order.number, attacked, pause))
            time.sleep(pause)
            self._pacing.restart()

    def _use(self, plan: InjectionPlan) -> None:
        """Answer by `plan`; injections that stay go on with their random numbers."""
        last, self._plan = self._plan, plan
        if last is None or last.answer != plan.answer:
            self._pipeline = self._pipeline.with_settings(plan.answer)
        if last is None or _what(last) != _what(plan):
            first = self._pipeline.detector
            made = []
            for name in plan.names:
                attacked = first if first is not None and name.startswith(DETECTOR_PREFIX) else self._pipeline
                sources = replace(self._sources, engine=attacked.choice.backend)
                bundles = self._pipeline.bundle, None if first is None else first.bundle
                noise = plan.noise_sigma_255
                made.append(make_staged(*bundles, name, sigma_255=noise, seed=plan.seed, sources=sources))
            self._injections = tuple(made)


def _what(plan: InjectionPlan) -> tuple[object, ...]:
    return plan.names, plan.noise_sigma_255, plan.seed


def _copy_answer(number: int, attacked: Attacked, pause: float) -> CopyAnswer:
    outcome = attacked.outcome
    if attacked.no_regions:
        return CopyAnswer(number, attacked.injection, "no_regions", pause_s=pause)
    if not attacked.applied:
        return CopyAnswer(number, attacked.injection, "not_applicable", pause_s=pause)
    if not isinstance(outcome, Result):
        return CopyAnswer(number, attacked.injection, "failed", pause_s=pause, error=str(outcome.error))
    return CopyAnswer(
        number,
        attacked.injection,
        "answered",
        outcome.classification,
        outcome.detections,
        outcome.times.inject_ms,
        pause,
    )


def _read(fd: int, count: int) -> bytes:
    """Read `count` bytes of a pipe, fewer only at its end."""
    got = b""
    while len(got) < count and (piece := os.read(fd, count - len(got))):
        got += piece
    return got
