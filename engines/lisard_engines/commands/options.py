"""Arguments that several subcommands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from lisard_ros.bundle import Bundle

from .. import pictures
from ..gate import Limits
from ..pictures import PictureSet

_LIMITS = Limits()


def add_gate(parser: argparse.ArgumentParser) -> None:
    """Add what the gate judges on, and what may be lost."""
    parser.add_argument("--pictures", type=Path, action="append", default=[], metavar="FOLDER",
                        help="more pictures for the gate, CLASS/TRACK_FRAME.png or .npz; the bundle's own always count")
    parser.add_argument("--max-clean-loss", type=float, default=_LIMITS.clean_points, metavar="POINTS",
                        help="percentage points of clean accuracy that may be lost (default: %(default)s)")
    parser.add_argument("--max-robust-loss", type=float, default=_LIMITS.robust_points, metavar="POINTS",
                        help="likewise under the worst stored perturbation (default: %(default)s)")
    parser.add_argument("--force", action="store_true",
                        help="install what the gate refuses; diagnostics then say so for as long as it runs")


def limits(args: argparse.Namespace) -> Limits:
    """Return the limits of the gate."""
    return Limits(args.max_clean_loss, args.max_robust_loss)


def gate_pictures(args: argparse.Namespace, bundle: Bundle) -> PictureSet:
    """Return the bundle's own pictures and those of --pictures."""
    more = [pictures.read(path, bundle.manifest.labels) for path in args.pictures]
    return pictures.joined([pictures.of_bundle(bundle), *more])
