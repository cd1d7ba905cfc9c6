"""A launch_testing test: start the node, ask it for its self test, and require that every limit holds.

    launch_test examples/self_test.launch_test.py

Needs a sourced ROS 2 with launch_testing and this package (`colcon build`). Put your bundle and limits below.
"""

import unittest

import launch_testing.actions
import rclpy
from diagnostic_msgs.srv import SelfTest
from launch import LaunchDescription
from launch_ros.actions import Node

BUNDLE = "models/traffic_signs"
NODE = "perception"
PATIENCE_S = 120.0


def generate_test_description() -> LaunchDescription:
    """Describe the node under test."""
    parameters = {
        "bundle": BUNDLE,
        "image_topics": ["/camera/image_raw"],
        "self_test.suite": ["clean=0.8", "noise=0.7", "universal=0.7"],
    }
    node = Node(package="lisard_ros", executable="perception_node", name=NODE, parameters=[parameters])
    return LaunchDescription([node, launch_testing.actions.ReadyToTest()])


class TestSelfTest(unittest.TestCase):
    """The running node answers its reference images, clean and attacked, within the limits."""

    @classmethod
    def setUpClass(cls) -> None:
        """Make the node that asks."""
        rclpy.init()
        cls.node = rclpy.create_node("self_test_client")

    @classmethod
    def tearDownClass(cls) -> None:
        """Remove it."""
        cls.node.destroy_node()
        rclpy.try_shutdown()

    def test_every_limit_holds(self) -> None:
        """Ask for the self test; it is refused until the node is active, so ask again."""
        client = self.node.create_client(SelfTest, f"/{NODE}/self_test")
        self.assertTrue(client.wait_for_service(timeout_sec=PATIENCE_S), f"no service /{NODE}/self_test")
        for _ in range(20):
            future = client.call_async(SelfTest.Request())
            rclpy.spin_until_future_complete(self.node, future, timeout_sec=PATIENCE_S)
            answer = future.result()
            self.assertIsNotNone(answer, "no answer in time")
            if len(answer.status) > 1:
                break
            rclpy.spin_once(self.node, timeout_sec=1.0)
        report = [f"{status.name}: {status.message}" for status in answer.status]
        self.assertEqual(answer.passed, b"\x01", "\n".join(report))
        self.assertEqual(len(report), 3, "\n".join(report))
