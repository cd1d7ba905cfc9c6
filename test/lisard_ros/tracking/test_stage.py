"""The stage between pipeline and answer: faint boxes are asked for, and the boxes of the answer stay what they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lisard_ros.errors import UsageError
from lisard_ros.frames import Classification, Frame, Result
from lisard_ros.tracking import BYTETRACK, NONE, TRACKERS, stage
from lisard_ros.tracking.bytetrack import ByteTrack


def frame(brightness: int, number: int) -> Frame:
    """A grey image; the armed detector of `tiny` sees less in a darker one."""
    return Frame(np.full((32, 32, 3), brightness, np.uint8), "rgb", 10**9 + number * 33_000_000, "", "front")


def decoded(pipeline: Any, image: Frame, share: float) -> Result:
    """The answer to one frame."""
    outcome = pipeline.decode(pipeline.infer(pipeline.prepare([image])), share)[0]
    assert isinstance(outcome, Result)
    return outcome


def scores(items: Any) -> list[float]:
    """Scores of boxes, rounded."""
    return [round(item.hypotheses[0].score, 2) for item in items]


def test_names() -> None:
    assert TRACKERS == (NONE, BYTETRACK) and stage.make(NONE) is None
    assert isinstance(stage.make(BYTETRACK), ByteTrack) and stage.make(BYTETRACK) is not stage.make(BYTETRACK)
    with pytest.raises(UsageError, match="did you mean 'bytetrack'"):
        stage.make("bytetrak")


def test_faint_boxes_are_given_beside_the_answer_and_only_where_asked_for(tiny: Any) -> None:
    pipeline = tiny.pipeline(tiny.armed_detector())  # threshold 0.3; 0.9 and 0.8 of the brightness
    for brightness in (20, 60, 90, 100, 200):
        plain, asked = decoded(pipeline, frame(brightness, 0), 1.0), decoded(pipeline, frame(brightness, 0), 0.2)
        assert plain.detections == asked.detections and plain.faint == ()
        assert all(0.06 <= score < 0.3 for score in scores(asked.faint))
    assert scores(decoded(pipeline, frame(90, 0), 0.2).detections.items) == [0.32]  # type: ignore[union-attr]
    assert scores(decoded(pipeline, frame(90, 0), 0.2).faint) == [0.28]
    assert pipeline.threshold == 0.3, "what is told to others stays"


def test_min_score_moves_what_is_faint(tiny: Any) -> None:
    pipeline = tiny.pipeline(tiny.armed_detector(), min_score=0.5)
    answer = decoded(pipeline, frame(90, 0), 0.2)
    assert answer.detections is not None and not answer.detections.items and scores(answer.faint) == [0.32, 0.28]


def test_attacked_copies_and_the_self_test_have_no_faint_boxes(tiny: Any) -> None:
    pipeline = tiny.pipeline(tiny.armed_detector())
    assert pipeline.run([frame(90, 0)])[0].faint == ()


def test_an_object_is_followed_through_the_dark(tiny: Any) -> None:
    pipeline, tracker = tiny.pipeline(tiny.armed_detector()), ByteTrack()
    answers = [
        stage.track(decoded(pipeline, frame(brightness, number), stage.FAINT_SHARE), tracker)
        for number, brightness in enumerate((120, 120, 90, 120))
    ]
    assert [[item.id for item in answer.joined(300).detections.items] for answer in answers] == [  # type: ignore[union-attr]
        ["", ""],
        ["1", "2"],
        ["1", "2"],
        ["1", "2"],
    ]
    assert scores(answers[2].recovered) == [0.28] and len(answers[2].joined(1).detections.items) == 1  # type: ignore[union-attr]


def test_time_of_tracking_counts_and_an_answer_without_boxes_stays(tiny: Any) -> None:
    pipeline = tiny.pipeline(tiny.armed_detector())
    before = decoded(pipeline, frame(120, 0), 1.0)
    assert stage.track(before, ByteTrack()).result.times.postprocess_ms > before.times.postprocess_ms
    whole = Result(frame(120, 0), Classification(()), None)
    assert stage.track(whole, ByteTrack()).result == whole


def test_there_must_be_boxes() -> None:
    stage.require_boxes(NONE, False, "parameter 'tracking'", "")
    stage.require_boxes(BYTETRACK, True, "parameter 'tracking'", "")
    with pytest.raises(UsageError) as caught:
        stage.require_boxes(BYTETRACK, False, "parameter 'tracking'", "set detector")
    assert str(caught.value) == (
        "parameter 'tracking': found bytetrack with a classifier of whole frames, expected boxes to track; set detector"
    )
