"""What watches a replay sees: each answer, and the frame as the attacked network saw it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from lisard_ros.bags.reader import BagFrame
from lisard_ros.evaluation.pairs import Pair
from lisard_ros.inference.pipeline import Attacked, Outcome, Pipeline, Prepared
from lisard_ros.injection import AtDetector, Injection
from lisard_ros.reporting.display import AttackedView, as_seen, attacked_view


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The answers to one frame under one condition. view: of an attacked frame, None for a clean one.

    outcome: the answer itself, or why there is none; None where the injection was not made for this frame. model:
    number of the model that answered.
    """

    item: BagFrame
    condition: str
    pairs: tuple[Pair, ...]
    view: Callable[[], AttackedView] | None = None
    outcome: Outcome | None = None
    model: int = 0


def view_of(
    pipeline: Pipeline, prepared: Prepared, injection: Injection, attacked: Attacked
) -> Callable[[], AttackedView]:
    """Shows the frame as the attacked network saw it: the whole of it, or its crops in their places."""
    frame = prepared.frames[0]

    def view() -> AttackedView:
        if isinstance(injection, AtDetector) and pipeline.detector is not None:
            clean = pipeline.detector.prepare([frame]).x[0]
            return attacked_view(frame, attacked.seen[0], clean, pipeline.detector.bundle.manifest.input)
        spec = pipeline.bundle.manifest.input
        if [crop.pixels.shape[:2] for crop in prepared.crops] == [(frame.height_px, frame.width_px)]:
            return attacked_view(frame, attacked.seen[0], prepared.x[0], spec)
        image = frame.rgb().copy()
        change = np.zeros(image.shape, np.int16)
        for crop, seen, clean in zip(prepared.crops, attacked.seen, prepared.x, strict=True):
            height, width = crop.pixels.shape[:2]
            place = (slice(crop.top_px, crop.top_px + height), slice(crop.left_px, crop.left_px + width))
            small = [as_seen(x, width, height, spec) for x in (seen, clean)]
            large = [cv2.resize(one, (width, height), interpolation=cv2.INTER_NEAREST) for one in small]
            image[place], change[place] = large[0], large[0].astype(np.int16) - large[1]
        return AttackedView(image, change)

    return view
