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
    """Add the images and the limits of the gate."""
    parser.add_argument(
        "--images",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="more images to compare on, beside the bundle's own: CLASS/TRACK_FRAME.png, an .npz, or for a detector a "
        "folder with annotations.json (COCO); repeatable",
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
        help="percentage points that may be lost under the worst stored perturbation (default: %(default)s)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="install it even if it loses more than the limits; /diagnostics then warns while it runs",
    )


def add_builder(parser: argparse.ArgumentParser) -> None:
    """Add the settings of the builder."""
    parser.add_argument(
        "--batches",
        default="1,1,8",
        metavar="LEAST,USUAL,MOST",
        help="batches of the optimisation profile (default: %(default)s)",
    )
    parser.add_argument(
        "--workspace-mib",
        type=int,
        default=_BUILDER.workspace_mib,
        help="GPU memory that the builder may use, in MiB (default: %(default)s)",
    )
    parser.add_argument(
        "--level",
        type=int,
        default=_BUILDER.level,
        help="optimisation level of the builder, 0..5; higher searches longer (default: %(default)s)",
    )
    parser.add_argument(
        "--dla-core",
        type=int,
        default=_BUILDER.dla_core,
        help="DLA core of a Jetson; the GPU runs what DLA cannot; -1: the GPU alone (default: %(default)s)",
    )
    parser.add_argument(
        "--targets",
        default=",".join(map(str, _BUILDER.targets)),
        metavar="CAPABILITIES",
        help="compute capabilities that tensorrt_rtx engines are built for (default: %(default)s)",
    )


def builder_settings(args: argparse.Namespace) -> BuilderSettings:
    """Return the settings of the builder."""
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
    with_boxes = bundle.manifest.runtime_task.finds_boxes
    more = [image_sets.read(path, bundle.manifest.labels, with_boxes=with_boxes) for path in args.images]
    return image_sets.joined([image_sets.of_bundle(bundle), *more])
