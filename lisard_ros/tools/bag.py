"""`lisard bag`: recordings as files (`info`, `make`, `repair`), played into ROS topics, and recorded answers."""

from __future__ import annotations

import argparse

from lisard_ros.commands import bag_files
from lisard_ros.tools import player, recorder

SUMMARY = "look at, make, repair, play recordings, or record answers"
HELP = """Work with recordings. `play` and `record` need ROS 2, but neither rosbag2 nor launch; the others need neither.

  lisard bag info drive 'drives/*'
  lisard bag make signs --classes data/gtsrb_tracks --names models/traffic_signs/bundle.json
  lisard bag repair broken_drive whole_drive
  lisard bag play BAG --profile --reliability best_effort --wait-for /camera/image_raw=1
  lisard bag record OUT.jsonl --answers /perception/camera/detections --labels /camera/boxes=detections

Exit status: 0 done, or ended by a signal; 1 no subscriber, no publisher, an unreadable bag, or `info` found damage;
2 usage error."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    actions = parser.add_subparsers(dest="action", required=True)
    for name, summary, add, call in (
        ("info", bag_files.INFO, bag_files.configure_info, bag_files.run_info),
        ("make", bag_files.MAKE, bag_files.configure_make, bag_files.run_make),
        ("repair", bag_files.REPAIR, bag_files.configure_repair, bag_files.run_repair),
    ):
        action = actions.add_parser(name, help=summary, description=summary)
        add(action)
        action.set_defaults(call=call)
    for name, tool in (("play", player), ("record", recorder)):
        action = actions.add_parser(name, help=tool.SUMMARY, description=tool.HELP)
        tool.configure(action)
        action.set_defaults(call=tool.run)


def run(args: argparse.Namespace) -> int:
    """Call the chosen subcommand."""
    status: int = args.call(args)
    return status
