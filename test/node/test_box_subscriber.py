"""Boxes of another detector, over DDS: the finer class first, the detector's second; frames without boxes count."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import NodeProcess, Peer, image, stamp_ns, stamped, wait_until
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

STAMPS = itertools.count(2_000_000_000_000, 33_000_000)


def boxes(stamp: int, *items: tuple[float, float, float, float, str]) -> Detection2DArray:
    """A message with boxes x0 y0 x1 y1 and the class that the other detector gave."""
    return stamped(Detection2DArray(detections=[_box(i, *item) for i, item in enumerate(items)]), stamp)


def _box(number: int, x0: float, y0: float, x1: float, y1: float, label: str) -> Detection2D:
    made = Detection2D(id=f"box{number}")
    made.bbox.center.position.x, made.bbox.center.position.y = (x0 + x1) / 2, (y0 + y1) / 2
    made.bbox.size_x, made.bbox.size_y = float(x1 - x0), float(y1 - y0)
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = label, 0.75
    made.results = [result]
    return made


def red_and_blue(stamp: int) -> Image:
    """Red on the left, blue on the right."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40], pixels[:, 40:] = (220, 10, 10), (10, 10, 220)
    return image(pixels, stamp)


class World:
    """The node under test and everything that talks to it."""

    def __init__(self, peer: Peer, bundle: Path, namespace: str, boxes_wait_ms: float) -> None:
        self.camera, boxes_topic = f"{namespace}/cam", f"{namespace}/boxes"
        name = f"{namespace}/perception"
        self.diagnosis = peer.diagnosis(name)
        self.node = NodeProcess(
            namespace,
            bundle=bundle,
            image_topics=[f"{self.camera}/image_raw"],
            boxes_topic=boxes_topic,
            boxes_wait_ms=boxes_wait_ms,
            diagnostics_period_s=0.2,
            class_id_format="name",
        )
        wait_until(lambda: self.diagnosis.values.get("model", {}).get("state") == "active", "the node to be active")
        self.frames = peer.publisher(Image, f"{self.camera}/image_raw")
        self.boxes = peer.publisher(Detection2DArray, boxes_topic)
        self.answers = peer.collect(Detection2DArray, f"{name}{self.camera}/detections")

    def answer(self, stamp: int) -> Any:
        return wait_until(lambda: next((a for a in self.answers if stamp_ns(a) == stamp), None), f"answer to {stamp}")

    def count(self, status: str, key: str) -> int:
        return int(self.diagnosis.values.get(status, {}).get(key, 0))

    def publish_boxes(self, found: Detection2DArray) -> None:
        """Publish boxes and wait until the node has them."""
        before = self.count("boxes", "received")
        self.boxes.publish(found)
        wait_until(lambda: self.count("boxes", "received") > before, "the boxes")


@pytest.fixture(scope="module")
def world(peer: Peer, bundle: Path) -> Iterator[World]:
    """A node that waits for boxes longer than any machine needs to bring them."""
    made = World(peer, bundle, "/patient", 30_000.0)
    yield made
    assert made.node.stop() == 0


@pytest.fixture
def hasty(peer: Peer, bundle: Path) -> Iterator[World]:
    """A node that hardly waits for boxes."""
    made = World(peer, bundle, "/hasty", 100.0)
    yield made
    assert made.node.stop() == 0


@pytest.mark.parametrize("boxes_first", [False, True])
def test_the_finer_class_comes_first_whatever_comes_first(world: World, boxes_first: bool) -> None:
    stamp = next(STAMPS)
    found = boxes(stamp, (2, 2, 30, 30, "sign"), (50, 5, 70, 35, "sign"), (10, 10, 20, 20, "dog"))
    if boxes_first:
        world.publish_boxes(found)
        world.frames.publish(red_and_blue(stamp))
    else:
        world.frames.publish(red_and_blue(stamp))
        world.boxes.publish(found)
    answer = world.answer(stamp)
    assert answer.header.frame_id == "optical"
    left, right, dog = answer.detections
    assert [r.hypothesis.class_id for r in left.results][:2] == ["red", "sign"]
    assert [r.hypothesis.class_id for r in right.results][:2] == ["blue", "sign"]
    assert left.results[1].hypothesis.score == 0.75 and left.id == "box0"
    assert [r.hypothesis.class_id for r in dog.results] == ["dog"], "not one of roi_classes"
    assert (right.bbox.center.position.x, right.bbox.size_y) == (60.0, 30.0)


def test_no_boxes_is_an_answer_and_odd_boxes_do_no_harm(world: World) -> None:
    stamp = next(STAMPS)
    world.frames.publish(red_and_blue(stamp))
    world.boxes.publish(boxes(stamp))
    assert world.answer(stamp).detections == []
    stamp = next(STAMPS)
    odd = boxes(stamp, (-50, -50, -10, -10, "sign"), (float("nan"), 0, 5, 5, "sign"), (5, 5, 5, 5, "sign"))
    odd.detections.append(Detection2D())
    world.boxes.publish(odd)
    world.frames.publish(red_and_blue(stamp))
    labels = [[r.hypothesis.class_id for r in d.results] for d in world.answer(stamp).detections]
    assert labels[:2] == [["sign"], ["sign"]], "the detector's own word stays where there is nothing to look at"


def test_a_frame_whose_boxes_never_come_is_counted(hasty: World) -> None:
    status, stamp = f"camera {hasty.camera[1:]}", next(STAMPS)
    hasty.frames.publish(red_and_blue(stamp))
    wait_until(lambda: hasty.count(status, "failed_no_boxes") == 1, "the frame to be given up")
    assert "no boxes on /hasty/boxes" in hasty.diagnosis.messages[status]
    assert hasty.diagnosis.levels[status] == "WARN"
    hasty.publish_boxes(boxes(stamp, (2, 2, 30, 30, "sign")))
    stamp = next(STAMPS)
    hasty.publish_boxes(boxes(stamp, (2, 2, 30, 30, "sign")))
    hasty.frames.publish(red_and_blue(stamp))
    assert hasty.answer(stamp).detections[0].results[0].hypothesis.class_id == "red"
    wait_until(lambda: hasty.count(status, "pending") == 0, "no frame to be pending")


def test_fixed_boxes_and_indices(peer: Peer, bundle: Path, start: Callable[..., NodeProcess]) -> None:
    node = start(
        "/fixed",
        bundle=bundle,
        image_topics=["/f/cam/image_raw"],
        class_id_format="index",
        top_k=1,
        fixed_boxes=[0.0, 0.0, 40.0, 40.0, 40.0, 0.0, 80.0, 40.0],
    )
    node.said("active: ")
    camera = peer.publisher(Image, "/f/cam/image_raw")
    answers = peer.collect(Detection2DArray, "/fixed/perception/f/cam/detections")
    wait_until(lambda: answers or camera.publish(red_and_blue(next(STAMPS))), "an answer")
    found = answers[0].detections
    assert [[r.hypothesis.class_id for r in d.results] for d in found] == [["0"], ["2"]]
    assert node.stop() == 0
