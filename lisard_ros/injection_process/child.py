"""The injection process: reads a frame, answers an attacked copy of it for each injection, and asks for the next one.

Started by `process.InjectionProcess`, never by hand.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lisard_ros.injection_process import restraint

if TYPE_CHECKING:  # imported late, see main
    from lisard_ros.inference.pipeline import Attacked, Pipeline
    from lisard_ros.injection import Injection
    from lisard_ros.injection_process.shared_frame import SharedFrame
    from lisard_ros.injection_process.wire import CopyAnswer, FrameOrder, InjectionPlan, Message, StartOrder

EXIT_TROUBLE = 3
# Backends whose work is done by the threads of this process, so that its processor time is what they cost.
CPU_MAKERS = ("onnxruntime", "openvino", "torch")


@dataclass(frozen=True, slots=True)
class Descriptors:
    """The file descriptors that the parent opened: start order, sizes of orders, shared memory, pipe for messages."""

    start: int
    orders: int
    frames: int
    messages: int


def main(parent: int, memory_mb: int, descriptors: Descriptors) -> int:
    """Serve until the parent closes the pipe; returns the exit status.

    The priority comes before the heavy imports.
    """
    priority = restraint.lower_priority()
    restraint.end_with_parent(parent)
    from lisard_ros.errors import LisardError
    from lisard_ros.injection_process import wire
    from lisard_ros.injection_process.shared_frame import SharedFrame

    restraint.limit_memory(memory_mb)
    try:
        order = wire.decode_start(_read_all(descriptors.start))
        server = InjectionServer(order, SharedFrame(descriptors.frames), descriptors.messages)
        server.send(wire.Ready(server.engine, priority))
        while server.answer_next(descriptors.orders):
            pass
    except BrokenPipeError:  # the parent has given this process up
        return 0
    except Exception as error:  # of the model, of its memory, or a bug: the parent reports it and starts it again
        reason = str(error) if isinstance(error, LisardError) else f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError) or restraint.memory_is_short():
            reason = f"out of memory, it may use {memory_mb} MiB (injection.max_memory_mb): {reason}"
        os.write(descriptors.messages, wire.framed(wire.Trouble(reason[: wire.LONGEST_REASON])))
        return EXIT_TROUBLE
    return 0


class InjectionServer:
    """Its own instance of the model, and the injections of the latest plan."""

    def __init__(self, start: StartOrder, frames: SharedFrame, messages: int) -> None:
        """Open the model with one thread; LisardError when that fails here."""
        self._frames, self._messages = frames, messages
        self._pipeline = _opened(start)
        self._plan: InjectionPlan | None = None
        self._injections: tuple[Injection, ...] = ()
        self._on_cpu = self._pipeline.choice.maker in CPU_MAKERS
        self.engine = self._pipeline.choice.backend.description
        self._use(start.plan)

    def answer_next(self, orders: int) -> bool:
        """Ask for a frame, wait for it and answer its attacked copies; False when the parent closed the pipe."""
        from lisard_ros.injection_process import wire

        self.send(wire.FrameRequest())
        sizes = _read(orders, wire.SIZES.size)
        if len(sizes) < wire.SIZES.size:
            return False
        order_size, pixels_size = wire.SIZES.unpack(sizes)
        self._answer(wire.decode_frame(self._frames.order(order_size, pixels_size)), order_size)
        return True

    def send(self, message: Message) -> None:
        """Write a message to the parent; BrokenPipeError when it is gone."""
        from lisard_ros.injection_process import wire

        left = memoryview(wire.framed(message))
        while left:
            left = left[os.write(self._messages, left) :]

    def _answer(self, order: FrameOrder, offset: int) -> None:
        from lisard_ros.frames import Frame

        begin = self._clocks()
        pixels = self._frames.pixels(order.shape, offset)
        frame = Frame(pixels, order.colour, order.stamp_ns, order.frame_id, order.camera)
        self._use(order.plan)
        prepared = self._pipeline.prepare([frame], [order.regions])
        for injection in self._injections:
            (attacked,) = self._pipeline.answer_attacked(prepared, injection)
            busy_s, elapsed_s = (now - then for now, then in zip(self._clocks(), begin, strict=True))
            pause = pause_s(busy_s, elapsed_s, order.plan.max_share)
            self.send(_copy_answer(order.number, attacked, pause))
            time.sleep(pause)
            begin = self._clocks()

    def _clocks(self) -> tuple[float, float]:
        """Seconds of work, and of a steady clock. On a device the work is not seen here, so waiting for it counts."""
        now_s = time.monotonic()
        return time.process_time() if self._on_cpu else now_s, now_s

    def _use(self, plan: InjectionPlan) -> None:
        """Answer by `plan`; injections that stay go on with their random numbers."""
        from lisard_ros.bundle.manifest import DETECTOR_PREFIX
        from lisard_ros.injection import AttackSources, make_staged

        last, self._plan = self._plan, plan
        if last is None or last.answer != plan.answer:
            self._pipeline = self._pipeline.with_settings(plan.answer)
        if last is None or _what(last) != _what(plan):
            first = self._pipeline.detector
            made = []
            for name in plan.names:
                attacked = first if first is not None and name.startswith(DETECTOR_PREFIX) else self._pipeline
                sources = AttackSources(engine=attacked.choice.backend, threads=1)
                bundles = self._pipeline.bundle, None if first is None else first.bundle
                noise = plan.noise_sigma_255
                made.append(make_staged(*bundles, name, sigma_255=noise, seed=plan.seed, sources=sources))
            self._injections = tuple(made)


def pause_s(busy_s: float, elapsed_s: float, max_share: float) -> float:
    """Return how long to sleep after `busy_s` seconds of work in `elapsed_s`, so that the share stays below the most.

    Example:
        >>> pause_s(0.1, 0.1, 0.5)
        0.1
    """
    return max(0.0, busy_s / max_share - elapsed_s)


def _what(plan: InjectionPlan) -> tuple[object, ...]:
    return plan.names, plan.noise_sigma_255, plan.seed


def _opened(start: StartOrder) -> Pipeline:
    from lisard_ros.inference.pipeline import open_pipeline

    first = start.detector
    detector = None
    if first is not None:
        detector = open_pipeline(
            first.bundle(), backend=first.maker, threads=1, settings=start.plan.answer, precision=first.precision
        )
    model = start.model
    return open_pipeline(
        model.bundle(),
        backend=model.maker,
        threads=1,
        settings=start.plan.answer,
        detector=detector,
        precision=model.precision,
    )


def _copy_answer(number: int, attacked: Attacked, pause: float) -> CopyAnswer:
    from lisard_ros.frames import Result
    from lisard_ros.injection_process.wire import CopyAnswer

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


def _read_all(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()


def _read(fd: int, count: int) -> bytes:
    """Read `count` bytes of a pipe, fewer only at its end."""
    got = b""
    while len(got) < count and (piece := os.read(fd, count - len(got))):
        got += piece
    return got
