"""`tracking: bytetrack`: ids in the published boxes, for each camera, over DDS; attacked answers have none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import write_detector
from peers import NodeProcess, Peer, image, stamp_ns, wait_until
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

NAME = "/tracks/perception"
S = 10**9


class Camera:
    """One camera of the node: frames out, answers in."""

    def __init__(self, peer: Peer, name: str) -> None:
        self.frames = peer.publisher(Image, f"/t/{name}/image_raw")
        self.answers = peer.collect(Detection2DArray, f"{NAME}/t/{name}/detections")

    def ids(self, stamp: int) -> list[str]:
        """Publish an image and return the ids in its answer, by falling score."""
        message = image(np.full((40, 60, 3), 90, np.uint8), stamp)
        self.frames.publish(message)
        answer = wait_until(lambda: next((a for a in self.answers if stamp_ns(a) == stamp), None), f"answer {stamp}")
        return [item.id for item in answer.detections]


@pytest.mark.ros
@pytest.mark.parametrize("stages", [1, 2])
def test_an_object_keeps_its_id_on_its_camera(
    peer: Peer, bundle: Path, tmp_path: Path, start: Callable[..., NodeProcess], stages: int
) -> None:
    detector = write_detector(tmp_path / "street")
    models: dict[str, Any] = {"bundle": detector} if stages == 1 else {"bundle": bundle, "detector": detector}
    diagnosis = peer.diagnosis(NAME)
    node = start(
        "/tracks",
        **models,
        image_topics=["/t/front/image_raw", "/t/rear/image_raw"],
        tracking="bytetrack",
        diagnostics_period_s=0.2,
        injection__enabled=True,
        injection__attacks=["noise"],
    )
    wait_until(lambda: diagnosis.values.get("model", {}).get("state") == "active", "the node to be active")
    front, rear = Camera(peer, "front"), Camera(peer, "rear")
    attacked = peer.collect(Detection2DArray, f"{NAME}/t/front/attacked/detections")
    assert front.ids(S) == ["", ""], "an object has no id before it is seen twice"
    kept = front.ids(S + 1)
    assert sorted(kept) == ["1", "2"] and front.ids(S + 2) == kept
    assert [rear.ids(S), rear.ids(S + 1)] == [["", ""], kept], "another camera counts for itself"
    assert front.ids(S + 3) == kept
    assert front.ids(S - 5) == ["", ""] and sorted(front.ids(S - 4)) == ["3", "4"], "the clock jumped back"
    wait_until(lambda: attacked, "an attacked answer")
    assert {item.id for answer in attacked for item in answer.detections} == {""}
    assert node.stop() == 0


@pytest.mark.ros
def test_whole_frames_cannot_be_tracked(bundle: Path, start: Callable[..., NodeProcess]) -> None:
    node = start("/untracked", bundle=bundle, image_topics=["/t/u/image_raw"], tracking="bytetrack")
    assert node.wait() == 1
    assert (
        "parameter 'tracking': found bytetrack with a classifier of whole frames, expected boxes to track; set detector"
        in node.log
    )
