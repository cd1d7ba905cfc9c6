"""A camera made of random images: publishes sensor_msgs/Image at a fixed rate from a process of its own.

Begins and ends with small frames, which no transport loses, so that the receiver's gap counter sees every loss between
them. Prints one line of JSON: how many frames it published. Used by the benches and by test/node.
"""

from __future__ import annotations

import argparse
import array
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from other_ends import make_known
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

POLICIES = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}
SMALL_PX = 16
IMAGES = 8


def image(width: int, height: int, seed: int) -> Image:
    """Return an rgb8 message with smooth random content; its header is filled before each publish."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    rows, columns = np.arange(height) * 9 // height, np.arange(width) * 12 // width
    pixels = np.ascontiguousarray(coarse[rows][:, columns])
    message = Image(height=height, width=width, encoding="rgb8", step=width * 3)
    message.header.frame_id = "camera"
    data = array.array("B")
    data.frombytes(pixels.data.cast("B"))
    message.data = data
    return message


def wait_for_subscribers(publisher: Any, count: int, budget_s: float = 30.0) -> None:
    """Wait until `count` subscriptions match; SystemExit when they do not come."""
    deadline = time.monotonic() + budget_s
    while publisher.get_subscription_count() < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"no subscriber on {publisher.topic_name} within {budget_s:.0f} s")
        time.sleep(0.02)


def make_known_spinning(node: Node, publisher: Any, budget_s: float = 60.0) -> None:
    """Wait until the nodes that subscribe know the publisher; SystemExit when one does not answer."""
    deadline = time.monotonic() + budget_s

    def wait(condition: Callable[[], Any], what: str) -> Any:
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise SystemExit(f"within {budget_s:.0f} s: {what}")
            rclpy.spin_once(node, timeout_sec=0.02)
        return value

    make_known(node, publisher.topic_name, wait)


def publish_all(node: Node, publisher: Any, arguments: argparse.Namespace) -> int:
    """Publish opening, body and closing frames; return how many."""
    small = image(SMALL_PX, SMALL_PX, 0)
    large = [image(arguments.width, arguments.height, seed) for seed in range(IMAGES)]
    plan = [small] * arguments.margin
    plan += [large[i % IMAGES] for i in range(arguments.frames)] + [small] * arguments.margin
    begin_s = time.monotonic()
    for number, message in enumerate(plan):
        delay_s = begin_s + number / arguments.rate - time.monotonic()
        if delay_s > 0:
            time.sleep(delay_s)
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
    return len(plan)


def main() -> int:
    """Publish and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topic", default="/bench/image_raw")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rate", type=float, default=30.0, help="frames per second")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--margin", type=int, default=3, help="small frames before and after")
    parser.add_argument("--reliability", choices=POLICIES, default="best_effort")
    parser.add_argument("--subscribers", type=int, default=1, help="wait for this many")
    parser.add_argument("--settle", type=float, default=1.0, help="seconds of quiet before the first frame")
    parser.add_argument("--linger", type=float, default=1.0, help="seconds to stay after the last frame")
    arguments = parser.parse_args()
    rclpy.init(args=[])
    node = Node("synthetic_camera")
    publisher = node.create_publisher(
        Image, arguments.topic, QoSProfile(depth=30, reliability=POLICIES[arguments.reliability])
    )
    try:
        wait_for_subscribers(publisher, arguments.subscribers)
        make_known_spinning(node, publisher)
        time.sleep(arguments.settle)
        published = publish_all(node, publisher, arguments)
        publisher.wait_for_all_acked(Duration(seconds=60))  # reliable frames alone; the others have arrived or are lost
        time.sleep(arguments.linger)
        print(json.dumps({"published": published}), flush=True)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
