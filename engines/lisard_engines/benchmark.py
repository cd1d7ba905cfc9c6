"""Times of a bundle's models: latency, throughput over batch sizes, where a frame's time goes, and memory.

All models are measured in turn, round by round, so that a change of the machine's load meets them all; ratios are
medians of the ratios within a round. A frame's time is that of the whole pipeline; `raw` is the runtime alone on an
input that was prepared before: the same frame's, and with a detector in front the sum of both stages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros import __version__, backends
from lisard_ros.backends import Choice
from lisard_ros.backends.onnx_runtime import OnnxRuntime
from lisard_ros.bundle import Bundle
from lisard_ros.errors import UsageError
from lisard_ros.evaluation.statistics import Percentiles, percentiles
from lisard_ros.frames import Frame
from lisard_ros.inference.pipeline import MAX_BATCH, Failure, Outcome, Pipeline, Settings
from lisard_ros.inference.preprocess import normalise, prepare

from . import machine, verification
from .machine import Machine
from .verification import ModelUnderTest

SCHEMA_VERSION = 1
WARM_UP = 5
Raw = Callable[[NDArray[np.float32]], object]
Clock = Literal["wall", "cpu"]


@dataclass(frozen=True, slots=True)
class Timer:
    """now: a clock in nanoseconds. pause_s: how long nothing is done before each timed part."""

    now: Callable[[], int]
    pause_s: float = 0.0

    def ms(self, work: Callable[[], object]) -> float:
        """Return the milliseconds that the work took."""
        if self.pause_s:
            time.sleep(self.pause_s)
        began = self.now()
        work()
        return (self.now() - began) / 1e6


# cpu: what this process used, on all its threads; for machines that others use too, and says nothing about a GPU. With
# a pause, as between a camera's frames, the scheduler seldom interrupts what is timed; CPU time of what it interrupts
# came out up to 30 % low on a virtual machine.
CLOCKS: dict[Clock, Timer] = {"wall": Timer(time.perf_counter_ns), "cpu": Timer(time.process_time_ns, 0.002)}


@dataclass(frozen=True, slots=True)
class BatchTiming:
    """The runtime alone at one batch size. ratio: this time by that of the first model, median over rounds."""

    batch: int
    latency: Percentiles
    pictures_per_s: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One model under test. The stages are those of single frames through the pipeline, always by wall clock.

    pipeline_by_raw: median over rounds of a frame's whole time / raw. memory_mib: what loading it took, with its
    detector. looks: how many images of a frame the network saw, mean over rounds; 1 unless a detector is in front.
    """

    subject: ModelUnderTest
    backend: str
    memory_mib: float
    pipeline: Percentiles
    preprocess: Percentiles
    infer: Percentiles
    postprocess: Percentiles
    pipeline_by_raw: float
    looks: float
    batches: tuple[BatchTiming, ...]


@dataclass(frozen=True, slots=True)
class BenchmarkReport:
    """A whole run: what was measured, on what, and how. detector: of the first stage; empty with one stage."""

    bundle: str
    bundle_sha256: str
    frames: str
    rounds: int
    threads: int
    machine: Machine
    measured: tuple[Measured, ...]
    made_on: str
    clock: Clock
    detector: str = ""
    detector_sha256: str = ""
    schema_version: int = SCHEMA_VERSION
    made_by: str = f"lisard_ros {__version__}"


@dataclass(frozen=True, slots=True, eq=False)
class _TimedStage:
    """One bundle on one backend. raw: the same runtime without anything around it, the same weights in the caches."""

    pipeline: Pipeline
    raw: Raw

    def input_of(self, frame: Frame) -> NDArray[np.float32]:
        return normalise(self.pipeline.prepare([frame]).x, self.pipeline.bundle.manifest.input)


@dataclass(frozen=True, slots=True, eq=False)
class _Runner:
    """stages: what a frame goes through, in order; the last one holds the others."""

    under_test: ModelUnderTest
    stages: tuple[_TimedStage, ...]
    memory_mib: float

    @property
    def pipeline(self) -> Pipeline:
        return self.stages[-1].pipeline


@dataclass(frozen=True, slots=True)
class _Round:
    """frame_raw_ms: the runtimes alone, for the very inputs of this round's frame; raw_ms: by batch size."""

    total_ms: float
    frame_raw_ms: float
    looks: int
    raw_ms: dict[int, float]
    pre_ms: float
    infer_ms: float
    post_ms: float


def measure(
    bundle: Bundle,
    models: Sequence[ModelUnderTest],
    frames: Sequence[Frame],
    what: str,
    *,
    batches: Sequence[int],
    rounds: int,
    detector: Bundle | None = None,
    clock: Clock = "wall",
    progress: Callable[[], object] = lambda: None,
) -> BenchmarkReport:
    """Measure all models in the same rounds; UsageError for impossible batches, rounds or no frame.

    detector: whose boxes `bundle` classifies; it runs on the same backend and precision.
    """
    if not models or not frames or rounds < 1 or not all(1 <= b <= MAX_BATCH for b in batches):
        raise UsageError(
            "nothing to measure",
            found=f"{len(models)} models, {len(frames)} frames, {rounds} rounds, batches {list(batches)}",
            expected=f"at least one of each, batches 1..{MAX_BATCH}",
        )
    sizes = tuple(dict.fromkeys((1, *batches)))
    cv2.setNumThreads(models[0].threads)
    runners = [_runner(bundle, under_test, detector) for under_test in models]
    spec = bundle.manifest.input
    inputs: dict[int, NDArray[np.float32]] = {}
    for size in sizes:
        images = [frames[number % len(frames)].rgb() for number in range(size)]
        inputs[size] = np.ascontiguousarray(normalise(prepare(images, spec), spec))
    timer = CLOCKS[clock]
    for runner in runners:
        for _ in range(WARM_UP):
            _round(runner, frames[0], inputs, timer)
    taken: list[list[_Round]] = [[] for _ in runners]
    for number in range(rounds):
        for place, runner in enumerate(runners):
            taken[place].append(_round(runner, frames[number % len(frames)], inputs, timer))
        progress()
    measured = tuple(_measured(runner, times, taken[0], sizes) for runner, times in zip(runners, taken, strict=True))
    for runner in runners:
        runner.pipeline.close()
    first = (detector.manifest.name, detector.sha256) if detector is not None else ()
    return BenchmarkReport(
        bundle.manifest.name,
        bundle.sha256,
        what,
        rounds,
        models[0].threads,
        machine.describe(),
        measured,
        time.strftime("%Y-%m-%d"),
        clock,
        *first,
    )


def _runner(bundle: Bundle, under_test: ModelUnderTest, detector: Bundle | None) -> _Runner:
    before = machine.resident_mib()
    backend, first = _backend(bundle, under_test), _backend(detector, under_test) if detector is not None else None
    memory = machine.resident_mib() - before
    if detector is None or first is None:
        return _Runner(under_test, (_stage(bundle, backend, None),), memory)
    front = _stage(detector, first, None)
    return _Runner(under_test, (front, _stage(bundle, backend, front.pipeline)), memory)


def _backend(bundle: Bundle, under_test: ModelUnderTest) -> backends.Backend:
    """Load the model and run it once, so that it has taken the memory that it takes."""
    model = verification.model_of(bundle, under_test)
    if under_test.backend == "onnxruntime":
        backend: backends.Backend = OnnxRuntime(bundle, under_test.threads, model)
    else:
        backend = verification.backend_of(bundle, under_test)
    spec = bundle.manifest.input
    backend.infer(np.zeros((1, 3, spec.height, spec.width), np.float32))
    return backend


def _stage(bundle: Bundle, backend: backends.Backend, detector: Pipeline | None) -> _TimedStage:
    pipeline = Pipeline(bundle, Choice(backend, "measured"), Settings(), detector)
    return _TimedStage(pipeline, backend.run_bare if isinstance(backend, OnnxRuntime) else backend.infer)


def _round(runner: _Runner, frame: Frame, inputs: dict[int, NDArray[np.float32]], timer: Timer) -> _Round:
    seen = [(stage.raw, stage.input_of(frame)) for stage in runner.stages]
    last = runner.stages[-1].raw
    raw_ms = {size: timer.ms(lambda x=x: last(x)) for size, x in inputs.items()}  # type: ignore[misc]
    frame_raw_ms = timer.ms(lambda: [raw(x) for raw, x in seen if len(x)])
    outcomes: list[Outcome] = []
    total_ms = timer.ms(lambda: outcomes.extend(runner.pipeline.run([frame])))
    outcome = outcomes[0]
    if isinstance(outcome, Failure):
        raise outcome.error
    times = outcome.times
    return _Round(
        total_ms, frame_raw_ms, len(seen[-1][1]), raw_ms, times.preprocess_ms, times.infer_ms, times.postprocess_ms
    )


def _measured(runner: _Runner, rounds: list[_Round], baseline: list[_Round], sizes: tuple[int, ...]) -> Measured:
    """Sum up a model's rounds. baseline: those of the first model."""
    batches = []
    for size in sizes:
        times = [r.raw_ms[size] for r in rounds]
        ratio = float(np.median([r.raw_ms[size] / b.raw_ms[size] for r, b in zip(rounds, baseline, strict=True)]))
        batches.append(BatchTiming(size, percentiles(times), 1e3 * size / float(np.median(times)), ratio))
    by_raw = float(np.median([r.total_ms / r.frame_raw_ms for r in rounds]))
    looks = float(np.mean([r.looks for r in rounds]))
    return Measured(
        runner.under_test,
        runner.pipeline.choice.backend.description,
        round(runner.memory_mib, 1),
        percentiles([r.total_ms for r in rounds]),
        percentiles([r.pre_ms for r in rounds]),
        percentiles([r.infer_ms for r in rounds]),
        percentiles([r.post_ms for r in rounds]),
        by_raw,
        looks,
        tuple(batches),
    )
