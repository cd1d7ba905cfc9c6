"""The message definitions under interfaces/ are those of vision_msgs 4.x, and work over DDS."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

ROOT = Path(__file__).resolve().parents[2]
DEFINITIONS = sorted((ROOT / "interfaces" / "vision_msgs" / "msg").glob("*.msg"))
# Name -> fields in order; what vision_msgs 4.x of a distribution answers to get_fields_and_field_types().
FIELDS = {
    "Point2D": "double x, double y",
    "Pose2D": "vision_msgs/Point2D position, double theta",
    "BoundingBox2D": "vision_msgs/Pose2D center, double size_x, double size_y",
    "BoundingBox2DArray": "std_msgs/Header header, sequence<vision_msgs/BoundingBox2D> boxes",
    "ObjectHypothesis": "string class_id, double score",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis, geometry_msgs/PoseWithCovariance pose",
    "Detection2D": "std_msgs/Header header, sequence<vision_msgs/ObjectHypothesisWithPose> results, "
    "vision_msgs/BoundingBox2D bbox, string id",
    "Detection2DArray": "std_msgs/Header header, sequence<vision_msgs/Detection2D> detections",
    "Classification": "std_msgs/Header header, sequence<vision_msgs/ObjectHypothesis> results",
    "VisionClass": "uint16 class_id, string class_name",
    "LabelInfo": "std_msgs/Header header, sequence<vision_msgs/VisionClass> class_map, float threshold",
    "VisionInfo": "std_msgs/Header header, string method, string database_location, int32 database_version",
}

ROUND_TRIP = """
import time
import rclpy
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesis, ObjectHypothesisWithPose
rclpy.init()
node, received = rclpy.create_node("round_trip"), []
node.create_subscription(Detection2DArray, "found", received.append, 10)
publisher = node.create_publisher(Detection2DArray, "found", 10)
best = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id="stop", score=0.75))
sent = Detection2DArray(detections=[Detection2D(results=[best], bbox=BoundingBox2D(size_x=4.0, size_y=2.0), id="7")])
sent.header.stamp.sec, sent.header.frame_id = 12, "camera"
end = time.monotonic() + 20
while not received and time.monotonic() < end:
    publisher.publish(sent)
    rclpy.spin_once(node, timeout_sec=0.1)
assert received[:1] == [sent], received
rclpy.try_shutdown()
"""


def test_every_definition_is_listed_for_the_build() -> None:
    listed = (ROOT / "interfaces" / "vision_msgs" / "CMakeLists.txt").read_text(encoding="utf-8")
    assert {path.stem for path in DEFINITIONS} == set(FIELDS)
    assert all(f'"msg/{name}.msg"' in listed for name in FIELDS)


@pytest.mark.ros
@pytest.mark.parametrize("name", sorted(FIELDS))
def test_the_built_messages_have_these_fields(name: str) -> None:
    message = getattr(importlib.import_module("vision_msgs.msg"), name)
    fields = ", ".join(f"{kind} {field}" for field, kind in message.get_fields_and_field_types().items())
    assert fields == FIELDS[name]


def built_hashes() -> dict[str, str]:
    """Message name -> RIHS01 hash that the build wrote; none before ROS 2 Iron, whose builds write no hashes."""
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p] or [Path(sys.prefix)]
    files = [path for prefix in prefixes for path in sorted((prefix / "share/vision_msgs/msg").glob("*.json"))]
    hashes = {}
    for path in files:
        for entry in json.loads(path.read_text(encoding="utf-8"))["type_hashes"]:
            hashes[entry["type_name"]] = entry["hash_string"]
    return hashes


@pytest.mark.ros
def test_type_hashes_are_those_that_rosbags_computes() -> None:
    hashes, store = built_hashes(), get_typestore(Stores.ROS2_KILTED)
    assert hashes or os.environ.get("ROS_DISTRO") == "humble"
    for path in DEFINITIONS:
        store.register(get_types_from_msg(path.read_text(encoding="utf-8"), f"vision_msgs/msg/{path.stem}"))
    for name in FIELDS if hashes else ():
        assert store.hash_rihs01(f"vision_msgs/msg/{name}") == hashes[f"vision_msgs/msg/{name}"]


@pytest.mark.ros
def test_detections_go_over_dds_and_come_back() -> None:
    command = ["timeout", "-k", "5", "60", sys.executable, "-c", ROUND_TRIP]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
