"""`lisard replay`: score a recorded drive with the same pipeline as the node, without DDS, every frame once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from lisard_ros import backends, injection
from lisard_ros.bags import page
from lisard_ros.bags.album import Album
from lisard_ros.bags.evaluation import NO_EFFECT, NOT_APPLIED, CameraResult, Replay, Seen, evaluate, side_by_side
from lisard_ros.bags.reader import Bag, BagFrame, open_bag
from lisard_ros.bundle import model_choice
from lisard_ros.bundle.manifest import DETECTOR_PREFIX
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands import bundle_signing
from lisard_ros.commands.output import OutputPath, progress, table, to_json, try_outputs, write_text
from lisard_ros.errors import UsageError, unknown_name
from lisard_ros.inference.pipeline import Pipeline, open_pipeline
from lisard_ros.reporting import pages
from lisard_ros.tracking import NONE, TRACKERS
from lisard_ros.tracking.stage import require_boxes

SUMMARY = "score a recorded drive: accuracy, robustness, latency"
HELP = """Score a recorded drive, clean and attacked: accuracy if the bag has labels, else agreement with the clean
answers. Also latency percentiles by stage.

  lisard replay data/road_drive --bundle models/traffic_signs
  lisard replay data/road_signs --bundle models/traffic_signs --injections noise,universal --json out.json
  lisard replay data/road_signs --bundle models/road_signs --injections all --html replay.html      # with images
  lisard replay drive --bundle models/traffic_signs --topics /front/image_raw --injections all
  lisard replay drive --bundle models/my_model --backends onnxruntime:fp32,onnxruntime:int8,openvino --html replay.html
  lisard replay drive --bundle models/traffic_signs --injections corruption/fog/3,corruption/motion_blur/5

Labels: a vision_msgs/Classification topic (whole frames) or Detection2DArray topic (boxes), joined by stamp.
A detector is scored by the share of those boxes (else of its own clean ones) that it finds: same class, IoU >= 0.5.
All other boxes are counted as false. `clean there`: the score of the clean answers over the same frames or boxes.

Exit status 1 if no image of the recording could be answered."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("bag", type=Path, help="rosbag2 folder or ROS 1 .bag")
    parser.add_argument("--bundle", type=Path, required=True, help="model bundle (folder or .zip)")
    parser.add_argument("--detector", type=Path, help="detection bundle: classify the boxes that it finds")
    parser.add_argument("--topics", default="", help="image topics, comma-separated (default: all)")
    parser.add_argument(
        "--labels-topic", help="vision_msgs/Classification topic with the truth (default: the only one)"
    )
    parser.add_argument("--boxes-topic", help="vision_msgs/Detection2DArray topic with boxes (default: the only one)")
    parser.add_argument(
        "--injections",
        default="noise",
        metavar="NAMES",
        help="injections, comma-separated, `all` (of the bundles) or `none`; "
        f"{injection.CORRUPTION_PATTERN} for any bundle; detector/NAME: into what --detector sees "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--sigma",
        type=float,
        default=injection.DEFAULT_NOISE_SIGMA_255,
        metavar="LEVELS",
        help="noise in grey levels of 255 (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of noise and corruptions (default: %(default)s)")
    parser.add_argument(
        "--tracking",
        choices=TRACKERS,
        default=NONE,
        help="follow the objects of the clean answers: ids, and the boxes of each track (default: %(default)s)",
    )
    parser.add_argument(
        "--limit", type=int, default=0, metavar="N", help="only the first N images; 0: all (default: 0)"
    )
    parser.add_argument(
        "--backend", choices=backends.POLICIES, default=backends.AUTO, help="what runs the model (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=model_choice.PRECISIONS,
        default=model_choice.AUTO,
        help="precision of the model; auto: fp32 (default: %(default)s)",
    )
    parser.add_argument(
        "--backends",
        default="",
        metavar="BACKEND[:PRECISION],...",
        help="several backends side by side, such as onnxruntime:fp32,onnxruntime:int8,openvino; "
        "instead of --backend and --precision",
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of the runtime; 0: one for each core, at most 8 (default: 0)"
    )
    bundle_signing.add_trusted_keys(parser)
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write JSON to stdout, or to FILE")
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="also write one page with the table, frames clean and attacked, and latency",
    )


def run(args: argparse.Namespace) -> int:
    """Replay, then print the table, JSON, or both."""
    if args.limit < 0:
        raise UsageError("--limit is negative", found=args.limit, expected="0 (all) or more")
    try_outputs(
        OutputPath("--json", Path(args.json)) if args.json and args.json != "-" else None,
        OutputPath("--html", args.html) if args.html else None,
    )
    album = Album()
    replays: list[Replay] = []
    for subject in subjects(args):
        watch = album.watch if args.html and not replays else _forget  # images are those of the first
        replays.append(_replay(args, *subject, watch))
    report = side_by_side(replays)
    print(to_json(report) if args.json == "-" else text(report))
    if args.json and args.json != "-":
        write_text(Path(args.json), to_json(report) + "\n")
    if args.html:
        write_text(args.html, page.render(report, album.examples()))
    return EXIT_DONE if any(row.answered for row in report.rows) else EXIT_CHECK_FAILED


def subjects(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Return backend and precision of each subject, each once."""
    if not args.backends:
        return [(args.backend, args.precision)]
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
    return chosen or [(args.backend, args.precision)]


def _replay(args: argparse.Namespace, backend: str, precision: str, watch: Callable[[Seen], None]) -> Replay:
    """Replay the recording on one backend; injections are made anew, so that every subject meets the same."""
    pipeline = open_pipeline(
        args.bundle,
        backend=backend,
        threads=args.threads,
        detector=args.detector,
        precision=precision,
        trusted_keys=bundle_signing.trusted_keys(args),
    )
    names = attack_names(args.injections, pipeline)
    first = pipeline.detector.bundle if pipeline.detector is not None else None
    injections = [injection.make_staged(pipeline.bundle, first, n, sigma_255=args.sigma, seed=args.seed) for n in names]
    with open_bag(
        args.bag, tuple(filter(None, map(str.strip, args.topics.split(",")))), args.labels_topic, args.boxes_topic
    ) as bag:
        require_boxes(
            args.tracking,
            pipeline.finds_boxes or bag.topics.boxes is not None,
            "--tracking",
            "give --detector or --boxes-topic, or use a detection bundle",
        )
        report = _evaluate(pipeline, bag, injections, args, watch)
    pipeline.close()
    return report


def attack_names(words: str, pipeline: Pipeline) -> tuple[str, ...]:
    """Resolve `none`, `all` or a comma-separated list against what the bundle offers; clean is always answered."""
    if words in ("none", ""):
        return ()
    if words == "all":
        first = injection.names(pipeline.detector.bundle) if pipeline.detector is not None else ()
        names = (*injection.names(pipeline.bundle), *(DETECTOR_PREFIX + name for name in first))
        return tuple(name for name in names if name not in (injection.CLEAN, DETECTOR_PREFIX + injection.CLEAN))
    wanted = dict.fromkeys(word.strip() for word in words.split(",") if word.strip())
    return tuple(word for word in wanted if word != injection.CLEAN)


def text(report: Replay) -> str:
    """Lay the report out for people, a table for each backend."""
    header = (
        "topic",
        "injection",
        "knowledge",
        "frames",
        "answered",
        "failed",
        "n/a",
        "judged by",
        "score",
        "clean there",
        "false",
        "infer p50",
        "total p50",
        "p95",
        "p99 ms",
    )
    parts, of = [], f"{report.bag}: {report.bundle} ({report.bundle_sha256[:12]})"
    for backend in dict.fromkeys(row.backend for row in report.rows):
        rows = [_cells(row) for row in report.rows if row.backend == backend]
        parts.append(f"{of} on {backend}\n\n{table(header, rows)}")
    parts += filter(None, ["\n".join(_track_lines(report)), "\n".join(notes(report.rows))])
    return "\n\n".join(parts)


def _track_lines(report: Replay) -> list[str]:
    """Return one line for each camera and backend: how many tracks, how long, how many boxes they add."""
    lines = []
    cameras = dict.fromkeys((row.topic, row.backend) for row in report.rows) if report.tracking != NONE else {}
    for topic, backend in cameras:
        tracks = [track for track in report.tracks if (track.topic, track.backend) == (topic, backend)]
        boxes, recovered = sum(len(track.boxes) for track in tracks), sum(track.recovered for track in tracks)
        lines.append(
            f"tracks ({report.tracking}) on {topic}, {backend}: {len(tracks)} with {boxes} boxes, {recovered} of these "
            "below the score of a reported box"
        )
    return lines


def notes(rows: Sequence[CameraResult]) -> list[str]:
    """Return one line for injections that applied to no frame, and one for those without measurable effect."""
    meaning = {
        NOT_APPLIED: "a stored attack applies to the images that it was made for; noise, universal perturbations and "
        "corruptions apply to any image",
        NO_EFFECT: "the answers are not worse than the clean ones; the model may resist, or the attack may be too weak",
    }
    many = len({row.topic for row in rows}) > 1
    by_effect: dict[str, list[str]] = {}
    for row in rows:
        if row.effect:
            by_effect.setdefault(row.effect, []).append(f"{row.injection} on {row.topic}" if many else row.injection)
    return [f"{effect}: {', '.join(dict.fromkeys(names))} ({meaning[effect]})" for effect, names in by_effect.items()]


def _forget(seen: Seen) -> None:
    """Keep no images of this subject."""


def _evaluate(
    pipeline: Pipeline,
    bag: Bag,
    injections: list[injection.Injection],
    args: argparse.Namespace,
    watch: Callable[[Seen], None],
) -> Replay:
    total = min(bag.count(), args.limit) if args.limit else bag.count()
    name = pipeline.choice.backend.name
    recorded: set[str] = set()
    with progress(total, f"replay on {name}", "frame") as step:
        frames = _noting_labels(islice(bag.frames(), args.limit or None), recorded)
        report = evaluate(pipeline, str(bag.path), frames, injections, step, watch, args.tracking)
    _warn_of_other_labels(pipeline, recorded)
    return report


def _noting_labels(frames: Iterable[BagFrame], recorded: set[str]) -> Iterator[BagFrame]:
    """Pass frames on and add their true labels to `recorded`."""
    for item in frames:
        labels = [item.label, *(region.label for region in item.regions or ())]
        recorded.update(label for label in labels if label is not None)
        yield item


def _warn_of_other_labels(pipeline: Pipeline, recorded: set[str]) -> None:
    """Say so when the bundle knows none of the recorded labels: every score is then 0 whatever the model sees."""
    manifests = [part.bundle.manifest for part in (pipeline, pipeline.detector) if part is not None]
    known = {label for manifest in manifests for label in (*manifest.labels, *manifest.roi_groups)}
    if recorded and not recorded & known:
        print(
            f"lisard: no recorded label is one of bundle {pipeline.bundle.manifest.name}, so every score is 0: found "
            f"{_few(recorded)}, expected some of {_few(known)}",
            file=sys.stderr,
        )


def _few(labels: set[str]) -> str:
    return ", ".join(sorted(labels)[:5]) + (", ..." if len(labels) > 5 else "")


def _cells(row: CameraResult) -> tuple[object, ...]:
    failed = ", ".join(f"{cause} {n}" for cause, n in row.failed.items()) or "0"
    total = row.latency["total"]
    times = (row.latency["infer"].p50_ms, total.p50_ms, total.p95_ms, total.p99_ms)
    false: object = "-" if row.false_boxes is None else row.false_boxes
    return (
        row.topic,
        row.injection,
        row.knowledge,
        row.frames,
        row.answered,
        failed,
        row.not_applicable,
        row.judged,
        str(row.score),
        pages.percent(row.clean),
        false,
        *(f"{value:.2f}" for value in times),
    )
