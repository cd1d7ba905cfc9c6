"""`lisard bundle`: wrap anybody's ONNX file as a bundle, or show and check an existing bundle."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from lisard_ros import bundle as bundles
from lisard_ros.bundle import Bundle, signature
from lisard_ros.bundle.manifest import Manifest, SelfTestCase
from lisard_ros.cli import EXIT_DONE
from lisard_ros.commands import model_options
from lisard_ros.commands.output import OutputPath, to_json, try_outputs
from lisard_ros.errors import UsageError
from lisard_ros.evaluation import self_test_limits
from lisard_ros.evaluation.self_test_report import SelfTestReport
from lisard_ros.frames import Frame, Pixels
from lisard_ros.image_files.folders import read_rgb
from lisard_ros.onnx_formats import read_file
from lisard_ros.onnx_import import proof, proposal, reference_images
from lisard_ros.onnx_import.proof import CheckedImage
from lisard_ros.onnx_import.proposal import MODEL_FILE, Conclusion, Proposal

SUMMARY = "make a bundle from any ONNX file, or show and check one"
HELP = """Make a bundle from any ONNX file, or show and check one.

  lisard bundle yolo.onnx                      read what is in the file, propose the rest and print it
  lisard bundle yolo.onnx --labels coco.txt --check street.jpg --out models/yolo
  lisard bundle net.onnx --task classification --labels labels.txt --input 224x224 --out models/net \\
      --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --images photos
  lisard bundle models/traffic_signs            show and verify a bundle
  lisard bundle models/traffic_signs --check sign.png
  lisard bundle models/traffic_signs --zip traffic_signs.zip
  lisard bundle sign | verify | keygen --help   signatures (a bundle of such a name: ./sign)

Each value that you do not state is printed on stderr, with the option that overrides it. Look at the image that
--check writes: it is the quickest way to see that colours, mean, layout and labels are right.

--images adds a self test: reference images with their true answers, and limits that are measured now. `lisard attack
run`, `doctor`, `build` and `verify` need it. FOLDER holds class folders, named by label or by index. For a detector it
holds images with annotations.json (COCO), or COCO's folders annotations/ and val2017/.

A bundle made from an ONNX file alone has no PyTorch model and no training card. `lisard build BUNDLE --variants none
--gradient` derives its gradient all the same, for the attacks of `lisard attack run`. The model is run before the
bundle is accepted."""

_SIGNING = "lisard_ros.commands.bundle_signing"
ACTIONS = {"sign": _SIGNING, "verify": _SIGNING, "keygen": _SIGNING}
_SHOWING = ("source", "zip", "check", "json")  # options for an existing bundle; the rest describes a new one
MOST_PROBES = 4  # images of --images with which the format is recognised


@dataclass(frozen=True, slots=True)
class Summary:
    """What `lisard bundle` shows.

    signed_by: id of the key that signature.json names, not checked; '' without one.
    conclusions, notes: what was decided about a new bundle. measured: accuracy of each case of a new self test.
    checked: images of --check.
    """

    path: str
    name: str
    sha256: str
    task: str
    classes: int
    input: str
    models: tuple[str, ...]
    twin: bool
    perturbations: tuple[str, ...]
    self_test: bool
    licence: str
    signed_by: str = ""
    conclusions: tuple[Conclusion, ...] = ()
    notes: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()
    checked: tuple[CheckedImage, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Wrapped:
    """A bundle that was made, and what is to be said of it."""

    bundle: Bundle
    conclusions: tuple[Conclusion, ...]
    notes: tuple[str, ...]
    measured: tuple[str, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", type=Path, metavar="MODEL.onnx|BUNDLE", help="an ONNX file, or a bundle to show")
    parser.add_argument("--out", type=Path, help="folder to write the bundle to (default: ./NAME of the file)")
    parser.add_argument("--zip", type=Path, help="also write the bundle as one .zip")
    parser.add_argument("--name", help="name of the bundle (default: the file's name)")
    parser.add_argument(
        "--check",
        type=Path,
        action="append",
        default=[],
        metavar="IMAGE",
        help="answer an image and write it with its boxes or best classes to OUT_check_IMAGE.png (for an existing "
        "bundle: into the current folder); repeatable",
    )
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="class folders or COCO images for the self test")
    parser.add_argument(
        "--images-count",
        type=int,
        metavar="N",
        help="number of images in the self test (default: two of each class, at least 30 and at most 200; for a "
        "detector 10)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing bundle at --out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    model_options.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Wrap or show, check images, then pack if asked."""
    is_new = args.source.suffix.lower() == ".onnx"
    out = args.out or Path(args.source.stem)
    if is_new:
        _require_place(out, args)
    targets = _check_targets(args, out if is_new else None)
    try_outputs(
        OutputPath("--out", out, "bundle") if is_new else None,
        OutputPath("--zip", args.zip) if args.zip else None,
        *(OutputPath("--check", target, "deep file") for target in targets),
    )
    checks = [read_rgb(path) for path in args.check]
    if is_new:
        wrapped = wrap(args, out, checks)
    else:
        _require_only_shown(args)
        wrapped = Wrapped(bundles.read(bundles.locate(args.source)), (), (), ())
    bundle = wrapped.bundle
    summary = replace(
        summarise(bundle),
        conclusions=wrapped.conclusions,
        notes=wrapped.notes,
        measured=wrapped.measured,
        checked=tuple(_check(bundle, args.check, checks, targets)),
    )
    if args.zip:
        bundles.pack(bundle.path, args.zip)
    for line in (*wrapped.notes, *wrapped.conclusions):
        print(f"lisard: {line}", file=sys.stderr)
    print(to_json(summary) if args.json else _text(summary))
    return EXIT_DONE


def wrap(args: argparse.Namespace, out: Path, checks: list[Pixels]) -> Wrapped:
    """Write a bundle around an ONNX file to `out` after it has proved itself. checks: the images of --check."""
    stated, converted = model_options.stated_of(args)
    file = read_file(args.source)
    images = [*checks, *(reference_images.some_images(args.images, MOST_PROBES) if args.images else ())]
    folder_labels = reference_images.class_names(args.images) if args.images else None
    proposed = proposal.propose(file, stated, images=images, folder_labels=folder_labels)
    contents = {MODEL_FILE: proposed.data}
    with tempfile.TemporaryDirectory(prefix="lisard_bundle_") as folder:
        unproved = bundles.write(Path(folder) / "unproved", proposed.manifest, contents)
        proof.require_answers(unproved, images)
        proof.require_live_scores(unproved, images)
    manifest, measured, left_out = _with_self_test(proposed, contents, args)
    conclusions = proposed.conclusions
    if args.out is None:
        conclusions = (*conclusions, Conclusion("out", str(out), "named as the file", "--out"))
    bundle = bundles.write(out, manifest, contents, overwrite=args.overwrite)
    return Wrapped(bundle, conclusions, (*converted, *proposed.notes, *left_out), measured)


def _with_self_test(
    proposed: Proposal, contents: dict[str, bytes], args: argparse.Namespace
) -> tuple[Manifest, tuple[str, ...], tuple[str, ...]]:
    """The manifest with the self test of --images, which is added to `contents`; what was measured, and notes."""
    if args.images is None:
        return proposed.manifest, (), ()
    chosen = reference_images.choose(args.images, proposed.manifest, args.images_count or 0)
    contents[chosen.test.frames] = chosen.frames
    manifest = msgspec.structs.replace(proposed.manifest, self_test=chosen.test)
    with tempfile.TemporaryDirectory(prefix="lisard_bundle_") as folder:
        written = bundles.write(Path(folder) / "unmeasured", manifest, contents)
        measured = self_test_limits.report(written, [case.injection for case in chosen.test.suite])
    reference_images.require_right_answers(measured, args.images)
    suite = self_test_limits.cases(measured)
    test = msgspec.structs.replace(chosen.test, suite=suite)
    return msgspec.structs.replace(manifest, self_test=test), _measured(measured, suite), chosen.notes


def _measured(report: SelfTestReport, suite: tuple[SelfTestCase, ...]) -> tuple[str, ...]:
    """One line for each case of a new self test."""
    what = {"images": "right", "boxes": "of the true boxes found"}
    return tuple(
        f"{result.injection}: {result.accuracy} {what[result.counted]}, limit {100 * case.min_accuracy:.1f} %"
        for result, case in zip(report.cases, suite, strict=True)
    )


def _check_targets(args: argparse.Namespace, out: Path | None) -> list[Path]:
    """Where the images of --check are written: beside a new bundle at `out`, or here for an existing one."""
    bundle = Path(os.path.abspath(out or args.source))
    stems = [path.stem for path in args.check]
    place, name = bundle.parent if out else Path(), bundle.name.removesuffix(".zip")
    again = [stems[:number].count(stem) + 1 for number, stem in enumerate(stems)]
    return [
        place / f"{name}_check_{stem}{f'_{time}' if time > 1 else ''}.png"
        for stem, time in zip(stems, again, strict=True)
    ]


def _check(bundle: Bundle, files: Sequence[Path], images: list[Pixels], targets: list[Path]) -> list[CheckedImage]:
    """Answer the images of --check and write them with their answers."""
    if not images:
        return []
    pipeline = proof.checking(bundle)
    checked = [
        proof.check_image(pipeline, Frame(rgb, "rgb", 0, "", path.stem), path, target)
        for path, rgb, target in zip(files, images, targets, strict=True)
    ]
    pipeline.close()
    return checked


def summarise(bundle: Bundle) -> Summary:
    """Collect what a person wants to know of a bundle."""
    m = bundle.manifest
    return Summary(
        path=str(bundle.path),
        name=m.name,
        sha256=bundle.sha256,
        task=m.task,
        classes=len(m.labels),
        input=f"{m.input.width}x{m.input.height} {m.input.colour} {m.input.resize} {m.input.interpolation}",
        models=tuple(f"{model.file} {model.precision}/{model.scheme}" for model in m.models),
        twin=m.twin is not None,
        perturbations=tuple(
            f"{p.name} ({p.knowledge} {p.attack}, eps {p.eps_255:g}/255, n={p.count})" for p in m.perturbations
        ),
        self_test=m.self_test is not None,
        licence=m.card.licence if m.card else "not stated",
        signed_by=signature.parse(bundle.signature, f"bundle {bundle.path}").key_id if bundle.signature else "",
    )


def _text(summary: Summary) -> str:
    rows = [
        ("bundle", f"{summary.name} at {summary.path}"),
        ("sha256", summary.sha256),
        ("task", f"{summary.task}, {summary.classes} classes"),
        ("input", summary.input),
        ("models", ", ".join(summary.models)),
        ("PyTorch model", "yes" if summary.twin else "no"),
        ("perturbations", ", ".join(summary.perturbations) or "none"),
        ("self test", "yes" if summary.self_test else "no"),
        ("licence", summary.licence),
        ("verified", "every file matches its hash"),
        *([("signature", f"key {summary.signed_by}, not checked (lisard bundle verify)")] if summary.signed_by else []),
        *(("measured", line) for line in summary.measured),
    ]
    for image in summary.checked:
        rows += [("checked", f"{image.file}, written with its answers to {image.saved}")]
        rows += [("", answer) for answer in image.answers or ("nothing found",)]
    return "\n".join(f"{key:<14} {value}" for key, value in rows)


def _require_only_shown(args: argparse.Namespace) -> None:
    """Refuse options that would change an existing bundle, instead of ignoring them in silence."""
    given = [name for name, value in vars(args).items() if value is not None and value is not False and value != ""]
    ignored = [f"--{name.replace('_', '-')}" for name in given if name not in _SHOWING]
    if ignored:
        raise UsageError(
            "an existing bundle is shown, checked and packed, not changed",
            found=", ".join(ignored),
            expected="only --check, --zip or --json for a bundle",
            cure="make it again from its ONNX file",
        )


def _require_place(out: Path, args: argparse.Namespace) -> None:
    if out.exists() and not args.overwrite:
        raise UsageError("the bundle exists already", found=str(out), cure="choose another --out or pass --overwrite")
    if args.images_count is not None and (args.images_count < 1 or args.images is None):
        raise UsageError(
            "--images-count",
            found=args.images_count if args.images else "no --images",
            expected="1 or more, with --images",
        )
