"""Arguments that several subcommands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from lisard_ros.bundle import Bundle
from lisard_ros.errors import UsageError

from .. import image_sets
from ..image_sets import ImageSet
from ..tensorrt import Batches, BuilderSettings
from ..verification.gate import Limits

_LIMITS = Limits()
_BUILDER = BuilderSettings()


def add_gate(parser: argparse.ArgumentParser) -> None:
    """Add what the gate judges on, and what may be lost."""
    parser.add_argument(
        "--images",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="more images to judge on: CLASS/TRACK_FRAME.png, .npz, or for a detector a folder with "
        "annotations.json (COCO); the bundle's own always count",
    )
    parser.add_argument(
        "--max-clean-loss",
        type=float,
        default=_LIMITS.clean_points,
        metavar="POINTS",
        help="percentage points of clean accuracy that may be lost (default: %(default)s)",
    )
    parser.add_argument(
        "--max-robust-loss",
        type=float,
        default=_LIMITS.robust_points,
        metavar="POINTS",
        help="likewise under the worst stored perturbation (default: %(default)s)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="install what loses more than the limits; /diagnostics then warns as long as it runs",
    )


def add_builder(parser: argparse.ArgumentParser) -> None:
    """Add the settings of engines."""
    parser.add_argument(
        "--batches",
        default="1,1,8",
        metavar="LEAST,USUAL,MOST",
        help="batches of the optimisation profile (default: %(default)s)",
    )
    parser.add_argument("--workspace-mib", type=int, default=_BUILDER.workspace_mib, help="(default: %(default)s)")
    parser.add_argument(
        "--level", type=int, default=_BUILDER.level, help="how long the builder searches, 0..5 (default: %(default)s)"
    )
    parser.add_argument("--dla-core", type=int, default=_BUILDER.dla_core, help="-1: only the GPU (default)")
    parser.add_argument(
        "--targets",
        default=",".join(map(str, _BUILDER.targets)),
        metavar="CAPABILITIES",
        help="compute capabilities of tensorrt_rtx engines (default: %(default)s)",
    )


def builder_settings(args: argparse.Namespace) -> BuilderSettings:
    """Return the settings of engines."""
    try:
        least, usual, most = (int(word) for word in args.batches.split(","))
        targets = tuple(int(word) for word in args.targets.split(","))
    except ValueError as error:
        raise UsageError(
            "cannot read --batches or --targets",
            found=f"{args.batches} and {args.targets}",
            expected="whole numbers such as 1,1,8 and 86,89,120",
        ) from error
    return BuilderSettings(Batches(least, usual, most), args.workspace_mib, args.level, args.dla_core, targets)


def limits(args: argparse.Namespace) -> Limits:
    """Return the limits of the gate."""
    return Limits(args.max_clean_loss, args.max_robust_loss)


def gate_images(args: argparse.Namespace, bundle: Bundle) -> ImageSet:
    """Return the bundle's own images and those of --images."""
    with_boxes = bundle.manifest.task == "detection"
    more = [image_sets.read(path, bundle.manifest.labels, with_boxes=with_boxes) for path in args.images]
    return image_sets.joined([image_sets.of_bundle(bundle), *more])
