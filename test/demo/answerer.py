"""A stand-in for the node: answers every image with one Classification under the input's header. Ends on a signal."""

from __future__ import annotations

import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, ObjectHypothesis


def main(images: str, answers: str) -> None:
    """Subscribe best effort, publish reliable."""
    rclpy.init()
    node = rclpy.create_node("answerer")
    publisher = node.create_publisher(Classification, answers, 100)

    def answer(image: Image) -> None:
        result = ObjectHypothesis(class_id=f"{image.width}x{image.height}", score=0.5)
        publisher.publish(Classification(header=image.header, results=[result]))

    quality = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(Image, images, answer, quality)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    rclpy.try_shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
