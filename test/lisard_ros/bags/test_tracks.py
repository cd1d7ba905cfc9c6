"""The tracks of a recording: each camera has its own, and boxes that a track adds are marked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lisard_ros.bags.page import _spans
from lisard_ros.bags.tracks import Track, TrackedBox, TrackRecorder
from lisard_ros.frames import Detection, Detections, Frame, Hypothesis, Result
from lisard_ros.tracking import BYTETRACK, NONE

S = 10**9
STEP = S // 10


def answer(number: int, *, label: str = "stop", faint: bool = False) -> Result:
    """One box, reported or faint."""
    box = Detection((10.0, 10.0, 50.0, 50.0), (Hypothesis(label, 0, 0.1 if faint else 0.9),))
    frame = Frame(np.zeros((4, 4, 3), np.uint8), "rgb", S + number * STEP, "", "front")
    return Result(frame, None, Detections(() if faint else (box,)), faint=(box,) if faint else ())


def followed(recorder: TrackRecorder, topic: str, number: int, **changes: Any) -> list[str]:
    """Ids of the reported boxes."""
    detections = recorder.follow(topic, answer(number, **changes)).detections
    assert detections is not None
    return [item.id for item in detections.items]


def test_each_camera_has_its_own_tracks() -> None:
    recorder = TrackRecorder(BYTETRACK, "CPU")
    for number in range(3):
        assert followed(recorder, "/front", number) == ([""] if number == 0 else ["1"])
    assert followed(recorder, "/rear", 0) == [""] and followed(recorder, "/rear", 1) == ["1"]
    front, rear = recorder.tracks()
    assert (front.topic, front.backend, front.id, len(front.boxes)) == ("/front", "CPU", "1", 2)
    assert (rear.topic, rear.id, len(rear.boxes)) == ("/rear", "1", 1)


def test_boxes_that_a_track_adds_are_marked_and_the_class_of_most_boxes_names_it() -> None:
    recorder = TrackRecorder(BYTETRACK, "CPU")
    kinds: list[dict[str, Any]] = [{}, {}, {"faint": True}, {"label": "speedlimit"}]
    for number, changes in enumerate(kinds):
        followed(recorder, "/front", number, **changes)
    (track,) = recorder.tracks()
    assert [(box.label, box.recovered, box.score) for box in track.boxes] == [
        ("stop", False, 0.9),
        ("stop", True, 0.1),
        ("speedlimit", False, 0.9),
    ]
    assert track.label == "stop" and track.recovered == 1
    assert [box.stamp_ns for box in track.boxes] == [S + STEP, S + 2 * STEP, S + 3 * STEP]


def test_without_a_tracker_answers_stay() -> None:
    recorder = TrackRecorder(NONE, "CPU")
    plain = answer(0)
    assert recorder.follow("/front", plain) is plain and recorder.tracks() == () and not recorder.on


def test_spans_of_a_drawing_end_at_gaps_and_where_the_kind_changes() -> None:
    places = [(0, False), (1, False), (2, True), (3, False), (7, False)]
    boxes = tuple(TrackedBox(S + n * STEP, (0.0, 0.0, 1.0, 1.0), "stop", 0.5, kind) for n, kind in places)
    spans = _spans(Track("/front", "CPU", "1", boxes), S, 0.1)
    assert [(pytest.approx(s.begin_s), pytest.approx(s.end_s), s.recovered) for s in spans] == [
        (0.0, 0.2, False),
        (0.2, 0.3, True),
        (0.3, 0.4, False),
        (0.7, 0.8, False),
    ]
