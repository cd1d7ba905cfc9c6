"""Frames that are no reference images as images of a self test: of a camera, a recording or a folder.

Where nobody knows what they show, what the model answers to them clean stands for the truth. A share of these is
agreement, never accuracy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lisard_ros.bundle.manifest import TrueBox
from lisard_ros.errors import UsageError
from lisard_ros.evaluation.limits import FIGURES, LEAST_BLOCKS
from lisard_ros.evaluation.references import ReferenceImages, Truth
from lisard_ros.frames import Frame, Region, Result
from lisard_ros.inference.pipeline import Pipeline
from lisard_ros.message_fields import NS_PER_S

BATCH = 8


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """A frame to be attacked. regions: where the pipeline looks, as `Pipeline.prepare` finds them.

    truth: what the whole frame shows, where it is known. block: number of the block of evidence that it belongs to;
    None: it is one by itself.
    """

    frame: Frame
    regions: tuple[Region, ...]
    truth: Truth | None = None
    block: int | None = None


def evidence_s(metrics: Iterable[str], block_s: float) -> float:
    """Return how many seconds frames must cover, so that limits of these metrics can be judged; 0: any frames do."""
    shares = [metric for metric in metrics if metric not in FIGURES]
    return LEAST_BLOCKS * block_s if shares else 0.0


def in_blocks(live: Sequence[LiveFrame], block_s: float) -> tuple[LiveFrame, ...]:
    """Return the frames with their blocks of evidence, `block_s` seconds of all cameras; 0: each is one."""
    if not live or not block_s:
        return tuple(live)
    begin_ns, block_ns = min(one.frame.stamp_ns for one in live), max(1, round(block_s * NS_PER_S))
    return tuple(replace(one, block=(one.frame.stamp_ns - begin_ns) // block_ns) for one in live)


class FrameSpread:
    """Spreads frames evenly over a time, since those of the next moment show the same scene."""

    def __init__(self, count: int, over_s: float) -> None:
        """count: how many frames; over_s: from the first to the last one at least; 0: they are taken as they come."""
        self._interval_s, self._taken, self._first_s = over_s / max(1, count - 1), 0, 0.0

    def take(self) -> bool:
        """Return whether the frame that is here now is one of them."""
        now_s = time.monotonic()
        if not self._taken:
            self._first_s = now_s
        if now_s - self._first_s < self._taken * self._interval_s:
            return False
        self._taken += 1
        return True


class LiveFrameCollector:
    """Collects answered frames until there are enough; whoever publishes adds, the self test waits."""

    def __init__(self, count: int, over_s: float = 0.0) -> None:
        """count: how many frames, 1 or more. over_s: as `FrameSpread` takes it."""
        self._count, self._spread = count, FrameSpread(count, over_s)
        self._frames: list[LiveFrame] = []
        self._full = threading.Event()

    def add(self, frame: Frame, regions: tuple[Region, ...]) -> None:
        """Take a frame if one more is wanted."""
        if self._full.is_set() or not self._spread.take():
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
    """Return the frames as they are, for a stage that sees whole frames. alone: the pipeline of that stage.

    Where some have a truth, only these are taken.
    """
    numbered = [(one.frame, one.truth, _block(number, one)) for number, one in enumerate(live)]
    labelled = [(frame, truth, block) for frame, truth, block in numbered if truth is not None]
    if labelled:
        frames, truths, blocks = zip(*labelled, strict=True)
        return ReferenceImages(frames, truths, blocks)
    return _answered(alone, [frame for frame, _, _ in numbered], [block for _, _, block in numbered])


def looked_at(alone: Pipeline, pipeline: Pipeline, live: Sequence[LiveFrame]) -> ReferenceImages:
    """Return what the last stage looked at: the whole frames, or one image for each box that it classified.

    Args:
        alone: The pipeline of the last stage.
        pipeline: The deployed pipeline, whose crops these are.
        live: Frames, answered or to be answered.
    """
    if pipeline.detector is None and any(one.truth is not None for one in live):
        return whole(alone, live)
    images, blocks = [], []
    for number, one in enumerate(live):
        for crop in pipeline.prepare([one.frame], [one.regions]).crops:
            pixels = np.ascontiguousarray(crop.pixels)
            images.append(Frame(pixels, crop.colour, one.frame.stamp_ns, one.frame.frame_id, one.frame.camera))
            blocks.append(_block(number, one))
    return _answered(alone, images, blocks)


def _block(number: int, one: LiveFrame) -> int:
    return number if one.block is None else one.block


def _answered(alone: Pipeline, images: Sequence[Frame], blocks: Sequence[int]) -> ReferenceImages:
    """Pair each image with its clean answer; one that has none is left out."""
    frames: list[Frame] = []
    truths: list[Truth] = []
    kept: list[int] = []
    for start in range(0, len(images), BATCH):
        outcomes = alone.run(images[start : start + BATCH])
        for outcome, block in zip(outcomes, blocks[start : start + BATCH], strict=True):
            truth = _truth(outcome) if isinstance(outcome, Result) else None
            if truth is not None and isinstance(outcome, Result):
                frames.append(outcome.frame)
                truths.append(truth)
                kept.append(block)
    return ReferenceImages(tuple(frames), tuple(truths), tuple(kept), "agreement")


def _truth(result: Result) -> Truth | None:
    if result.classification is not None:
        hypotheses = result.classification.hypotheses
        return hypotheses[0].index if hypotheses else None
    items = result.detections.items if result.detections is not None else ()
    return tuple(TrueBox(label=item.hypotheses[0].index, box_xyxy_px=item.box_xyxy_px) for item in items)
