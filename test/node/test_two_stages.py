"""Detector and classifier in one node, over DDS, without a topic of boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from peers import NodeProcess, Peer, image, stamp_ns, wait_until
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from lisard_ros import bundle as bundles
from lisard_ros.manifest import Decode, InputSpec, Manifest, ModelFile, OutputSpec

SIDE_PX = 16


def write_detector(folder: Path) -> Path:
    """A detector that sees a sign on the left and a person on the right of every picture."""
    rows = np.array([[[1, 2, 7, 14, 1, 0.9, 0], [9, 2, 15, 14, 1, 0, 0.8]]], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMean", ["mean"], ["one"], axes=[1], keepdims=1),
        helper.make_node("Unsqueeze", ["one", "axes"], ["column"]),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "rows"], ["out"]),
    ]
    weights = {"axes": np.array([2], np.int64), "zero": np.zeros(1, np.float32), "rows": rows}
    graph = helper.make_graph(
        nodes, "street", [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE_PX, SIDE_PX])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 2, 7])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    manifest = Manifest(
        name="street", task="detection", labels=("sign", "person"), input=InputSpec(width=SIDE_PX, height=SIDE_PX),
        output=OutputSpec(name="out", activation="none"), models=(ModelFile(file="model.onnx"),),
        decode=Decode(layout="xyxy_objectness_classes"),
    )
    bundles.write(folder, manifest, {"model.onnx": bytes(model.SerializeToString())})
    return folder


@pytest.mark.ros
def test_the_node_finds_and_classifies(
    peer: Peer, bundle: Path, tmp_path: Path, start: Callable[..., NodeProcess]
) -> None:
    diagnosis = peer.diagnosis("/two/perception")
    start("/two", bundle=bundle, detector=write_detector(tmp_path / "street"), image_topics=["/t/cam/image_raw"],
          class_id_format="name", diagnostics_period_s=0.2)
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
