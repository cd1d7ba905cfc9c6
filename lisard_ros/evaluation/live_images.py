"""Live frames as images of a self test: what the model answers to them clean stands for the truth.

A share of these is agreement, never accuracy: nobody knows what a live frame shows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lisard_ros.bundle.manifest import TrueBox
from lisard_ros.errors import UsageError
from lisard_ros.evaluation.references import ReferenceImages, Truth
from lisard_ros.frames import Frame, Region, Result
from lisard_ros.inference.pipeline import Pipeline

BATCH = 8


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """A frame that was answered. regions: where the pipeline looked, as `Pipeline.prepare` found them."""

    frame: Frame
    regions: tuple[Region, ...]


class LiveFrameCollector:
    """Collects answered frames until there are enough; the publishing thread adds, the self test waits."""

    def __init__(self, count: int) -> None:
        """count: how many frames, 1 or more."""
        self._count = count
        self._frames: list[LiveFrame] = []
        self._full = threading.Event()

    def add(self, frame: Frame, regions: tuple[Region, ...]) -> None:
        """Take a frame if one more is wanted."""
        if self._full.is_set():
            return
        self._frames.append(LiveFrame(frame, regions))
        if len(self._frames) >= self._count:
            self._full.set()

    def wait(self, limit_s: float, cancelled: Callable[[], bool]) -> tuple[LiveFrame, ...]:
        """Return the frames once there are enough, or those that came within `limit_s`.

        Raises:
            UsageError: None came.
        """
        deadline_s = time.monotonic() + limit_s
        while not self._full.wait(0.1) and time.monotonic() < deadline_s and not cancelled():
            pass
        self._full.set()
        frames, self._frames = tuple(self._frames), []  # what is collected is large, and the worker keeps this object
        if not frames and not cancelled():
            raise UsageError(
                "no live frame for the self test",
                found=f"none within {limit_s:g} s",
                expected=f"{self._count}",
                cure="look whether the cameras publish, or set self_test.source to references",
            )
        return frames


def whole(alone: Pipeline, live: Sequence[LiveFrame]) -> ReferenceImages:
    """Return the frames as they are, for a stage that sees whole frames. alone: the pipeline of that stage."""
    return _answered(alone, [one.frame for one in live])


def looked_at(alone: Pipeline, pipeline: Pipeline, live: Sequence[LiveFrame]) -> ReferenceImages:
    """Return what the last stage looked at: the whole frames, or one image for each box that it classified.

    Args:
        alone: The pipeline of the last stage.
        pipeline: The deployed pipeline, whose crops these are.
        live: Answered frames.
    """
    images = []
    for one in live:
        for crop in pipeline.prepare([one.frame], [one.regions]).crops:
            pixels = np.ascontiguousarray(crop.pixels)
            images.append(Frame(pixels, crop.colour, one.frame.stamp_ns, one.frame.frame_id, one.frame.camera))
    return _answered(alone, images)


def _answered(alone: Pipeline, images: Sequence[Frame]) -> ReferenceImages:
    """Pair each image with its clean answer; one that has none is left out."""
    frames: list[Frame] = []
    truths: list[Truth] = []
    for start in range(0, len(images), BATCH):
        for outcome in alone.run(images[start : start + BATCH]):
            truth = _truth(outcome) if isinstance(outcome, Result) else None
            if truth is not None and isinstance(outcome, Result):
                frames.append(outcome.frame)
                truths.append(truth)
    return ReferenceImages(tuple(frames), tuple(truths))


def _truth(result: Result) -> Truth | None:
    if result.classification is not None:
        hypotheses = result.classification.hypotheses
        return hypotheses[0].index if hypotheses else None
    items = result.detections.items if result.detections is not None else ()
    return tuple(TrueBox(label=item.hypotheses[0].index, box_xyxy_px=item.box_xyxy_px) for item in items)
