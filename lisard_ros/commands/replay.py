"""`lisard replay`: score a recorded drive with the same pipeline as the node, without DDS, every frame once."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path

from lisard_ros import backends, injection
from lisard_ros.bags import exports, judging, label_files, live, mcap_output, page
from lisard_ros.bags.album import Album
from lisard_ros.bags.blocks import BY, DEFAULT_BLOCK_S, FRAME, TIME, Blocks
from lisard_ros.bags.evaluation import Seen, evaluate
from lisard_ros.bags.labels import require_known
from lisard_ros.bags.live import OfflineAnswers
from lisard_ros.bags.read_ahead import read_ahead
from lisard_ros.bags.reader import Bag, BagFrame, LabelOptions, open_bag
from lisard_ros.bags.report import NO_EFFECT, NOT_APPLIED, CameraResult, Replay, side_by_side
from lisard_ros.bags.settings import injection_settings
from lisard_ros.bundle import model_choice
from lisard_ros.bundle.manifest import DETECTOR_PREFIX
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands import bundle_signing, live_options
from lisard_ros.commands.output import OutputPath, progress, table, to_json, try_outputs, write_text
from lisard_ros.errors import UsageError, unknown_name
from lisard_ros.evaluation import limits as limit_rules
from lisard_ros.evaluation.limits import Limit
from lisard_ros.inference.pipeline import Pipeline, open_pipeline
from lisard_ros.provenance import made
from lisard_ros.reporting import pages
from lisard_ros.tracking import NONE, TRACKERS
from lisard_ros.tracking.stage import require_boxes

SUMMARY = "score a recorded drive: accuracy, robustness, latency"
SHOWN_FAILURES = 5
WRITTEN = ("html", "markdown", "csv", "junit", "mcap")
HELP = """Score a recorded drive, clean and attacked: accuracy if the bag has labels, else agreement with the clean
answers. Also latency percentiles by stage.

  lisard replay data/road_drive --bundle models/traffic_signs
  lisard replay data/road_signs --bundle models/traffic_signs --injections noise,universal --json out.json
  lisard replay data/road_signs --bundle models/road_signs --injections all --html replay.html      # with images
  lisard replay drive --bundle models/traffic_signs --topics /front/image_raw --injections all
  lisard replay drive --bundle models/my_model --backends onnxruntime:fp32,onnxruntime:int8,openvino --html replay.html
  lisard replay drive --bundle models/traffic_signs --injections corruption/fog/3,corruption/motion_blur/5
  lisard replay drive --bundle models/my_model --labels labels.csv --limits clean=0.9,noise=0.8,p95_ms=50

Labels: a vision_msgs/Classification topic (whole frames), a Detection2DArray topic (boxes), or a COCO list or CSV file
(--labels), joined with the nearest frame in time. Intervals count blocks of frames that resemble each other (--by).
A detector is scored by the share of those boxes (else of its own clean ones) that it finds: same class, IoU >= 0.5.
All other boxes are counted as false. `clean there`: the score of the clean answers over the same frames or boxes.

Exit status 1 if no image of the recording could be answered, or a limit does not hold."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "bag", nargs="+", help="rosbag2 folders, .mcap, .db3 or ROS 1 .bag files, or patterns such as 'drives/*'"
    )
    parser.add_argument("--bundle", type=Path, required=True, help="model bundle (folder or .zip)")
    parser.add_argument("--detector", type=Path, help="detection bundle: classify the boxes that it finds")
    parser.add_argument("--topics", default="", help="image topics, comma-separated (default: all)")
    parser.add_argument(
        "--labels-topic", help="vision_msgs/Classification topic with the truth (default: the only one)"
    )
    parser.add_argument("--boxes-topic", help="vision_msgs/Detection2DArray topic with boxes (default: the only one)")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="labels beside the recording instead of topics: COCO .json, or .csv"
    )
    parser.add_argument(
        "--label-map",
        default="",
        metavar="RECORDED=NAME,...",
        help="classes of the labels under names of the bundle; NAME empty leaves a class out; or a YAML or JSON file",
    )
    parser.add_argument(
        "--label-tolerance-ms",
        type=float,
        metavar="MS",
        help="how far a label may be from its frame (default: half the median frame interval, at most 20)",
    )
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
    parser.add_argument(
        "--limits",
        default="",
        metavar="METRIC=VALUE,...",
        help="exit status 1 unless they hold: clean=0.8 or an injection (lower bound of the accuracy's interval), "
        "agreement/NAME, p50_ms, p95_ms, p99_ms, max_ms (clean answers), failed (share of frames); or a YAML or JSON "
        "file",
    )
    parser.add_argument(
        "--by",
        choices=BY,
        default=TIME,
        help="which frames count as one block of evidence: a stretch of time, objects with one id, a recording, or "
        "each frame alone (default: %(default)s)",
    )
    parser.add_argument(
        "--block-s",
        type=float,
        default=DEFAULT_BLOCK_S,
        metavar="S",
        help="length of a stretch of time in seconds (default: %(default)g)",
    )
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write JSON to stdout, or to FILE")
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="also write one page with the table, frames clean and attacked, and latency",
    )
    for name, what in (("markdown", "the table in Markdown"), ("csv", "the table as CSV"), ("junit", "JUnit XML")):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"also write {what}")
    parser.add_argument(
        "--mcap",
        type=Path,
        metavar="FILE",
        help="also write images, answers clean and attacked, and drawings of them for Foxglove (lisard_ros[mcap])",
    )
    live_options.configure(parser)


def run(args: argparse.Namespace) -> int:
    """Replay, then print the table, JSON, or both."""
    _check(args)
    limits = limit_rules.parse(args.limits) if args.limits else ()
    options = LabelOptions(
        args.labels, label_files.read_map(args.label_map) if args.label_map else {}, args.label_tolerance_ms
    )
    try_outputs(
        OutputPath("--json", Path(args.json)) if args.json and args.json != "-" else None,
        *(OutputPath(f"--{name}", getattr(args, name)) for name in WRITTEN if getattr(args, name)),
    )
    node = live_options.find(args, chosen_topics(args)) if args.live else None
    album, offline = Album(), OfflineAnswers()
    replays: list[Replay] = []
    with ExitStack() as opened:
        output = opened.enter_context(mcap_output.open_mcap(args.mcap)) if args.mcap else None
        watchers: list[Callable[[Seen], None]] = [album.watch] * bool(args.html)
        watchers += [output.watch] if output is not None else []
        watchers += [live_options.collector(offline)] if node is not None else []
        for subject in subjects(args):
            watch = mcap_output.both(*([] if replays else watchers))  # images are those of the first
            replays.append(_replay(args, options, limits, *subject, watch))
        report = side_by_side(replays)
        if node is not None:
            report = replace(report, live=node.play(report, offline))
        report = replace(report, verdicts=judging.judge(report, limits), made=made())
        if output is not None:
            output.attach(to_json(report))
    print(to_json(report) if args.json == "-" else text(report))
    if args.json and args.json != "-":
        write_text(Path(args.json), to_json(report) + "\n")
    for name, make in (("markdown", exports.markdown), ("csv", exports.csv_table), ("junit", exports.junit)):
        if getattr(args, name):
            write_text(getattr(args, name), make(report))
    if args.html:
        write_text(args.html, page.render(report, album.examples()))
    answered = any(row.answered for row in report.rows) and (report.live is None or report.live.answered)
    return EXIT_DONE if answered and all(v.passed for v in report.verdicts) else EXIT_CHECK_FAILED


def _check(args: argparse.Namespace) -> None:
    """Refuse options that are out of range or contradict each other."""
    if args.mcap is not None:
        mcap_output.require_mcap()
    live_options.check(args)
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


def _replay(
    args: argparse.Namespace,
    options: LabelOptions,
    limits: Sequence[Limit],
    backend: str,
    precision: str,
    watch: Callable[[Seen], None],
) -> Replay:
    """Replay the recording on one backend; injections are made anew, so that every subject meets the same."""

    def opened(backend: str, precision: str) -> Pipeline:
        return open_pipeline(
            args.bundle,
            backend=backend,
            threads=args.threads,
            detector=args.detector,
            precision=precision,
            trusted_keys=bundle_signing.trusted_keys(args),
        )

    pipeline = opened(backend, precision)
    names = attack_names(args.injections, pipeline)
    first = pipeline.detector.bundle if pipeline.detector is not None else None

    def made_ready(name: str) -> injection.Injection:
        in_front = pipeline.detector is not None and name.startswith(DETECTOR_PREFIX)
        attacked = pipeline.detector if in_front and pipeline.detector is not None else pipeline
        sources = injection.AttackSources(engine=attacked.choice.backend)  # attacks by queries ask what is replayed
        return injection.make_staged(
            pipeline.bundle, first, name, sigma_255=args.sigma, seed=args.seed, sources=sources
        )

    injections = [made_ready(name) for name in names]
    limit_rules.require_known(limits, judging.metrics(names, args.live))
    with open_bag(args.bag, chosen_topics(args), args.labels_topic, args.boxes_topic, options) as bag:
        require_boxes(
            args.tracking,
            pipeline.finds_boxes or bag.has_boxes(),
            "--tracking",
            "give --detector or --boxes-topic, or use a detection bundle",
        )
        unseen = check_labels(bag, pipeline)
        # The answers of another precision are compared with those of the evaluated model, not with themselves.
        alone = precision in (model_choice.AUTO, "fp32") or bool(bag.label_names())
        reference = None if alone else opened("onnxruntime", "fp32")
        total = min(bag.count(), args.limit) if args.limit else bag.count()
        with progress(total, f"replay on {pipeline.choice.backend.name}", "frame") as step:
            frames: Iterator[BagFrame] = islice(bag.frames(), args.limit or None)
            if len(os.sched_getaffinity(0)) > (args.threads or backends.default_threads()):
                frames = read_ahead(frames)  # only on a core of its own: latencies would suffer
            blocks = Blocks(args.by, args.block_s)
            report = evaluate(pipeline, bag.name, frames, injections, step, watch, args.tracking, reference, blocks)
        report = replace(
            report,
            recordings=bag.info(),
            labels=bag.joins(),
            unseen=unseen,
            injections=tuple(
                injection_settings(pipeline.bundle, first, one, sigma_255=args.sigma, seed=args.seed)
                for one in injections
            ),
        )
    for one in filter(None, (pipeline, reference)):
        one.close()
    return report


def check_labels(bag: Bag, pipeline: Pipeline) -> dict[str, int]:
    """Refuse recorded classes that no answer can fit; returns those of boxes that are not looked at, with counts.

    Raises:
        DataError: A class is unknown, or no recorded box is looked at.
    """
    recorded = bag.label_names()
    parts = [part for part in (pipeline, pipeline.detector) if part is not None]
    known = {name for part in parts for name in (*part.bundle.manifest.labels, *part.bundle.manifest.roi_groups)}
    unseen: dict[str, int] = {}
    if pipeline.roi_classes and not pipeline.finds_boxes and bag.has_boxes():
        unseen = {name: count for name, count in recorded.items() if name not in pipeline.roi_classes}
        if len(unseen) == len(recorded) and recorded:
            require_known(recorded, pipeline.roi_classes, pipeline.bundle.manifest.name)
    require_known({n: count for n, count in recorded.items() if n not in unseen}, known, pipeline.bundle.manifest.name)
    return unseen


def chosen_topics(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the image topics that were asked for; none for all."""
    return tuple(filter(None, map(str.strip, args.topics.split(","))))


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
        "blocks",
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
    parts += filter(
        None,
        [
            "\n".join(lines)
            for lines in (
                _track_lines(report),
                _label_lines(report),
                notes(report.rows),
                list(live.lines(report.live)) if report.live is not None else [],
                list(map(str, report.verdicts)),
            )
        ],
    )
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


def _label_lines(report: Replay) -> list[str]:
    """Return how labels met frames, what was not looked at, and what an interval rests on."""
    lines = [str(one) for one in report.damaged]
    lines += [
        f"no answer to frame {one.number} of {one.topic} at {one.stamp_ns} ns: {one.error}"
        for one in report.failures[:SHOWN_FAILURES]
    ]
    if len(report.failures) > SHOWN_FAILURES:
        lines.append("more of them are in the JSON")
    lines += [str(join) for join in report.labels]
    if report.unseen:
        lines.append("boxes not looked at: " + ", ".join(f"{name} {count}" for name, count in report.unseen.items()))
    if report.reference:
        lines.append(f"without labels: compared with the clean answers of {report.reference}")
    lines += [
        f"{camera.copies} of {len(camera.stamps_ns)} images on {camera.topic} are copies of earlier ones "
        "and count with these"
        for camera in report.cameras
        if camera.copies
    ]
    what = {TIME: f"stretches of {report.block_s:g} s", FRAME: "frames"}.get(report.by, f"{report.by}s")
    return [*lines, f"intervals: 95 %, blocks are {what}"]


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
        row.blocks,
        pages.percent(row.clean),
        false,
        *(f"{value:.2f}" for value in times),
    )
