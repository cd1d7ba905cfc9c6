"""`lisard bag`: `play` publishes a recording into ROS topics, `record` writes a node's answers beside the labels."""

from __future__ import annotations

import argparse

from lisard_ros.tools import player, recorder

SUMMARY = "play a recording into ROS topics, or record answers"
HELP = """Play a rosbag2 recording, and record what the node answers. Both need ROS 2, but neither rosbag2 nor launch.

  lisard bag play BAG --profile --reliability best_effort --wait-for /camera/image_raw=1
  lisard bag record OUT.jsonl --answers /perception/camera/detections --labels /camera/boxes=detections

Exit status: 0 done, or ended by a signal; 1 no subscriber, no publisher or an unreadable bag; 2 usage error."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the two subcommands."""
    actions = parser.add_subparsers(dest="action", required=True)
    for name, tool in (("play", player), ("record", recorder)):
        action = actions.add_parser(name, help=tool.SUMMARY, description=tool.HELP)
        tool.configure(action)
        action.set_defaults(call=tool.run)


def run(args: argparse.Namespace) -> int:
    """Call the chosen subcommand."""
    status: int = args.call(args)
    return status
