"""`lisard build`: fp16 and int8 files of a bundle and TensorRT engines, each verified before it is taken; gradients."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from lisard_ros import bundle as bundles
from lisard_ros import cli
from lisard_ros.bundle import Bundle
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands.output import OutputPath, to_json, try_outputs
from lisard_ros.errors import UsageError

from .. import image_sets
from ..gradient import derive
from ..quantization import int8
from ..verification import deployment, tables, variants
from . import options

SUMMARY = "make fp16 and int8 files and TensorRT engines, verified, and gradients for attacks"
HELP = """Build what runs in the vehicle: fp16 and int8 ONNX files and TensorRT engines. Each file is compared with
fp32 on real images, clean and under the bundle's stored perturbations. A file that loses more than the limits is not
installed. An engine is compared in the same way where it can run; elsewhere it is marked unverified.

  lisard build models/traffic_signs --calibration data/train --images data/gtsrb_tracks
  lisard build models/traffic_signs --variants fp16
  lisard build models/traffic_signs --variants none --engines tensorrt       on the Jetson: engines of all models
  lisard build models/traffic_signs --variants none --gradient               for attacks on the vehicle, without torch
  lisard build runs/my_run --out models/my_model --calibration data/train    exports the run first

int8 is calibrated on real images only. Use training images, not those on which the result is judged.
Exit status 1 if a variant or engine lost more than the limits."""

CALIBRATION_IMAGES = 512


class BuildReport(msgspec.Struct, frozen=True):
    """What was made. gradient: the file in the cache, '' if it was not asked for."""

    bundle: str
    bundle_sha256: str
    variants: tuple[variants.Made, ...]
    engines: tuple[deployment.Deployed, ...] = msgspec.field(name="plans")
    gradient: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", type=Path, help="bundle (folder or .zip), or a run folder of `lisard train`")
    parser.add_argument("--out", type=Path, help="bundle folder to write (default: the bundle itself)")
    parser.add_argument(
        "--variants",
        default="fp16,u8s8,s8s8",
        metavar="NAMES",
        help="fp16, u8s8 (int8 for CPUs), s8s8 (int8 for TensorRT), or none (default: %(default)s)",
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="FOLDER", help="real images to calibrate int8: a folder or an .npz"
    )
    parser.add_argument(
        "--calibration-count",
        type=int,
        default=CALIBRATION_IMAGES,
        metavar="N",
        help="how many calibration images, spread evenly; 0: all (default: %(default)s)",
    )
    parser.add_argument(
        "--method",
        choices=tuple(int8.METHODS),
        default=int8.DEFAULT_METHOD,
        help="how calibration sets the ranges of activations (default: %(default)s)",
    )
    parser.add_argument(
        "--engines",
        default="none",
        metavar="PRODUCTS",
        help="tensorrt (for this GPU), tensorrt_rtx (for RTX cards, needs none to build), or none (default: none)",
    )
    parser.add_argument(
        "--engine-policy",
        choices=("build", "rebuild", "require"),
        default="build",
        help="build what the cache does not have, build everything again, or only use the cache (default: %(default)s)",
    )
    parser.add_argument(
        "--gradient",
        action="store_true",
        help="derive the gradient of the attacks' losses from the fp32 model, into the engine cache",
    )
    options.add_builder(parser)
    options.add_gate(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Build and report what was installed; exit status 1 when the gate refused something."""
    bundle = source_bundle(args)
    out = args.out or bundle.path
    if out.suffix == ".zip" or out.is_file():
        raise UsageError("cannot add to a .zip", found=str(out), expected="a bundle folder", cure="pass --out FOLDER")
    try_outputs(OutputPath("--out" if args.out else "the bundle itself", out, "bundle"))
    products = named(args.engines)
    builders = [deployment.builder(name, options.builder_settings(args)) for name in products]  # before the long work
    added = variants.add(bundle, build_request(args, bundle), out, say)
    work = deployment.Work(options.gate_images(args, bundle), options.limits(args), args.engine_policy, args.force)
    deployed = [done for one in builders for done in deployment.deploy_all(added.bundle, one, work, say)]
    gradient = str(derive.provide(added.bundle)) if args.gradient else ""
    report = BuildReport(str(added.bundle.path), added.bundle.sha256, added.made, tuple(deployed), gradient)
    print(to_json(report) if args.json else text(report))
    refused = [made for made in added.made if not made.installed] + [d for d in deployed if d.state == "refused"]
    return EXIT_CHECK_FAILED if refused else EXIT_DONE


def say(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


def source_bundle(args: argparse.Namespace) -> Bundle:
    """Read the bundle; a run folder is exported first, by the trainer's own command."""
    if (args.source / bundles.MANIFEST_NAME).is_file() or not args.source.is_dir():
        return bundles.read(args.source)
    if args.out is None:
        raise UsageError("a run folder needs --out", found="none", expected="the bundle folder to write")
    status = cli.main(["export", str(args.source), "--out", str(args.out)])
    if status != EXIT_DONE:
        raise UsageError("the export failed, see above", found=f"exit status {status}", expected=EXIT_DONE)
    return bundles.read(args.out)


def named(words: str) -> tuple[str, ...]:
    """Read names with commas between them; `none` stands for none."""
    return tuple(name for name in map(str.strip, words.split(",")) if name and name != "none")


def build_request(args: argparse.Namespace, bundle: Bundle) -> variants.BuildRequest:
    """Turn the arguments into what is to be made."""
    names = named(args.variants)
    calibration = None
    if args.calibration is not None:
        calibration = image_sets.read(args.calibration, bundle.manifest.labels, args.calibration_count)
    return variants.BuildRequest(
        names, options.gate_images(args, bundle), calibration, args.method, options.limits(args), args.force
    )


def text(report: BuildReport) -> str:
    """Lay out each variant's comparison and verdict, then the engines."""
    parts = [f"bundle {report.bundle} ({report.bundle_sha256[:12]})"]
    for variant in report.variants:
        verdict = tables.verdict(variant.model.verification) if variant.model.verification else ""
        parts.append(f"{variant.model.file}: {tables.comparison(variant.measured)}\n{verdict}")
    gradient = [f"gradient: {report.gradient}"] if report.gradient else []
    return "\n\n".join([*parts, *(tables.engine(done) for done in report.engines), *gradient])
