"""Fields of ROS messages in this package's units: stamps in nanoseconds, boxes by their corners.

Duck-typed, so messages of rclpy and of rosbags both fit. Imports nothing: player and recorder load it before they take
over the signals.
"""

from __future__ import annotations

from typing import Any

NS_PER_S = 10**9


def stamp_ns(header: Any) -> int:
    """Return the stamp of a std_msgs/Header in nanoseconds."""
    return to_ns(header.stamp.sec, header.stamp.nanosec)


def to_ns(seconds: int, nanoseconds: int) -> int:
    """Join the two fields of a builtin_interfaces/Time to nanoseconds."""
    return int(seconds) * NS_PER_S + int(nanoseconds)


def from_ns(time_ns: int) -> tuple[int, int]:
    """Split nanoseconds into `sec` and `nanosec` of a builtin_interfaces/Time; nanosec is in [0, 10^9)."""
    return divmod(time_ns, NS_PER_S)


def box_xyxy_px(detection: Any) -> tuple[float, float, float, float]:
    """Return the corners of the box of a vision_msgs/Detection2D in pixels, finite or not."""
    centre, box = detection.bbox.center.position, detection.bbox
    half_width, half_height = float(box.size_x) / 2, float(box.size_y) / 2
    x, y = float(centre.x), float(centre.y)
    return x - half_width, y - half_height, x + half_width, y + half_height
