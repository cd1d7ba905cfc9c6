"""Filling and reading messages: class ids, boxes, numbers that rclpy sends right, images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from peers import image
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray, Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from lisard_ros import images
from lisard_ros.frames import Classification, Detection, Detections, Frame, Hypothesis, Result
from lisard_ros.message_fields import box_xyxy_px
from lisard_ros.node import camera_publisher, messages

STOP, UNKNOWN = Hypothesis("stop", 14, 0.75), Hypothesis("sign", -1, 0.5)


def test_class_ids_are_names_or_indices_where_there_is_one() -> None:
    assert [messages.class_id(h, "name") for h in (STOP, UNKNOWN)] == ["stop", "sign"]
    assert [messages.class_id(h, "index") for h in (STOP, UNKNOWN)] == ["14", "sign"]


def test_numpy_and_integer_numbers_survive_the_wire() -> None:
    box = (np.float32(1), 2, np.float64(5), 8)
    answer = Detections((Detection(box, (Hypothesis("stop", 14, np.float32(0.5)),), "7"),))  # type: ignore[arg-type]
    sent = messages.detections(answer, Header(frame_id="optical"), "name")
    got = deserialize_message(serialize_message(sent), Detection2DArray).detections[0]
    assert (got.bbox.center.position.x, got.bbox.center.position.y) == (3.0, 5.0)
    assert (got.bbox.size_x, got.bbox.size_y, got.id) == (4.0, 6.0, "7")
    assert got.results[0].hypothesis.score == 0.5 and got.header.frame_id == "optical"
    assert box_xyxy_px(got) == (1.0, 2.0, 5.0, 8.0)


def scored(score: float) -> Detection2D:
    made = Detection2D()
    made.bbox.size_x = made.bbox.size_y = 2.0
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = f"c{score}", score
    made.results = [result]
    return made


def test_the_best_boxes_are_kept_in_their_order() -> None:
    message = Detection2DArray(detections=[scored(s) for s in (0.1, 0.9, 0.3, 0.8)])
    assert [r.label for r in messages.regions(message, 2)] == ["c0.9", "c0.8"]
    assert len(messages.regions(message, 9)) == 4
    nothing = messages.regions(Detection2DArray(detections=[Detection2D()]), 9)
    assert nothing[0].label is None and nothing[0].score is None


def test_an_image_message_reads_back_as_the_same_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    message = messages.image(pixels[:, ::-1], "rgb8", Header())
    got = deserialize_message(serialize_message(message), Image)
    assert np.array_equal(images.to_frame(got, "c").rgb(), pixels[:, ::-1])


@pytest.mark.parametrize("box", [(-50.0, -50.0, 500.0, 500.0), (2.4, 2.6, 3.0, 3.0)])
def test_the_overlay_leaves_the_frame_alone(box: tuple[float, float, float, float]) -> None:
    frame = images.to_frame(image((9, 9, 9), 1_500_000_007, 64, 48), "c")
    result = Result(frame, Classification((STOP,)), Detections((Detection(box, (STOP,)), Detection(box, ()))))
    drawn = messages.overlay(result, Header())
    assert (frame.image == 9).all() and (drawn.width, drawn.height) == (64, 48)
    assert np.frombuffer(drawn.data, np.uint8).max() > 9


def test_a_grey_frame_has_an_overlay_too() -> None:
    frame = Frame(np.zeros((20, 30), np.uint8), "mono", 0, "", "c")
    assert messages.overlay(Result(frame, Classification(()), None), Header()).encoding == "rgb8"


def test_a_timing_names_its_places_and_leaves_out_what_is_unknown() -> None:
    got = deserialize_message(serialize_message(messages.timing({"wait": 1, "total": 12.5})), Float64MultiArray)
    (dimension,) = got.layout.dim
    names = dimension.label.split(",")
    assert names == [f"{stage}_ms" for stage in messages.TIMED_STAGES] and dimension.size == len(got.data)
    values = dict(zip(names, got.data, strict=True))
    assert values["wait_ms"] == 1.0 and values["total_ms"] == 12.5 and np.isnan(values["age_ms"])


def test_the_live_layout_plots_places_that_a_timing_has() -> None:
    layout = json.loads((Path(__file__).parents[2] / "config/foxglove_live.json").read_text(encoding="utf-8"))
    for path in layout["configById"]["Plot!timing"]["paths"]:
        (place,) = re.findall(r"^/perception/front/timing\.data\[(\d)\]$", path["value"])
        assert messages.TIMED_STAGES[int(place)] == path["label"]


def test_topics_of_attacked_answers() -> None:
    assert camera_publisher.attacked_topic("front", "") == "~/front/attacked"
    assert camera_publisher.attacked_topic("front", "pgd-10") == "~/front/attacked/pgd_10"
    assert camera_publisher.attacked_topic("front", "corruption/fog/3") == "~/front/attacked/corruption_fog_3"
    assert camera_publisher.attacked_topic("front", "8bit") == "~/front/attacked/a_8bit"
