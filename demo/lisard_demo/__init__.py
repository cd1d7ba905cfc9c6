"""The demonstration: real processes over real DDS, joined by stamp and scored.

Nothing here imports rclpy; the processes that do are `lisard_ros.node.main`, `.player` and `.recorder`.
"""
