"""The ROS 2 node: the only part of the runtime that uses rclpy.

Nothing is imported here, so that the pure parts (parameters, naming, slots, accounting) work without ROS.
"""
