"""The thread that turns frames into answers: newest frame of every camera -> one batch -> published messages.

It never spins ROS; what came while it was busy it fetches through `refill`. Whatever goes wrong with a frame is counted
under that frame.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lisard_ros import images
from lisard_ros.errors import ImageError, LisardError, OutputError
from lisard_ros.frames import WHOLE_FRAME, Frame, Region, Result, StageTimes
from lisard_ros.inference.pipeline import Failure, Outcome, Pipeline, Prepared
from lisard_ros.injection import Injection
from lisard_ros.node.accounting import AgeGate, CameraBooks
from lisard_ros.node.outputs import Outputs
from lisard_ros.node.parameters import Settings
from lisard_ros.node.slots import NewestSlots

BAD_IMAGE, BAD_OUTPUT, BACKEND, INTERNAL = "bad_image", "bad_output", "backend", "internal"
NO_BOXES, DEACTIVATED = "no_boxes", "deactivated"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as the subscription delivered it. arrived_s: steady clock. regions: None looks at the whole frame."""

    camera: str
    message: Any
    stamp_ns: int
    arrived_s: float
    regions: tuple[Region, ...] | None


@dataclass(frozen=True, slots=True)
class Lane:
    """What belongs to one camera."""

    name: str
    books: CameraBooks
    gate: AgeGate
    outputs: Outputs


@dataclass(frozen=True, slots=True)
class _Job:
    """One decoded frame on its way through the batch."""

    lane: Lane
    arrival: Arrival
    frame: Frame
    taken_s: float
    decode_ms: float


class InjectionState:
    """The injections that are switched on; replaced as a whole by the executor thread, read by the worker."""

    def __init__(self) -> None:
        """Start without any; the counters are written by the worker alone."""
        self.active: tuple[Injection, ...] = ()
        self.answered = 0
        self.not_applicable = 0
        self.failed = 0


class Worker:
    """Runs the batch loop in its own thread between `start` and `stop`."""

    def __init__(
        self,
        pipeline: Pipeline,
        slots: NewestSlots[Arrival],
        lanes: Mapping[str, Lane],
        settings: Callable[[], Settings],
        ros_now_ns: Callable[[], int],
        injection: InjectionState,
        report: Callable[[str, str, str], None],
        refill: Callable[[], None],
    ) -> None:
        """report(camera, cause, message): told of every frame that failed. ros_now_ns: 0 while time stands still.

        refill: called after each batch; fetches what came meanwhile into the slots.
        """
        self._pipeline, self._slots, self._lanes = pipeline, slots, lanes
        self._settings, self._ros_now_ns = settings, ros_now_ns
        self._injection, self._report, self._refill = injection, report, refill
        self._thread = threading.Thread(target=self._run, name="lisard_worker", daemon=True)

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the current batch, count what nobody answers any more, and join the thread."""
        left = self._slots.close()
        self._thread.join()
        for camera in left:
            self._lanes[camera].books.failed(DEACTIVATED)

    def _run(self) -> None:
        while True:
            taken = self._slots.take_all(self._settings().batch_window_ms / 1e3, len(self._lanes))
            if taken is None:
                return
            self._guarded(self._answer_all, taken)
            self._guarded(self._refill)

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        """Run `work`; a bug must not stop the frames that come after it, so it is reported instead."""
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001  see above
            self._report("", INTERNAL, f"{type(error).__name__}: {error}")

    def _answer_all(self, taken: Mapping[str, Arrival]) -> None:
        taken_s = time.perf_counter()
        decoded = (self._decode(self._lanes[camera], arrival, taken_s) for camera, arrival in taken.items())
        jobs = [job for job in decoded if job is not None]
        if not jobs:
            return
        try:
            prepared, outcomes = self._run_model(jobs)
        except Exception as error:  # noqa: BLE001  whatever the runtime raises, each frame of the batch is accounted for
            cause = BACKEND if isinstance(error, LisardError) else INTERNAL
            for job in jobs:
                self._fail(job.lane, cause, f"{type(error).__name__}: {error}")
            return
        answered = [self._answer(job, outcome) for job, outcome in zip(jobs, outcomes, strict=True)]
        self._overlays(jobs, outcomes)
        if self._injection.active and any(answered):
            self._answer_attacked(jobs, prepared)

    def _decode(self, lane: Lane, arrival: Arrival, taken_s: float) -> _Job | None:
        if self._too_old(lane, arrival):
            lane.books.too_old()
            return None
        try:
            frame = images.to_frame(arrival.message, lane.name)
        except ImageError as error:
            self._fail(lane, BAD_IMAGE, str(error))
            return None
        except Exception as error:  # noqa: BLE001  counted and reported under this frame, the others go on
            self._fail(lane, INTERNAL, f"{type(error).__name__}: {error}")
            return None
        return _Job(lane, arrival, frame, taken_s, _ms_since(taken_s))

    def _too_old(self, lane: Lane, arrival: Arrival) -> bool:
        limit_ms = self._settings().max_age_ms
        if limit_ms <= 0.0:
            return False
        now_ns = self._ros_now_ns()
        age_ms = (now_ns - arrival.stamp_ns) / 1e6 if now_ns else 0.0
        return lane.gate.too_old(age_ms, limit_ms, time.perf_counter())

    def _run_model(self, jobs: Sequence[_Job]) -> tuple[Prepared, list[Outcome]]:
        regions = [(WHOLE_FRAME,) if job.arrival.regions is None else job.arrival.regions for job in jobs]
        prepared = self._pipeline.prepare([job.frame for job in jobs], regions)
        return prepared, self._pipeline.answer(prepared)

    def _answer(self, job: _Job, outcome: Outcome) -> bool:
        """Publish one operational answer and count it, or count why there is none."""
        if isinstance(outcome, Failure):
            cause = BAD_OUTPUT if isinstance(outcome.error, OutputError) else BACKEND
            self._fail(job.lane, cause, str(outcome.error))
            return False
        begin_s = time.perf_counter()
        try:
            job.lane.outputs.publish(outcome, job.arrival.message.header)
        except Exception as error:  # noqa: BLE001  counted and reported under this frame, the others go on
            self._fail(job.lane, INTERNAL, f"publishing failed: {error}")
            return False
        now_s = time.perf_counter()
        stages_ms = self._stages_ms(job, outcome.times, now_s)
        stages_ms["publish"] = (now_s - begin_s) * 1e3
        job.lane.books.answered(stages_ms, now_s)
        return True

    def _stages_ms(self, job: _Job, times: StageTimes, now_s: float) -> dict[str, float]:
        stages_ms = {
            "wait": (job.taken_s - job.arrival.arrived_s) * 1e3,
            "decode": job.decode_ms,
            "preprocess": times.preprocess_ms,
            "infer": times.infer_ms,
            "postprocess": times.postprocess_ms,
            "total": (now_s - job.arrival.arrived_s) * 1e3,
        }
        now_ns = self._ros_now_ns()
        if now_ns:
            stages_ms["age"] = (now_ns - job.arrival.stamp_ns) / 1e6
        return stages_ms

    def _overlays(self, jobs: Sequence[_Job], outcomes: Sequence[Outcome]) -> None:
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Result) and job.lane.outputs.overlay_wanted():
                job.lane.outputs.publish_overlay(outcome, job.arrival.message.header)

    def _answer_attacked(self, jobs: Sequence[_Job], prepared: Prepared) -> None:
        """Answer injected copies; an injection that was not made for a frame gives no answer, never a robust one."""
        injections = self._injection.active
        for injection in injections:
            group = injection.name if len(injections) > 1 else ""
            for job, attacked in zip(jobs, self._pipeline.answer_attacked(prepared, injection), strict=True):
                if not attacked.applied:
                    self._injection.not_applicable += 1
                elif isinstance(attacked.outcome, Result):
                    job.lane.outputs.publish_attacked(attacked.outcome, job.arrival.message.header, group)
                    job.lane.books.injected(attacked.outcome.times.inject_ms)
                    self._injection.answered += 1
                else:
                    self._injection.failed += 1

    def _fail(self, lane: Lane, cause: str, message: str) -> None:
        lane.books.failed(cause, message)
        self._report(lane.name, cause, message)


def _ms_since(begin_s: float) -> float:
    return (time.perf_counter() - begin_s) * 1e3
