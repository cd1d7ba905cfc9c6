"""The options of `lisard replay`, and what they amount to."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from lisard_ros import backends, injection
from lisard_ros.bags import mcap_output
from lisard_ros.bags.blocks import BY, TIME
from lisard_ros.bags.matrix import MatrixSpec
from lisard_ros.bundle import model_choice
from lisard_ros.commands import bundle_signing
from lisard_ros.errors import UsageError, unknown_name
from lisard_ros.evaluation.limits import DEFAULT_BLOCK_S
from lisard_ros.tracking import NONE, TRACKERS


def add_recording(parser: argparse.ArgumentParser) -> None:
    """Add what is read: recordings, topics and labels."""
    parser.add_argument(
        "bag", nargs="+", help="rosbag2 folders, .mcap, .db3 or ROS 1 .bag files, or patterns such as 'drives/*'"
    )
    add = parser.add_argument_group("the recording").add_argument
    add("--topics", default="", help="image topics, comma-separated (default: all)")
    add("--limit", type=int, default=0, metavar="N", help="only the first N images; 0: all (default: 0)")
    add("--labels-topic", help="vision_msgs/Classification topic with the truth (default: the only one)")
    add("--boxes-topic", help="vision_msgs/Detection2DArray topic with boxes (default: the only one)")
    add("--labels", type=Path, metavar="FILE", help="labels of all recordings, instead of topics: COCO .json, or .csv")
    add(
        "--label-map",
        default="",
        metavar="RECORDED=NAME,...",
        help="classes of the labels under names of the bundle; NAME empty leaves a class out; or a YAML or JSON file",
    )
    add(
        "--label-tolerance-ms",
        type=float,
        metavar="MS",
        help="how far a label may be from its frame (default: half the median frame interval, at most 20)",
    )


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add what answers."""
    add = parser.add_argument_group("the models").add_argument
    add(
        "--bundle",
        type=Path,
        action="append",
        required=True,
        help="model bundle (folder or .zip); repeatable: all are replayed in one pass",
    )
    add("--detector", type=Path, help="detection bundle: classify the boxes that it finds")
    add(
        "--backend", choices=backends.POLICIES, default=backends.AUTO, help="what runs the model (default: %(default)s)"
    )
    add(
        "--precision",
        choices=model_choice.PRECISIONS,
        default=model_choice.AUTO,
        help="precision of the model; auto: fp32 (default: %(default)s)",
    )
    add(
        "--backends",
        default="",
        metavar="BACKEND[:PRECISION],...",
        help="several backends side by side, such as onnxruntime:fp32,onnxruntime:int8,openvino; "
        "instead of --backend and --precision",
    )
    add("--threads", type=int, default=0, help="threads of the runtime; 0: one for each core, at most 8 (default: 0)")
    add(
        "--tracking",
        choices=TRACKERS,
        default=NONE,
        help="follow the objects of the clean answers: ids, and the boxes of each track (default: %(default)s)",
    )
    bundle_signing.add_trusted_keys(parser)


def add_injections(parser: argparse.ArgumentParser) -> None:
    """Add what attacks."""
    add = parser.add_argument_group("the attacks").add_argument
    add(
        "--injections",
        default="noise",
        metavar="NAMES",
        help="injections, comma-separated, `all` (of the bundles) or `none`; "
        f"{injection.CORRUPTION_PATTERN} for any bundle; attack/NAME/EPS: worked out on each frame (lisard attack "
        "list); detector/NAME: into what --detector sees (default: %(default)s)",
    )
    add(
        "--surrogate",
        type=Path,
        metavar="BUNDLE",
        help="attack/NAME follows the gradients of this bundle (gray-box): of the same classes and input size",
    )
    add(
        "--sigma",
        type=float,
        default=injection.DEFAULT_NOISE_SIGMA_255,
        metavar="LEVELS",
        help="noise in grey levels of 255 (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="seed of noise, corruptions and attacks (default: %(default)s)")


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Add what must hold."""
    add = parser.add_argument_group("limits").add_argument
    add(
        "--limits",
        default="",
        metavar="METRIC=VALUE,...",
        help="exit status 1 unless they hold: clean=0.8 or an injection (lower bound of the accuracy's interval), "
        "agreement/NAME, p50_ms, p95_ms, p99_ms, max_ms (clean answers), failed (share of frames); or a YAML or JSON "
        "file",
    )
    add(
        "--by",
        choices=BY,
        default=TIME,
        help="which frames count as one block of evidence: a stretch of time, objects with one id, a recording, or "
        "each frame alone (default: %(default)s)",
    )
    add(
        "--block-s",
        type=float,
        default=DEFAULT_BLOCK_S,
        metavar="S",
        help="length of a stretch of time in seconds (default: %(default)g)",
    )


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add what is written."""
    add = parser.add_argument_group("outputs").add_argument
    add("--json", nargs="?", const="-", metavar="FILE", help="write JSON to stdout, or to FILE")
    add(
        "--html",
        type=Path,
        metavar="FILE",
        help="also write one page with the table, frames clean and attacked, and latency",
    )
    for name, what in (("markdown", "the table in Markdown"), ("csv", "the table as CSV"), ("junit", "JUnit XML")):
        add(f"--{name}", type=Path, metavar="FILE", help=f"also write {what}")
    add(
        "--mcap",
        type=Path,
        metavar="FILE",
        help="also write images, answers clean and attacked, and drawings of them for Foxglove (lisard_ros[mcap])",
    )


def check(args: argparse.Namespace) -> None:
    """Refuse options that are out of range or contradict each other."""
    if args.mcap is not None:
        mcap_output.require_mcap()
    if args.limit < 0:
        raise UsageError("--limit is negative", found=args.limit, expected="0 (all) or more")
    tolerance = args.label_tolerance_ms
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise UsageError("--label-tolerance-ms out of range", found=tolerance, expected="0 or more milliseconds")
    if not 0 < args.block_s < math.inf:
        raise UsageError("--block-s out of range", found=args.block_s, expected="seconds above 0")
    if args.labels is not None and (args.labels_topic or args.boxes_topic):
        raise UsageError(
            "--labels beside --labels-topic or --boxes-topic",
            found=args.labels,
            expected="labels from a file or from topics",
            cure="give one of both",
        )


def matrix_spec(args: argparse.Namespace) -> MatrixSpec:
    """Return which models are replayed, and what they are attacked with.

    Raises:
        UsageError: A backend is unknown, a bundle is named twice, or options contradict each other.
    """
    paths = tuple(args.bundle)
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise UsageError("a bundle is named twice", found=twice, expected="each --bundle once")
    return MatrixSpec(
        paths,
        engines(args),
        args.injections,
        args.detector,
        args.surrogate,
        args.sigma,
        args.seed,
        args.threads,
        tuple(args.trusted_keys),
    )


def engines(args: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    """Return backend and precision of each engine, each once."""
    if not args.backends:
        return ((args.backend, args.precision),)
    if (args.backend, args.precision) != (backends.AUTO, model_choice.AUTO):
        raise UsageError(
            "--backends beside --backend or --precision",
            found=args.backends,
            expected="one of both",
            cure="name the backend and precision in --backends alone",
        )
    chosen = []
    for word in dict.fromkeys(word.strip() for word in args.backends.split(",") if word.strip()):
        backend, _, precision = word.partition(":")
        if backend not in backends.POLICIES:
            raise unknown_name("backend", backend, backends.POLICIES)
        chosen.append((backend, precision or model_choice.AUTO))
    return tuple(chosen) or ((args.backend, args.precision),)
