"""Detector and classifier in one node, over DDS, without a topic of boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import write_detector
from diagnostic_msgs.srv import SelfTest as SelfTestService
from peers import NodeProcess, Peer, image, stamp_ns, wait_until
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray


@pytest.mark.ros
def test_the_node_finds_and_classifies(
    peer: Peer, bundle: Path, tmp_path: Path, start: Callable[..., NodeProcess]
) -> None:
    diagnosis = peer.diagnosis("/two/perception")
    start(
        "/two",
        bundle=bundle,
        detector=write_detector(tmp_path / "street"),
        image_topics=["/t/cam/image_raw"],
        class_id_format="name",
        diagnostics_period_s=0.2,
        injection__enabled=True,
        injection__attacks=["noise", "detector/noise"],
    )
    wait_until(lambda: diagnosis.values.get("model", {}).get("state") == "active", "the node to be active")
    frames = peer.publisher(Image, "/t/cam/image_raw")
    answers = peer.collect(Detection2DArray, "/two/perception/t/cam/detections")
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30, 0] = pixels[:, 30:, 2] = 220

    def answer() -> Any:
        frames.publish(image(pixels, 5_000_000_000))
        return next((a for a in answers if stamp_ns(a) == 5_000_000_000), None)

    message = wait_until(answer, "an answer")
    sign, person = message.detections
    assert [r.hypothesis.class_id for r in sign.results[:2]] == ["red", "sign"]
    assert [r.hypothesis.class_id for r in person.results] == ["person"]
    attacked = peer.collect(Detection2DArray, "/two/perception/t/cam/attacked/detector_noise/detections")

    def attacked_answer() -> Any:
        frames.publish(image(pixels, 6_000_000_000))
        return next((a for a in attacked if stamp_ns(a) == 6_000_000_000), None)

    assert len(wait_until(attacked_answer, "an answer to what the detector sees in noise").detections) == 2
    response = peer.call(SelfTestService, "/two/perception/self_test")
    assert response.passed == b"\x01" and ", detector street " in response.id
    assert [s.name for s in response.status] == ["detector/clean", "clean", "noise"]
    assert {v.key: v.value for v in response.status[0].values}["boxes"] == "6"
    wait_until(lambda: "detector/clean" in diagnosis.values["self_test"], "its cases in the diagnostics")
    assert diagnosis.values["model"]["detector"] == "street"
