"""Several cameras in one process, for bench/node_load.py: real road images, evenly shifted against each other.

Prints one line of JSON at the end: the stamps of all frames in seconds, and how late the latest one was.
"""

from __future__ import annotations

import argparse
import array
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from synthetic_camera import wait_for_subscribers

ROOT = Path(__file__).resolve().parents[1]


def frames(width: int, height: int) -> list[np.ndarray]:
    """The reference images of models/road_signs, which have boxes, enlarged; RGB [height, width, 3]."""
    with np.load(ROOT / "models/road_signs/self_test.npz") as stored:
        names = [name for name in stored.files if stored[name].ndim >= 3]
        images = [image for name in names for image in (stored[name] if stored[name].ndim == 4 else [stored[name]])]
    return [np.ascontiguousarray(cv2.resize(image, (width, height))) for image in images]


def message_of(rgb: np.ndarray, jpeg: bool) -> Image | CompressedImage:
    """One message; its header is filled before each publish."""
    data = array.array("B")
    if jpeg:
        data.frombytes(cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes())
        return CompressedImage(format="rgb8; jpeg compressed bgr8", data=data)
    data.frombytes(rgb.tobytes())
    return Image(height=rgb.shape[0], width=rgb.shape[1], encoding="rgb8", step=rgb.shape[1] * 3, data=data)


def publish_all(
    node: Node, publishers: list[Any], messages: list[Any], rate: float, seconds: float
) -> tuple[list[float], float]:
    """Publish for `seconds` at `rate` each; returns the stamps, and the worst delay in ms."""
    stamps: list[float] = []
    count = int(rate * seconds)
    begin_s = time.monotonic() + 0.05
    worst_s = 0.0
    for number in range(count * len(publishers)):
        due_s = begin_s + number / (rate * len(publishers))
        delay_s = due_s - time.monotonic()
        if delay_s > 0:
            time.sleep(delay_s)
        worst_s = max(worst_s, time.monotonic() - due_s)
        message = messages[number % len(messages)]
        stamp = message.header.stamp = node.get_clock().now().to_msg()
        stamps.append(stamp.sec + stamp.nanosec / 1e9)
        publishers[number % len(publishers)].publish(message)
    return stamps, worst_s * 1e3


def main() -> int:
    """Publish and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topics", nargs="+", help="names that end in /compressed get JPEG")
    parser.add_argument("--rate", type=float, default=10.0, help="frames per second of each camera")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--subscribers", type=int, default=1)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    jpeg = arguments.topics[0].endswith("/compressed")
    messages = [message_of(rgb, jpeg) for rgb in frames(width, height)]
    rclpy.init(args=[])
    node = Node("cameras")
    kind = CompressedImage if jpeg else Image
    publishers = [node.create_publisher(kind, topic, qos_profile_sensor_data) for topic in arguments.topics]
    for publisher in publishers:
        wait_for_subscribers(publisher, arguments.subscribers)
    time.sleep(1.0)  # a subscriber that was found may not have found this publisher yet
    stamps, worst_ms = publish_all(node, publishers, messages, arguments.rate, arguments.seconds)
    time.sleep(0.7)
    print(json.dumps({"stamps": stamps, "worst_delay_ms": round(worst_ms, 1)}), flush=True)
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
