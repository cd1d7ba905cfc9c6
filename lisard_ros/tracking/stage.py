"""The stage that gives the boxes of an answer the ids of their tracks, for node and replay."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from lisard_ros.errors import UsageError, unknown_name
from lisard_ros.frames import Detection, Detections, Result
from lisard_ros.tracking import BYTETRACK, NONE, TRACKERS
from lisard_ros.tracking.bytetrack import ByteTrack
from lisard_ros.tracking.interface import Tracker

# A box is faint from this share of the score from which it is reported. The paper has 0.1 beside 0.6 (section 4.1), its
# code 0.1 beside 0.5; a share, because detectors differ in their thresholds.
FAINT_SHARE = 0.2


def make(name: str) -> Tracker | None:
    """Return a new tracker by its name in TRACKERS; None for `none`."""
    if name not in TRACKERS:
        raise unknown_name("tracker", name, TRACKERS)
    return ByteTrack() if name == BYTETRACK else None


def require_boxes(name: str, boxes: bool, where: str, cure: str) -> None:
    """Refuse a tracker where answers have no boxes.

    Args:
        name: The tracker's name.
        boxes: Whether answers have boxes.
        where: The parameter or option that was set.
        cure: How to get boxes.

    Raises:
        UsageError: there is nothing to track.
    """
    if name != NONE and not boxes:
        raise UsageError(where, found=f"{name} with a classifier of whole frames", expected="boxes to track", cure=cure)


@dataclass(frozen=True, slots=True)
class TrackedAnswer:
    """An answer whose boxes have ids, and the boxes that tracking adds to it."""

    result: Result
    recovered: tuple[Detection, ...]

    def joined(self, most: int) -> Result:
        """Return the answer with the added boxes at its end, `most` boxes at most."""
        items = self.result.detections.items if self.result.detections is not None else ()
        return replace(self.result, detections=Detections((*items, *self.recovered)[:most]))


def track(result: Result, tracker: Tracker) -> TrackedAnswer:
    """Give the boxes of an answer their ids; the time counts as postprocessing."""
    if result.detections is None:
        return TrackedAnswer(result, ())
    begin_s = time.perf_counter()
    tracked = tracker.update(result.detections.items, result.faint, result.frame.stamp_ns)
    times = result.times.plus(postprocess_ms=(time.perf_counter() - begin_s) * 1e3)
    return TrackedAnswer(replace(result, detections=Detections(tracked.reported), times=times), tracked.recovered)
