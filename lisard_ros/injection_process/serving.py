"""What the injection process does whatever it serves: opens its own engine, keeps to its share, answers its parent."""

from __future__ import annotations

import os
import time

from lisard_ros.inference.pipeline import Pipeline, open_pipeline
from lisard_ros.injection_process.wire import Message, StartOrder, framed

# Backends whose work is done by the threads of this process, so that its processor time is what they cost.
CPU_MAKERS = ("onnxruntime", "openvino", "torch")


class Outlet:
    """The pipe to the parent."""

    def __init__(self, fd: int) -> None:
        """fd: its writing end."""
        self._fd = fd

    def send(self, message: Message) -> None:
        """Write a message; BrokenPipeError when the parent is gone."""
        left = memoryview(framed(message))
        while left:
            left = left[os.write(self._fd, left) :]


class Pacing:
    """Tells how long to sleep after some work, so that the process keeps to its share of one core's time."""

    def __init__(self, pipeline: Pipeline) -> None:
        """pipeline: what works. On a device the work is not seen here, so waiting for it counts."""
        self._on_cpu = pipeline.choice.maker in CPU_MAKERS
        self.restart()

    def restart(self) -> None:
        """Work begins now."""
        self._begin = self._clocks()

    def pause_s(self, max_share: float) -> float:
        """Return how long to sleep for the work since `restart`."""
        busy_s, elapsed_s = (now - then for now, then in zip(self._clocks(), self._begin, strict=True))
        return pause_s(busy_s, elapsed_s, max_share)

    def _clocks(self) -> tuple[float, float]:
        """Seconds of work, and of a steady clock."""
        now_s = time.monotonic()
        return time.process_time() if self._on_cpu else now_s, now_s


def pause_s(busy_s: float, elapsed_s: float, max_share: float) -> float:
    """Return how long to sleep after `busy_s` seconds of work in `elapsed_s`, so that the share stays below the most.

    Example:
        >>> pause_s(0.1, 0.1, 0.5)
        0.1
    """
    return max(0.0, busy_s / max_share - elapsed_s)


def open_engine(start: StartOrder) -> Pipeline:
    """Open the process's own instance of the model; LisardError when that fails here."""
    detector, first = None, start.detector
    if first is not None:
        detector = open_pipeline(
            first.source.bundle(),
            backend=first.maker,
            threads=start.threads,
            settings=start.answer,
            precision=first.precision,
        )
    model = start.model
    return open_pipeline(
        model.source.bundle(),
        backend=model.maker,
        threads=start.threads,
        settings=start.answer,
        detector=detector,
        precision=model.precision,
    )
