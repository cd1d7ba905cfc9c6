"""Message types for reading bags: those that rosbags knows, and vision_msgs 4.x, which older bags do not describe."""

from __future__ import annotations

import functools
import struct
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from lisard_ros.message_fields import to_ns

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
VIDEO = "foxglove_msgs/msg/CompressedVideo"
FFMPEG = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
CLASSIFICATION = "vision_msgs/msg/Classification"
DETECTIONS = "vision_msgs/msg/Detection2DArray"
READ = frozenset((IMAGE, COMPRESSED_IMAGE, VIDEO, FFMPEG, CLASSIFICATION, DETECTIONS))

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
# Of foxglove_msgs and ffmpeg_image_transport_msgs.
VIDEO_DEFINITIONS = {
    VIDEO: "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format",
    FFMPEG: "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n"
    "bool is_bigendian\nuint8[] data",
}


def header_stamp_ns(raw: bytes, ros1: bool = False) -> int:
    """Return the stamp of a serialised message that begins with a header, without reading the rest.

    raw: CDR, or with `ros1` as ROS 1 writes it. 0 for a message that is too short.
    """
    if len(raw) < 12:
        return 0
    order = ">" if not ros1 and raw[1] % 2 == 0 else "<"
    seconds, nanoseconds = struct.unpack_from(f"{order}{'I' if ros1 else 'i'}I", raw, 4)
    return to_ns(seconds, nanoseconds)


def empty_typestore() -> Typestore:
    """Return a store without any type."""
    return get_typestore(Stores.EMPTY)


@functools.cache
def typestore(distro: str = "") -> Typestore:
    """Return the ROS 2 types of rosbags plus vision_msgs and video packets.

    distro: of ROS 2, such as kilted; Humble where rosbags does not know it.
    """
    stores = {store.name.removeprefix("ROS2_").lower(): store for store in Stores if store.name.startswith("ROS2_")}
    store = get_typestore(stores.get(distro.lower(), Stores.ROS2_HUMBLE))
    types: dict[str, Any] = {}
    for name, text in DEFINITIONS.items():
        types.update(get_types_from_msg(text, f"vision_msgs/msg/{name}"))
    for kind, text in VIDEO_DEFINITIONS.items():
        types.update(get_types_from_msg(text, kind))
    store.register(types)
    return store
