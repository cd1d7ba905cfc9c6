"""`lisard evaluate` for a detection bundle: reads, checks, measures, judges, writes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lisard_ros.bundle import Bundle
from lisard_ros.errors import UsageError

from ...data import checks
from ...data.detection import Scenes
from ...data.detection.kinds import evaluation, load
from ...data.subset import spread
from ...training.checkpoint import Checkpoint
from ..cache import Cache
from ..chosen import check_limit
from . import measuring, page, plan, report, subjects


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an evaluation found, and the pictures that its page shows."""

    report: report.DetectionReport
    galleries: tuple[page.Gallery, ...]


def evaluate(
    args: argparse.Namespace,
    bundle: Bundle,
    surrogates: Mapping[str, Checkpoint],
    controls: Mapping[str, Checkpoint],
    cache: Cache,
    command: str,
    bar: Callable[[int], Callable[[str], None]],
) -> Outcome:
    """bar: told how many parts there are, gives what is to be called for each."""
    if args.pictures:
        raise UsageError("--pictures", found=args.pictures, expected="--data with a list of boxes, for a detector")
    check_limit(args.limit)
    columns = plan.columns(args.suite, list(surrogates), args.seed, args.only)
    everybody = subjects.assemble(bundle, surrogates, controls)
    first = next(iter(surrogates.values()))
    scenes, words = _scenes(first, args.data, args.limit)
    tick = bar(measuring.ticks(everybody, columns, len(scenes)))
    bench = measuring.Bench(everybody, scenes, cache, lambda: _training(first, args.data), tick)
    rows = measuring.measure(bench, columns)
    about = report.Circumstances(command, args.suite, words, args.seed)
    found = report.build(bench, rows, columns, about)
    return Outcome(found, page.galleries(bench, rows) if args.html else ())


def _scenes(saved: Checkpoint, folder: str | None, limit: int | None) -> tuple[Scenes, str]:
    scenes, words = evaluation(saved.recipe.data, folder, saved.classes)
    return (scenes, words) if limit is None else (scenes.take(spread(len(scenes), limit)), words)


def _training(saved: Checkpoint, folder: str | None) -> Scenes:
    """Training pictures of the same data: what an attacker of a gray box knows."""
    training = load(saved.recipe.data, folder).train
    checks.same_classes(saved.classes, training.classes, "the training pictures")
    return training
