"""`lisard replay`: score a recorded drive with the same pipeline as the node, without DDS, every frame once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path

from lisard_ros import backends
from lisard_ros.bags import exports, judging, label_files, mcap_output, page
from lisard_ros.bags.album import ReplayAlbum
from lisard_ros.bags.blocks import BlockRule
from lisard_ros.bags.evaluation import evaluate, names_of
from lisard_ros.bags.live import OfflineAnswers
from lisard_ros.bags.matrix import Matrix, check_labels, open_matrix
from lisard_ros.bags.reader import LabelOptions, open_bag
from lisard_ros.bags.report import Replay
from lisard_ros.bags.results import replay_of
from lisard_ros.bags.seen import Seen
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands import cluster_options, live_options, replay_options, replay_table
from lisard_ros.commands.output import OutputPath, progress, to_json, try_outputs, write_text
from lisard_ros.evaluation import limits as limit_rules
from lisard_ros.provenance import made
from lisard_ros.tracking.stage import require_boxes

SUMMARY = "score a recorded drive: accuracy, robustness, latency"
WRITTEN = ("html", "markdown", "csv", "junit", "mcap")
HELP = """Score a recorded drive, clean and attacked: accuracy if the bag has labels, else agreement with the clean
answers. Also latency percentiles by stage.

  lisard replay data/road_drive --bundle models/traffic_signs
  lisard replay data/road_signs --bundle models/traffic_signs --injections noise,universal --json out.json
  lisard replay data/road_signs --bundle models/road_signs --injections all --html replay.html      # with images
  lisard replay drive --bundle models/traffic_signs --topics /front/image_raw --injections all
  lisard replay drive --bundle models/my_model --backends onnxruntime:fp32,onnxruntime:int8,openvino --html replay.html
  lisard replay drive --bundle models/old --bundle models/new --injections attack/pgd10/8 --surrogate models/third
  lisard replay drive --bundle models/traffic_signs --injections corruption/fog/3,corruption/motion_blur/5
  lisard replay drive --bundle models/my_model --labels labels.csv --limits clean=0.9,noise=0.8,p95_ms=50

Labels: a vision_msgs/Classification topic (whole frames), a Detection2DArray topic (boxes), or a COCO list or CSV file
(--labels), joined with the nearest frame in time. Intervals count blocks of frames that resemble each other (--by).
A detector is scored by the share of those boxes (else of its own clean ones) that it finds: same class, IoU >= 0.5.
All other boxes are counted as false. `clean there`: the score of the clean answers over the same frames or boxes.

Exit status 1 if no image of the recording could be answered, or a limit does not hold."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    for add in (
        replay_options.add_recording,
        replay_options.add_models,
        replay_options.add_injections,
        replay_options.add_judging,
        replay_options.add_outputs,
        cluster_options.configure,
        live_options.configure,
    ):
        add(parser)


def run(args: argparse.Namespace) -> int:
    """Replay, then print the table, JSON, or both."""
    replay_options.check(args)
    live_options.check(args)
    cluster_options.check(args)
    limits = limit_rules.parse(args.limits) if args.limits else ()
    spec = replace(replay_options.matrix_spec(args), threads=cluster_options.threads(args))
    try_outputs(
        OutputPath("--json", Path(args.json)) if args.json and args.json != "-" else None,
        *(OutputPath(f"--{name}", getattr(args, name)) for name in WRITTEN if getattr(args, name)),
        cluster_options.folder(args),
    )
    node = live_options.find(args, chosen_topics(args)) if args.live else None
    album, offline = ReplayAlbum.for_models(len(spec.bundles) * len(spec.engines)), OfflineAnswers()
    with ExitStack() as opened:
        output = opened.enter_context(mcap_output.open_mcap(args.mcap)) if args.mcap else None
        watchers: list[Callable[[Seen], None]] = [album.watch] * bool(args.html)
        watchers += [output.watch] if output is not None else []
        watchers += [live_options.collector(offline)] if node is not None else []
        workers = opened.enter_context(cluster_options.workers(args, spec.threads))
        matrix = opened.enter_context(open_matrix(spec))
        limit_rules.require_known(limits, judging.metrics(matrix.injection_names, args.live))
        if output is not None:
            output.name_models(names_of(matrix.models(labelled=True)))
        if workers is not None:
            report = cluster_options.replay(
                args, spec, workers, matrix, label_options(args), chosen_topics(args), album
            )
        else:
            report = _replay(args, matrix, mcap_output.both(*watchers))
        if node is not None:
            report = replace(report, live=node.play(report, offline))
        report = replace(report, verdicts=judging.judge(report, limits), made=made())
        print(to_json(report) if args.json == "-" else replay_table.text(report))  # before files, which may not fit
        if output is not None:
            output.attach(to_json(report))
    if args.json and args.json != "-":
        write_text(Path(args.json), to_json(report) + "\n")
    for name, make in (("markdown", exports.markdown), ("csv", exports.csv_table), ("junit", exports.junit)):
        if getattr(args, name):
            write_text(getattr(args, name), make(report))
    if args.html:
        write_text(args.html, page.render(report, album.examples()))
    answered = any(row.answered for row in report.rows) and (report.live is None or report.live.answered)
    return EXIT_DONE if answered and all(v.passed for v in report.verdicts) else EXIT_CHECK_FAILED


def label_options(args: argparse.Namespace) -> LabelOptions:
    """Return where labels come from and how they are joined."""
    names = label_files.read_map(args.label_map) if args.label_map else {}
    return LabelOptions(args.labels, names, args.label_tolerance_ms)


def _replay(args: argparse.Namespace, matrix: Matrix, watch: Callable[[Seen], None]) -> Replay:
    """Replay the recording once through all models."""
    labels = label_options(args)
    with open_bag(args.bag, chosen_topics(args), args.labels_topic, args.boxes_topic, labels) as bag:
        boxes = all(pipeline.finds_boxes or bag.has_boxes() for pipeline in matrix.pipelines)
        require_boxes(args.tracking, boxes, "--tracking", "give --detector or --boxes-topic, or use a detection bundle")
        unseen = check_labels(bag, matrix.pipelines)
        models = matrix.models(labelled=bool(bag.label_names()))
        total = min(bag.count(), args.limit) if args.limit else bag.count()
        engines = ", ".join(dict.fromkeys(pipeline.choice.backend.name for pipeline in matrix.pipelines))
        with progress(total, f"replay on {engines}", "frame") as step:
            # Only on cores of their own: latencies would suffer.
            ahead = max(0, len(os.sched_getaffinity(0)) - (args.threads or backends.default_threads()))
            frames = islice(bag.frames(), args.limit or None)
            state = evaluate(models, frames, BlockRule(args.by, args.block_s), args.tracking, step, watch, ahead)
        report = replay_of(state, bag.name)
        return replace(report, recordings=bag.info(), labels=bag.joins(), unseen=unseen, injections=matrix.settings())


def chosen_topics(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the image topics that were asked for; none for all."""
    return tuple(filter(None, map(str.strip, args.topics.split(","))))
