"""`lisard compare`: two replays of the same frames, paired; exit status 1 on a regression."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from lisard_ros.bags import comparison
from lisard_ros.bags.comparison import Comparison, Difference
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands.output import table, to_json
from lisard_ros.evaluation import limits as limit_rules
from lisard_ros.evaluation.limits import LATENCIES
from lisard_ros.evaluation.statistics import Interval

SUMMARY = "compare two replays of the same frames"
HELP = """Compare two replays of the same frames, written by `lisard replay --json`: what got worse from the first to
the second, with 95 % intervals over blocks of frames (paired bootstrap).

  lisard replay drive --bundle models/old --json old.json
  lisard replay drive --bundle models/new --json new.json
  lisard compare old.json new.json

Exit status: 1 on a regression: the whole interval is below 0 (false boxes: above 0), or more frames have no answer.
With fewer than 5 blocks any loss is `not enough evidence`, and 1. 2 if the frames, labels or attacks are others.
Latencies are shown, and judged where --latency asks for it: replay both on one idle machine then."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("before", type=Path, help="JSON of the first replay")
    parser.add_argument("after", type=Path, help="JSON of the second replay")
    parser.add_argument(
        "--latency",
        default="",
        metavar="METRIC=FACTOR,...",
        help="a regression too if p50_ms, p95_ms, p99_ms or max_ms of the clean answers rises to more than FACTOR "
        "times that of the first, such as p95_ms=1.1",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Compare and print; exit status 1 on a regression."""
    slower = limit_rules.parse(args.latency) if args.latency else ()
    limit_rules.require_known(slower, LATENCIES)
    found = comparison.compare(comparison.read(args.before), comparison.read(args.after), slower)
    print(to_json(found) if args.json else text(found))
    return EXIT_DONE if found.passed else EXIT_CHECK_FAILED


def text(found: Comparison) -> str:
    """Lay the comparison out for people."""
    shares = ("n", "blocks", "before", "after", "difference")
    head = ("topic", "injection", "judged by", *shares, "false a frame", "p95 ms", "verdict")
    lines = [f"before: {found.bundles[0]}", f"after:  {found.bundles[1]}", ""]
    lines.append(table(head, [_cells(one) for one in found.differences]))
    if found.alone:
        lines += ["", f"in one of the two alone: {', '.join(found.alone)}"]
    return "\n".join([*lines, "", "no regression" if found.passed else "REGRESSION or not enough evidence"])


def _cells(one: Difference) -> tuple[object, ...]:
    shares = [f"{100 * share:.1f} %" if one.n else "no data" for share in (one.before, one.after)]
    times = " -> ".join("-" if math.isnan(value) else f"{value:.1f}" for value in one.p95_ms)
    verdict = f"{one.verdict}: {one.reason}" if one.reason else one.verdict
    false = "-" if one.false_boxes is None else _interval(one.false_boxes, 1, 2)
    difference = _interval(one.difference, 100, 1) if one.n else "-"
    return one.topic, one.injection, one.judged, one.n, one.blocks, *shares, difference, false, times, verdict


def _interval(interval: Interval, factor: float, digits: int) -> str:
    value, low, high = (f"{factor * number:+.{digits}f}" for number in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"
