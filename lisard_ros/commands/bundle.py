"""`lisard bundle`: wrap anybody's ONNX file as a bundle, or show and check an existing bundle."""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from numpy import zeros

from lisard_ros import backends
from lisard_ros import bundle as bundles
from lisard_ros.backends.onnx_runtime import load_session
from lisard_ros.bundle import Bundle
from lisard_ros.cli import EXIT_DONE
from lisard_ros.commands.output import OutputPath, to_json, try_outputs
from lisard_ros.errors import BundleError, UsageError
from lisard_ros.frames import Frame
from lisard_ros.manifest import Activation, Decode, InputSpec, Layout, Manifest, ModelFile, OutputSpec, validate
from lisard_ros.pipeline import Failure, Pipeline

HELP = """Make a bundle from any ONNX file, or show and check one.

  lisard bundle net.onnx --task classification --labels labels.txt --input 224x224 --out models/net
  lisard bundle yolo.onnx --task detection --labels coco.txt --input 640x640 --std 0.00392156862745098 \\
      --colour bgr --resize letterbox --layout cxcywh_objectness_classes --out models/yolo
  lisard bundle models/traffic_signs            show and verify a bundle
  lisard bundle models/traffic_signs --zip traffic_signs.zip

A bundle made from a bare ONNX file has no torch twin and no training card: gradient attacks then say why they are
unavailable. The model is run once before the bundle is accepted."""

_FIXED = {"resize": ("stretch", "letterbox"), "colour": ("rgb", "bgr")}
_LAYOUTS = ("xyxy_objectness_classes", "cxcywh_objectness_classes", "cxcywh_classes_first")


@dataclass(frozen=True, slots=True)
class Summary:
    """What `lisard bundle BUNDLE` shows."""

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


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", type=Path, metavar="MODEL.onnx|BUNDLE", help="an ONNX file, or a bundle to show")
    parser.add_argument("--out", type=Path, help="folder to write the bundle to")
    parser.add_argument("--zip", type=Path, help="also write the bundle as one .zip")
    parser.add_argument("--name", help="name of the bundle (default: the file's name)")
    parser.add_argument("--task", choices=("classification", "detection"), help="what the model does")
    parser.add_argument("--labels", help="file with one label per line, or a comma-separated list")
    parser.add_argument("--input", metavar="WxH", help="input size in pixels, e.g. 224x224")
    parser.add_argument("--colour", choices=_FIXED["colour"], default="rgb", help="(default: %(default)s)")
    parser.add_argument("--mean", default="0", help="per channel or one number, for pictures in [0, 1]")
    parser.add_argument("--std", default="1", help="likewise; a model that wants 0..255 has 0.00392156862745098")
    parser.add_argument("--resize", choices=_FIXED["resize"], default="stretch", help="(default: %(default)s)")
    parser.add_argument("--output", help="name of the ONNX output (default: the only one)")
    parser.add_argument(
        "--activation",
        choices=("softmax", "sigmoid", "none"),
        help="what turns outputs into scores (default: softmax; none for detection)",
    )
    parser.add_argument("--layout", choices=_LAYOUTS, help="layout of a detection output")
    parser.add_argument("--roi-classes", default="", help="detector classes worth classifying, comma-separated")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing bundle at --out")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Wrap or show, then pack if asked."""
    try_outputs(
        OutputPath("--out", args.out, "bundle") if args.out else None,
        OutputPath("--zip", args.zip) if args.zip else None,
    )
    bundle = wrap(args) if args.source.suffix.lower() == ".onnx" else bundles.read(args.source)
    if args.zip:
        bundles.pack(bundle.path, args.zip)
    summary = summarise(bundle)
    print(to_json(summary) if args.json else _text(summary))
    return EXIT_DONE


def wrap(args: argparse.Namespace) -> Bundle:
    """Write a bundle around an ONNX file and prove that it answers."""
    _require(args)
    data = _read_model(args.source)
    manifest = Manifest(
        name=readable(args.name or args.source.stem),
        task=args.task,
        labels=_labels(args.labels),
        input=_input(args),
        output=_output(args, data),
        models=(ModelFile(file="model.onnx"),),
        decode=Decode(layout=_layout(args)) if args.task == "detection" else None,
        roi_classes=tuple(readable(word) for word in map(str.strip, args.roi_classes.split(",")) if word),
    )
    validate(manifest, "the options of the bundle", "check --labels, --input, --mean, --std and --name")
    with tempfile.TemporaryDirectory(prefix="lisard_bundle_") as folder:
        prove(bundles.write(Path(folder) / "unproved", manifest, {"model.onnx": data}))
    return bundles.write(args.out, manifest, {"model.onnx": data}, overwrite=args.overwrite)


def prove(bundle: Bundle) -> None:
    """Answer two black pictures in one batch; the first failure (shape, numbers, batch) becomes a BundleError."""
    spec = bundle.manifest.input
    frame = Frame(zeros((spec.height, spec.width, 3), "uint8"), "rgb", 0, "", "proof")
    pipeline = Pipeline(bundle, backends.choose(bundle))
    outcomes = pipeline.run([frame, frame])
    pipeline.close()
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            error = outcome.error
            raise BundleError(
                error.what,
                found=error.found,
                expected=error.expected,
                cure="check --labels, --task, --output, --activation and --layout",
            ) from error


def summarise(bundle: Bundle) -> Summary:
    """Collect what a person wants to know of a bundle."""
    m = bundle.manifest
    return Summary(
        path=str(bundle.path),
        name=m.name,
        sha256=bundle.sha256,
        task=m.task,
        classes=len(m.labels),
        input=f"{m.input.width}x{m.input.height} {m.input.colour} {m.input.resize}",
        models=tuple(f"{model.file} {model.precision}/{model.flavour}" for model in m.models),
        twin=m.twin is not None,
        perturbations=tuple(
            f"{p.name} ({p.knowledge} {p.attack}, eps {p.eps_255:g}/255, n={p.count})" for p in m.perturbations
        ),
        self_test=m.self_test is not None,
        licence=m.card.licence if m.card else "not stated",
    )


def _text(summary: Summary) -> str:
    rows = [
        ("bundle", f"{summary.name} at {summary.path}"),
        ("sha256", summary.sha256),
        ("task", f"{summary.task}, {summary.classes} classes"),
        ("input", summary.input),
        ("models", ", ".join(summary.models)),
        ("torch twin", "yes" if summary.twin else "no"),
        ("perturbations", ", ".join(summary.perturbations) or "none"),
        ("self test", "yes" if summary.self_test else "no"),
        ("licence", summary.licence),
        ("verified", "every file matches its hash"),
    ]
    return "\n".join(f"{key:<14} {value}" for key, value in rows)


def _require(args: argparse.Namespace) -> None:
    missing = [f"--{name}" for name in ("task", "labels", "input", "out") if getattr(args, name) is None]
    if missing:
        raise UsageError(
            "an ONNX file needs more to become a bundle",
            found="no " + ", ".join(missing),
            cure="see `lisard bundle --help`",
        )
    if args.out.exists() and not args.overwrite:
        raise UsageError("bundle exists already", found=str(args.out), cure="choose another --out or pass --overwrite")


def _read_model(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            "cannot read the ONNX file", found=f"{path}: {error.strerror}", expected="a file that exists"
        ) from error


def _labels(text: str) -> tuple[str, ...]:
    is_file = os.path.isfile(text)
    if not is_file and "," not in text and (os.sep in text or Path(text).suffix):
        raise UsageError(
            "cannot read the label file",
            found=f"no file {text}",
            expected="a file with one label per line",
            cure="give its path, or labels with commas",
        )
    try:
        words = Path(text).read_text(encoding="utf-8-sig").splitlines() if is_file else text.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("cannot read the label file", found=f"{text}: {error}", expected="UTF-8 text") from error
    return tuple(readable(word.strip()) for word in words if word.strip())


def readable(word: str) -> str:
    """Return a word of the command line as text where the terminal's encoding could not: Python then keeps its bytes.

    Args:
        word: As Python gave it; a byte that it could not decode is a lone surrogate.

    Returns:
        The word, with such bytes read as UTF-8.

    Raises:
        UsageError: They are no UTF-8.
    """
    if not any("\ud800" <= letter <= "\udfff" for letter in word):
        return word
    try:
        return os.fsencode(word).decode("utf-8")
    except UnicodeError as error:
        raise UsageError(
            "cannot read a name or label", found=ascii(word), expected="UTF-8 text", cure="set LC_ALL=C.UTF-8"
        ) from error


def _input(args: argparse.Namespace) -> InputSpec:
    try:
        width, height = (int(side) for side in args.input.lower().split("x"))
        return InputSpec(
            width=width,
            height=height,
            colour=args.colour,
            mean=_triple(args.mean),
            std=_triple(args.std),
            resize=args.resize,
        )
    except ValueError as error:
        raise UsageError(
            "cannot read --input, --mean or --std",
            found=f"{args.input}, {args.mean}, {args.std}",
            expected="WxH and one or three numbers",
        ) from error


def _triple(text: str) -> tuple[float, float, float]:
    numbers = [float(part) for part in text.split(",")]
    first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    return first, second, third


def _output(args: argparse.Namespace, data: bytes) -> OutputSpec:
    activation: Activation = args.activation or ("none" if args.task == "detection" else "softmax")
    return OutputSpec(name=args.output or _only_output(data), activation=activation)


def _only_output(data: bytes) -> str:
    names = [output.name for output in load_session(data, "the model", 1).get_outputs()]
    if len(names) != 1:
        raise UsageError("the model has several outputs", found=", ".join(names), cure="name one with --output")
    return names[0]


def _layout(args: argparse.Namespace) -> Layout:
    if args.layout is None:
        raise UsageError("a detection model needs --layout", found="none", expected=" | ".join(_LAYOUTS))
    layout: Layout = args.layout
    return layout
