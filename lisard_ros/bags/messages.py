"""Message types for reading bags: those that rosbags knows, and vision_msgs 4.x, which older bags do not describe."""

from __future__ import annotations

from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CLASSIFICATION = "vision_msgs/msg/Classification"
DETECTIONS = "vision_msgs/msg/Detection2DArray"

# Field names, types and order are the interface of vision_msgs 4.x; interfaces/vision_msgs holds the same definitions.
DEFINITIONS = {
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "BoundingBox2DArray": "std_msgs/Header header\nvision_msgs/BoundingBox2D[] boxes",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "Detection2D": "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\nstring id",
    "Detection2DArray": "std_msgs/Header header\nDetection2D[] detections",
    "Classification": "std_msgs/Header header\nObjectHypothesis[] results",
    "VisionClass": "uint16 class_id\nstring class_name",
    "LabelInfo": "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold",
    "VisionInfo": "std_msgs/Header header\nstring method\nstring database_location\nint32 database_version",
}


def typestore() -> Typestore:
    """Return the ROS 2 types of rosbags plus vision_msgs."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types: dict[str, Any] = {}
    for name, text in DEFINITIONS.items():
        types.update(get_types_from_msg(text, f"vision_msgs/msg/{name}"))
    store.register(types)
    return store
