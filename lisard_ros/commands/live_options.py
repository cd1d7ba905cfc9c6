"""`lisard replay --live`: its options, and the way to the part of the package that speaks to a running node."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from lisard_ros import bundle as bundles
from lisard_ros import needs
from lisard_ros.bags import live
from lisard_ros.bags.live import LiveOptions, LiveReplay, OfflineAnswers, Played
from lisard_ros.bags.messages import COMPRESSED_IMAGE, IMAGE
from lisard_ros.bags.reader import open_bag
from lisard_ros.bags.report import Replay
from lisard_ros.bags.seen import Seen
from lisard_ros.errors import UsageError
from lisard_ros.injection import CLEAN

GROUP = "lisard_ros.live_replay"
DEFAULT_NODE = "/perception"
_OPTIONS = ("node", "rate", "reliability", "clock", "live_timeout")
_NUMBERS = ("rate", "clock", "live_timeout")
_ALONE = ("limit", "backends")  # options that have no meaning for a running node


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("through a running node (needs ROS 2)")
    group.add_argument(
        "--live",
        action="store_true",
        help="also play the recording through a running node, and report what became of each frame there",
    )
    group.add_argument("--node", metavar="NAME", help=f"full name of the node (default: {DEFAULT_NODE})")
    group.add_argument("--rate", type=float, metavar="FACTOR", help="factor on the recorded pace (default: 1)")
    group.add_argument(
        "--reliability", choices=("reliable", "best_effort"), help="how images are published (default: reliable)"
    )
    group.add_argument("--clock", type=float, metavar="HZ", help="publish /clock, for a node with use_sim_time")
    group.add_argument("--live-timeout", type=float, metavar="S", help="how long to wait for the node (default: 20)")


def check(args: argparse.Namespace) -> None:
    """Refuse options that do not go with a running node, or need one."""
    given = next((name for name in _OPTIONS if getattr(args, name) is not None), None)
    if not args.live:
        if given is not None:
            raise UsageError(f"--{given.replace('_', '-')} without --live", cure="add --live, or leave it out")
        return
    alone = next((name for name in _ALONE if getattr(args, name)), None)
    several = next((name for name in ("bag", "bundle") if len(getattr(args, name)) > 1), None)
    if alone is not None or several is not None:
        what = f"--{alone}" if alone else {"bag": "several recordings", "bundle": "several bundles"}[str(several)]
        raise UsageError(
            f"--live with {what}",
            expected="one whole recording, one bundle and one backend",
            cure="replay the others without --live",
        )
    for name in _NUMBERS:
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} out of range", found=value, expected="a number above 0")


def collector(offline: OfflineAnswers) -> Callable[[Seen], None]:
    """Return what keeps the clean answers of an evaluation."""

    def watch(seen: Seen) -> None:
        if seen.condition == CLEAN:
            offline.note(seen.item.topic, seen.item.stamp_ns, seen.outcome)

    return watch


@dataclass(frozen=True, slots=True)
class LivePlan:
    """A recording that can be played, and the node that was found for it."""

    options: LiveOptions

    def play(self, report: Replay, offline: OfflineAnswers) -> LiveReplay:
        """Play the recording through the node and compare its answers with those without DDS.

        Args:
            report: The evaluation without DDS.
            offline: Its clean answers.

        Raises:
            DataError: The node has gone, or the recording cannot be played.
        """
        played: Played = _call("play", self.options)
        return live.compare(played, offline, report.backend)


def find(args: argparse.Namespace, topics: tuple[str, ...]) -> LivePlan:
    """Find the node. topics: image topics that were asked for, empty for all of the recording.

    Raises:
        UsageError: ROS or the entry point is missing, a topic is none that a node takes, or the node runs another
            bundle.
        DataError: There is no such node, or no such recording.
    """
    with open_bag(args.bag, topics, args.labels_topic, args.boxes_topic) as bag:
        kinds, images = bag.recordings[0].kinds, bag.topics.images
    other = next((topic for topic in images if kinds.get(topic) not in (IMAGE, COMPRESSED_IMAGE)), None)
    if other is not None:
        raise UsageError(
            "--live with a topic that the node does not take",
            found=f"{other} of type {kinds.get(other)}",
            expected=f"{IMAGE} or {COMPRESSED_IMAGE}",
            cure="choose --topics, or replay without --live",
        )
    bundle = bundles.read(bundles.locate(args.bundle[0]))
    plan = LivePlan(
        LiveOptions(
            bag=Path(args.bag[0]),
            topics=images,
            bundle_sha256=bundle.sha256,
            others=(args.boxes_topic,) if args.boxes_topic else (),
            labels=bundle.manifest.labels,
            node="/" + (args.node or DEFAULT_NODE).strip("/"),
            rate=args.rate or 1.0,
            reliability=args.reliability or "reliable",
            clock_hz=args.clock,
            wait_s=args.live_timeout or 20.0,
        )
    )
    _call("find", plan.options)
    return plan


def _call(name: str, options: LiveOptions) -> Any:
    try:
        for entry in entry_points(group=GROUP, name=name):
            return entry.load()(options)
    except ImportError as error:
        raise needs.cannot_import(error) from error
    raise UsageError(
        "`lisard replay --live` is not installed",
        found="no such entry point",
        expected=f"the group {GROUP}",
        cure="run `make setup`, or `pip install -e .` in the checkout",
    )
