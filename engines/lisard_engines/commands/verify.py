"""`lisard verify`: does the deployed model answer and resist as the evaluated one does?"""

from __future__ import annotations

import argparse
from pathlib import Path

from lisard_ros import backends
from lisard_ros import bundle as bundles
from lisard_ros.bundle import model_choice
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands.output import OutputPath, to_json, try_outputs

from .. import verification
from ..verification import tables
from . import options

SUMMARY = "compare a variant or engine with the model that was evaluated"
HELP = """Compare a variant or engine with the PyTorch model (or the fp32 file) on real images, clean and under the
bundle's stored perturbations. The check fails if it loses more than the limits.

  lisard verify models/traffic_signs --precision int8
  lisard verify models/traffic_signs --precision fp16 --images data/gtsrb_tracks
  lisard verify models/traffic_signs --backend openvino
  lisard verify models/traffic_signs --backend tensorrt --precision fp16     on the device of the engine

The verdict on an engine is kept beside it. --record writes the verdict on a variant into the bundle, and removes the
variant if it failed (which changes the bundle's hash). Exit status 1 when the comparison fails."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bundle", type=Path, help="model bundle (folder or .zip)")
    parser.add_argument(
        "--backend",
        choices=tuple(backends.MAKERS),
        default="onnxruntime",
        help="backend to check (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=model_choice.PRECISIONS[1:],
        default="fp32",
        help="precision to check (default: %(default)s)",
    )
    parser.add_argument(
        "--scheme",
        choices=("", "plain", "u8s8", "s8s8"),
        default="",
        help="quantization scheme of int8 (default: the one for the backend)",
    )
    parser.add_argument(
        "--reference",
        choices=verification.REFERENCES,
        default="auto",
        help="auto: the PyTorch model where it can run, else the fp32 file (default: %(default)s)",
    )
    options.add_gate(parser)
    parser.add_argument("--record", action="store_true", help="write the verdict on a variant into the bundle")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Compare, record, print; exit status 1 when the gate fails and nothing was forced."""
    bundle = bundles.read(args.bundle if args.record else bundles.locate(args.bundle))
    try_outputs(OutputPath("BUNDLE (--record)", args.bundle, "bundle") if args.record else None)
    under_test = verification.ModelUnderTest(args.backend, args.precision, args.scheme)
    verdict = verification.verify(
        bundle,
        under_test,
        options.gate_images(args, bundle),
        options.limits(args),
        reference=args.reference,
        force=args.force,
    )
    if args.record and not verdict.recorded:
        verification.record(bundle, under_test, verdict.verification, args.bundle)
    report = f"{tables.comparison(verdict.measured)}\n{tables.verdict(verdict.verification)}"
    print(to_json(verdict) if args.json else report)
    return EXIT_DONE if verdict.verification.passed or verdict.verification.forced else EXIT_CHECK_FAILED
