"""The objects that a tracker follows through a recording: of each the boxes with their times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from lisard_ros.frames import BoxXyxyPx, Detection, Result
from lisard_ros.tracking import NONE
from lisard_ros.tracking import stage as tracking
from lisard_ros.tracking.interface import Tracker


@dataclass(frozen=True, slots=True)
class TrackedBox:
    """One box of a track. recovered: its score is too low for the answer, the track alone makes it one."""

    stamp_ns: int
    box_xyxy_px: BoxXyxyPx
    label: str
    score: float
    recovered: bool


@dataclass(frozen=True, slots=True)
class Track:
    """One object of a camera in the clean answers of one model on one backend; boxes in the order of the recording.

    recording: its number; ids begin anew with each.
    """

    topic: str
    backend: str
    id: str
    boxes: tuple[TrackedBox, ...]
    recording: int = 0
    bundle: str = ""

    @property
    def label(self) -> str:
        """The class of most of its boxes."""
        return Counter(box.label for box in self.boxes).most_common(1)[0][0]

    @property
    def recovered(self) -> int:
        """How many boxes are there because of the track alone."""
        return sum(box.recovered for box in self.boxes)


class TrackRecorder:
    """Gives clean answers their ids, a tracker for each camera and recording, and keeps what each track has."""

    def __init__(self, tracker: str, backend: str, bundle: str = "") -> None:
        """tracker: a name of TRACKERS. backend, bundle: of the report."""
        self.on = tracker != NONE
        self._name, self._backend, self._bundle = tracker, backend, bundle
        self._trackers: dict[tuple[int, str], Tracker | None] = {}
        self._boxes: dict[tuple[int, str, str], list[TrackedBox]] = {}

    def follow(self, topic: str, result: Result, recording: int = 0) -> Result:
        """Return the answer to the next frame of a camera with ids; boxes that tracking adds are kept aside."""
        camera = (recording, topic)
        if camera not in self._trackers:
            self._trackers[camera] = tracking.make(self._name)
        tracker = self._trackers[camera]
        if tracker is None:
            return result
        answer = tracking.track(result, tracker)
        stamp_ns, detections = result.frame.stamp_ns, answer.result.detections
        self._keep(camera, stamp_ns, detections.items if detections is not None else (), recovered=False)
        self._keep(camera, stamp_ns, answer.recovered, recovered=True)
        return answer.result

    def tracks(self) -> tuple[Track, ...]:
        """Return all tracks, in the order in which they were named."""
        return tuple(
            Track(topic, self._backend, number, tuple(boxes), recording, self._bundle)
            for (recording, topic, number), boxes in self._boxes.items()
        )

    def _keep(self, camera: tuple[int, str], stamp_ns: int, items: Iterable[Detection], *, recovered: bool) -> None:
        for item in items:
            if item.id:
                label, score = (item.hypotheses[0].label, item.hypotheses[0].score) if item.hypotheses else ("", 0.0)
                box = TrackedBox(stamp_ns, item.box_xyxy_px, label, score, recovered)
                self._boxes.setdefault((*camera, item.id), []).append(box)
