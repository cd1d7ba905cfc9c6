"""`lisard replay --workers` and `--cluster`: a replay in slices, by several processes or on Ray."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lisard_ros import backends
from lisard_ros.bags.album import ReplayAlbum
from lisard_ros.bags.blocks import BlockRule
from lisard_ros.bags.matrix import Matrix, MatrixSpec, check_labels
from lisard_ros.bags.reader import LabelOptions, open_bag
from lisard_ros.bags.report import Replay
from lisard_ros.bags.results import replay_of
from lisard_ros.commands.output import OutputPath, progress
from lisard_ros.distributed import merge
from lisard_ros.distributed.plan import DEFAULT_SLICE_S, ReplayJob, tasks
from lisard_ros.distributed.processes import ProcessPool, TaskPool
from lisard_ros.distributed.ray_pool import LOCAL, RayPool
from lisard_ros.errors import UsageError
from lisard_ros.tracking.stage import require_boxes

_ALONE = ("limit", "live", "mcap")  # what needs every frame in one process


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument_group("several workers").add_argument
    add("--workers", type=int, metavar="N", help="answer slices of the recordings in N processes")
    add(
        "--cluster",
        metavar="ADDRESS",
        help=f"answer them on Ray (lisard_ros[cluster]): HOST:PORT of its head, auto, or {LOCAL} to start one here of "
        "--workers workers",
    )
    add(
        "--slice-s",
        type=float,
        metavar="S",
        help=f"length of a slice in seconds of the recording (default: {DEFAULT_SLICE_S:g})",
    )
    add(
        "--slices", type=Path, metavar="FOLDER", help="keep finished slices there, and go on behind those that it holds"
    )


def wanted(args: argparse.Namespace) -> bool:
    """Whether the replay is cut into slices."""
    return args.workers is not None or args.cluster is not None


def check(args: argparse.Namespace) -> None:
    """Refuse options that do not go with slices, or need them."""
    if not wanted(args):
        given = next((name for name in ("slice_s", "slices") if getattr(args, name) is not None), None)
        if given is not None:
            raise UsageError(
                f"--{given.replace('_', '-')} without workers", cure="add --workers N or --cluster, or leave it out"
            )
        return
    alone = next((name for name in _ALONE if getattr(args, name)), None)
    if alone is not None:
        raise UsageError(
            f"--{alone} with several workers",
            expected="a replay in one process",
            cure=f"leave out --workers and --cluster, or --{alone}",
        )
    if args.workers is not None and args.workers < 1:
        raise UsageError("--workers out of range", found=args.workers, expected="1 or more")
    if args.slice_s is not None and not 0 < args.slice_s < math.inf:
        raise UsageError("--slice-s out of range", found=args.slice_s, expected="seconds above 0")


def folder(args: argparse.Namespace) -> OutputPath | None:
    """Return the folder of finished slices as an output of the command."""
    return OutputPath("--slices", args.slices, "folder") if args.slices is not None else None


def threads(args: argparse.Namespace) -> int:
    """Return the threads of each worker: those that were asked for, or the cores of this machine divided evenly.

    A worker of a cluster has one where nothing else is said: more workers are faster than more threads.
    """
    if args.threads or not wanted(args):
        return int(args.threads)
    cores = len(os.sched_getaffinity(0))
    return max(1, min(backends.default_threads(), cores // args.workers)) if args.workers else 1


@contextmanager
def workers(args: argparse.Namespace, threads_each: int) -> Iterator[TaskPool | None]:
    """Yield the workers, None where the replay is not cut into slices; a Ray of this machine starts meanwhile.

    Raises:
        UsageError: There is no Ray at the address, or it is not installed.
    """
    if not wanted(args):
        yield None
        return
    count = args.workers or max(1, len(os.sched_getaffinity(0)) // threads_each)
    pool: TaskPool = ProcessPool(count) if args.cluster is None else RayPool(args.cluster, count, threads_each)
    try:
        yield pool
    finally:
        pool.close()


def replay(
    args: argparse.Namespace,
    spec: MatrixSpec,
    pool: TaskPool,
    matrix: Matrix,
    labels: LabelOptions,
    topics: tuple[str, ...],
    album: ReplayAlbum,
) -> Replay:
    """Replay the recordings in slices.

    Args:
        args: Of the command.
        spec: What the workers open.
        pool: The workers.
        matrix: The models of it, which describe the report; workers open their own.
        labels: Where labels come from.
        topics: Image topics that were asked for, empty for all.
        album: Takes the frames of the page.

    Raises:
        LisardError: A recording, a bundle or a worker is missing or fails.
    """
    with open_bag(args.bag, topics, args.labels_topic, args.boxes_topic, labels) as bag:
        name, paths = bag.name, [str(recording.path) for recording in bag.recordings]
        job = ReplayJob(
            spec,
            tuple(dict.fromkeys(pipeline.bundle.sha256 for pipeline in matrix.pipelines)),
            tuple(recording.path.resolve() for recording in bag.recordings),
            bag.topics,
            labels,
            BlockRule(args.by, args.block_s),
            args.tracking,
            args.slice_s or DEFAULT_SLICE_S,
            examples=album.sizes if args.html else None,
        )
        if labels.file is not None:
            bag.label_names()  # a file that cannot be read is refused before the recordings are
        with progress(len(job.recordings), "scan", "recording") as step:
            scans = merge.scan(job, pool, step)
        scans, found = merge.with_labels(job, bag, scans)
    boxes = all(pipeline.finds_boxes or found.has_boxes() for pipeline in matrix.pipelines)
    require_boxes(args.tracking, boxes, "--tracking", "give --detector or --boxes-topic, or use a detection bundle")
    unseen = check_labels(found, matrix.pipelines)
    job = replace(job, labelled=bool(found.label_names()))
    models = matrix.models(job.labelled)
    total = sum(scan.frames for scan in scans)
    with progress(total, f"replay of {len(tasks(scans))} slices", "frame") as step:
        merged = merge.answer(job, scans, models, pool, args.slices, album, _steps(step))
    if merged.kept:
        print(f"lisard: {merged.kept} of {merged.slices} slices were there already", file=sys.stderr)
    infos = tuple(replace(one.info, path=path) for one, path in zip(scans, paths, strict=True))  # as they were named
    return replace(
        replay_of(merged.state, name),
        recordings=infos,
        labels=found.joins,
        unseen=unseen,
        injections=matrix.settings(),
    )


def _steps(step: Callable[[], None]) -> Callable[[int], None]:
    def steps(frames: int) -> None:
        for _ in range(frames):
            step()

    return steps
