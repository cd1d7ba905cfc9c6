"""`lisard bench`: how fast a bundle's models are on this machine, and where a frame's time goes."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lisard_ros import bundle as bundles
from lisard_ros.backends import MAKERS, default_threads
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import MAX_SIDE_PX
from lisard_ros.bundle.model_choice import PRECISIONS
from lisard_ros.cli import EXIT_DONE
from lisard_ros.commands.output import OutputPath, table, to_json, try_outputs, write_text
from lisard_ros.errors import UsageError, unknown_name
from lisard_ros.frames import Frame

from .. import benchmark, image_sets
from ..benchmark import BenchmarkReport
from ..verification import ModelUnderTest

SUMMARY = "latency, throughput and memory of a bundle's models here"
HELP = """Measure latency, throughput and memory. All backends are measured in the same rounds, so their
ratios are valid on a busy machine; absolute times do not.

  lisard bench models/traffic_signs
  lisard bench models/traffic_signs --backends onnxruntime:fp32,onnxruntime:int8,openvino:int8 --batches 1,8,32
  lisard bench models/traffic_signs --backends tensorrt:fp16 --json bench.json        on a Jetson
  lisard bench models/traffic_signs --detector DETECTOR --images ROAD --frame-size 1280x720     two stages

LIST has BACKEND:PRECISION, or BACKEND:int8/SCHEME (u8s8, s8s8)."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bundle", type=Path, help="model bundle (folder or .zip)")
    parser.add_argument(
        "--backends",
        default="onnxruntime:fp32",
        metavar="LIST",
        help="what to measure, comma-separated (default: %(default)s)",
    )
    parser.add_argument(
        "--batches", default="1,8", metavar="SIZES", help="batch sizes of the runtime alone (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=200, help="measurements of each backend (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of each runtime; 0: one for each core, at most 8 (default: 0)"
    )
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="images to answer (default: the bundle's reference images)"
    )
    parser.add_argument(
        "--frame-size", metavar="WxH", help="scale the images to this size, in BGR as most cameras publish"
    )
    parser.add_argument("--detector", type=Path, help="detection bundle: measure both stages")
    parser.add_argument(
        "--clock",
        choices=tuple(benchmark.CLOCKS),
        default="wall",
        help="cpu: processor time of this process, for a shared machine (default: %(default)s)",
    )
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write JSON to stdout, or to FILE")


def run(args: argparse.Namespace) -> int:
    """Measure, then print the table, JSON, or both."""
    try_outputs(OutputPath("--json", Path(args.json)) if args.json and args.json != "-" else None)
    bundle = bundles.read(bundles.locate(args.bundle))
    models = [model_of(word, args.threads or default_threads()) for word in args.backends.split(",")]
    detector = bundles.read(bundles.locate(args.detector)) if args.detector is not None else None
    frames, what = frames_of(args, bundle)
    with tqdm(total=args.rounds, unit="round", disable=None) as bar:
        report = benchmark.measure(
            bundle,
            models,
            frames,
            what,
            batches=sizes(args.batches),
            rounds=args.rounds,
            detector=detector,
            clock=args.clock,
            progress=bar.update,
        )
    if args.json == "-":
        print(to_json(report))
        return EXIT_DONE
    if args.json:
        write_text(Path(args.json), to_json(report) + "\n")
    print(text(report))
    return EXIT_DONE


def model_of(word: str, threads: int) -> ModelUnderTest:
    """Read BACKEND:PRECISION or BACKEND:PRECISION/SCHEME."""
    backend, _, variant = word.strip().partition(":")
    precision, _, scheme = (variant or "fp32").partition("/")
    if backend not in MAKERS:
        raise unknown_name("backend", backend, MAKERS)
    if precision not in PRECISIONS[1:]:
        raise unknown_name("precision", precision, PRECISIONS[1:])
    return ModelUnderTest(backend, precision, scheme, threads)


def sizes(text: str) -> tuple[int, ...]:
    """Read the batch sizes."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise UsageError("cannot read --batches", found=text, expected="whole numbers such as 1,8,32") from error


def frames_of(args: argparse.Namespace, bundle: Bundle) -> tuple[tuple[Frame, ...], str]:
    """Return what is answered, and how the report calls it."""
    if args.images is not None:
        images = image_sets.read(args.images, bundle.manifest.labels)
        frames, what = images.frames, f"{len(images)} images of {images.name}"
    elif len(images := image_sets.of_bundle(bundle)):
        frames, what = images.frames, f"{len(images)} reference images of the bundle"
    else:
        spec = bundle.manifest.input
        grey = np.full((spec.height, spec.width, 3), 127, np.uint8)
        frames, what = (Frame(grey, "rgb", 0, "", "bench"),), "a grey image (the bundle has none of its own)"
    if args.frame_size is None:
        return frames, what
    width, height = size_px(args.frame_size)
    return tuple(as_camera(frame, width, height) for frame in frames), f"{what} at {width}x{height}"


def size_px(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT."""
    width, _, height = text.partition("x")
    numbers = [int(word) if word.isdecimal() else 0 for word in (width, height)]
    if not all(1 <= number <= MAX_SIDE_PX for number in numbers):
        raise UsageError("cannot read --frame-size", found=text, expected=f"such as 640x480, sides 1..{MAX_SIDE_PX}")
    return numbers[0], numbers[1]


def as_camera(frame: Frame, width_px: int, height_px: int) -> Frame:
    """Return the frame at another size, in the colour order that most drivers publish."""
    scaled = cv2.resize(frame.rgb(), (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return Frame(
        np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2BGR), np.uint8),
        "bgr",
        frame.stamp_ns,
        frame.frame_id,
        frame.camera,
    )


def text(report: BenchmarkReport) -> str:
    """Lay the report out for people."""
    m = report.machine
    first = f"{report.detector} ({report.detector_sha256[:12]}) before " if report.detector else ""
    head = (
        f"{first}{report.bundle} ({report.bundle_sha256[:12]}), {report.rounds} rounds, {report.threads} threads, "
        f"{report.clock} clock, {report.frames}\n{m.cpu}, {m.cores} cores, load {m.load_1min}; GPU {m.gpu}; "
        f"power mode {m.power_mode}"
    )
    batches = [
        (one.backend, b.batch, *_three(b.latency), f"{b.pictures_per_s:.0f}", f"{b.ratio:.2f}")
        for one in report.measured
        for b in one.batches
    ]
    runtime = table(("runtime alone", "batch", "p50 ms", "p95", "p99", "images/s", "time by first"), batches)
    rows = [
        (
            one.backend,
            *_three(one.pipeline),
            *(f"{stage.p50_ms:.3f}" for stage in (one.preprocess, one.infer, one.postprocess)),
            f"{one.looks:.1f}",
            f"{one.pipeline_by_raw:.2f}",
            f"{one.memory_mib:.0f}",
        )
        for one in report.measured
    ]
    stages = table(
        ("one frame", "p50 ms", "p95", "p99", "pre p50", "infer p50", "post p50", "looks", "by raw", "MiB"), rows
    )
    return f"{head}\n\n{runtime}\n\n{stages}"


def _three(times: benchmark.Percentiles) -> tuple[str, str, str]:
    return f"{times.p50_ms:.3f}", f"{times.p95_ms:.3f}", f"{times.p99_ms:.3f}"
