"""How the tools that look at a running system start ROS."""

from __future__ import annotations

import os

from lisard_ros.errors import UsageError, one_line
from lisard_ros.node import compat
from lisard_ros.tools import running_system
from lisard_ros.tools.stop import ROS_ARGUMENTS


def start_ros() -> None:
    """Start ROS without its signal handlers; `compat.try_shutdown` ends it.

    Raises:
        UsageError: It does not start with the variables of this shell.
    """
    running_system.require_domain(os.environ)
    try:
        compat.init(ROS_ARGUMENTS)
    except Exception as error:  # rclpy has several classes for an environment it does not like
        raise UsageError(
            "ROS 2 does not start", found=one_line(error), cure="check the variables of this shell"
        ) from error
