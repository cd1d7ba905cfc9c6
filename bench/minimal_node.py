"""The yardstick of the node: the least rclpy that answers images: callback -> Pipeline -> publish, nothing else."""

from __future__ import annotations

import sys
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification

from lisard_ros import images
from lisard_ros.frames import Result
from lisard_ros.inference.pipeline import open_pipeline
from lisard_ros.node import messages


def main() -> int:
    """Answer TOPIC with BUNDLE on /minimal/classification."""
    bundle, topic = sys.argv[1:3]
    pipeline = open_pipeline(bundle)
    rclpy.init(args=[])
    node = Node("minimal")
    publisher = node.create_publisher(Classification, "/minimal/classification", 10)

    def answer(message: Any) -> None:
        (outcome,) = pipeline.run([images.to_frame(message, "minimal")])
        if isinstance(outcome, Result) and outcome.classification is not None:
            publisher.publish(messages.classification(outcome.classification, message.header, "name"))

    # Depth 1: like the node, the newest frame alone counts.
    node.create_subscription(Image, topic, answer, QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    print("ready", flush=True)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
