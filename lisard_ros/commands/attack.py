"""`lisard attack`: `make` stores perturbations in a bundle (needs the trainer), `run` attacks with them or live."""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import get_args

from lisard_ros import bundle as bundles
from lisard_ros import injection
from lisard_ros.attacks import registry
from lisard_ros.bundle.manifest import ATTACK_PREFIX, Task
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE, CommandModule
from lisard_ros.commands.output import OutputPath, table, to_json, try_outputs
from lisard_ros.errors import LisardError, UsageError
from lisard_ros.evaluation import limits as limit_rules
from lisard_ros.evaluation import self_test
from lisard_ros.evaluation.limits import FAILED, LATENCIES
from lisard_ros.inference.pipeline import open_pipeline
from lisard_ros.reporting import self_test_files

SUMMARY = "make stored perturbations, or run a bundle's own on images"
HELP = """Run the attacks that a bundle holds, or make new ones.

  lisard attack run models/traffic_signs        its reference images, clean and attacked, against its limits
  lisard attack run models/traffic_signs --suite clean,corruption/fog/3=0.9      other cases and limits
  lisard attack run models/traffic_signs --limits clean=0.9,noise=0.8,p95_ms=50  limits as `lisard replay` has them
  lisard attack run models/traffic_signs --attack pgd10,square100/4              worked out now and measured
  lisard attack run models/road_signs --attack patch_object,patch_object/10      the bundle's patch on each object
  lisard attack list --task detection           what such attacks know, cost and need
  lisard attack make --help                        make gray-box FGSM, PGD-10, a universal perturbation or a patch"""

MAKE_GROUP = "lisard_ros.attack_make"
_NO_PREFIX = "\0"  # begins no word, so that every word after `make` is passed on, options too


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    actions = parser.add_subparsers(dest="action", required=True)
    runner = actions.add_parser("run", help="apply a bundle's perturbations to its reference images")
    runner.add_argument("bundle", type=Path, help="model bundle (folder or .zip)")
    runner.add_argument(
        "--suite",
        default="",
        metavar="CASES",
        help="comma-separated NAME or NAME=LIMIT; NAME alone has the limit of the bundle's suite, else it is measured "
        "(default: the suite)",
    )
    runner.add_argument(
        "--limits",
        default="",
        metavar="METRIC=VALUE,...",
        help="limits of cases (lower bound of the accuracy's interval), p50_ms, p95_ms, p99_ms, max_ms, failed; or "
        "a file",
    )
    runner.add_argument(
        "--attack",
        default="",
        metavar="NAMES",
        help="attacks to work out on the images: comma-separated NAME or NAME/BUDGET, BUDGET in grey levels (default "
        "8), of a patch in percent of the object's or image's area (default 20 and 10); "
        "they are measured, beside clean, instead of the suite. Those with gradients need `lisard build --gradient`. "
        f"NAME: {', '.join(registry.names_of('classification'))}; for a detector also NAME_GOAL with GOAL one of "
        f"{', '.join(registry.BOX_GOALS)}",
    )
    runner.add_argument(
        "--surrogate",
        type=Path,
        metavar="BUNDLE",
        help="follow the gradients of this bundle instead (gray-box): of the same classes and input size",
    )
    runner.add_argument("--count", type=int, default=0, help="how many reference images (default: all)")
    runner.add_argument(
        "--seed", type=int, default=0, help="seed of the draw of images and of noise (default: %(default)s)"
    )
    runner.add_argument("--json", action="store_true", help="print JSON")
    runner.add_argument("--report", type=Path, metavar="FOLDER", help="write the result as JSON, CSV and an HTML page")
    runner.set_defaults(call=run_suite)
    listing = actions.add_parser("list", help="list the attacks of --attack: what they know, cost and need")
    listing.add_argument("--task", choices=get_args(Task), help="only those on bundles of this task")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(call=run_list)
    maker = actions.add_parser(
        "make", help="make stored perturbations (needs the trainer)", add_help=False, prefix_chars=_NO_PREFIX
    )
    maker.add_argument("words", nargs="*")
    maker.set_defaults(call=run_make)


def run(args: argparse.Namespace) -> int:
    """Call the chosen subcommand."""
    status: int = args.call(args)
    return status


def run_suite(args: argparse.Namespace) -> int:
    """Run the bundle's self test on this machine; exit status 1 when a limit does not hold."""
    limits = limit_rules.parse(args.limits) if args.limits else ()
    try_outputs(OutputPath("--report", args.report, "folder") if args.report else None)
    pipeline = open_pipeline(args.bundle)
    suite = tuple(filter(None, map(str.strip, args.suite.split(","))))
    for case in suite:
        injection.require_known(pipeline.bundle, case.partition("=")[0])
    attacks = tuple(filter(None, map(str.strip, args.attack.split(","))))
    chosen = [registry.choose(name, pipeline.bundle.manifest.task).name for name in attacks]
    if chosen:
        suite = (*(suite or (injection.CLEAN,)), *dict.fromkeys(chosen))
    if args.surrogate is not None and not any(ATTACK_PREFIX in case for case in suite):
        raise UsageError("--surrogate without an attack", found="no attack", expected="--attack NAMES")
    surrogate = None if args.surrogate is None else bundles.read(args.surrogate)
    sources = injection.AttackSources(surrogate, pipeline.choice.backend)
    for case in suite:
        if case.startswith(ATTACK_PREFIX):  # what is missing is told before the long work
            injection.make(pipeline.bundle, case.partition("=")[0], sources=sources)
    suite, limits = self_test.with_limits(pipeline.bundle, suite, limits)
    report = self_test.run(pipeline, count=args.count, suite=suite, seed=args.seed, limits=limits, sources=sources)
    print(to_json(report) if args.json else text(report))
    if args.report:
        page = self_test_files.write(report, args.report, self_test_files.Circumstances.now())
        print(f"report: {page}", file=sys.stderr)
    return EXIT_CHECK_FAILED if report.failed else EXIT_DONE


def text(report: self_test.SelfTestReport) -> str:
    """Lay the report out as a table for people."""
    boxes = any(c.counted == "boxes" for c in report.cases)
    rows = [
        (
            c.injection,
            c.knowledge,
            str(c.accuracy),
            *([c.false_boxes] if boxes else []),
            c.not_applicable,
            f"{100 * c.min_accuracy:.1f} %" if c.min_accuracy else "-",
            f"FAILED: {c.reason}" if c.verdict == "failed" else c.verdict,
        )
        for c in report.cases
    ]
    head = f"{report.bundle} ({report.bundle_sha256[:12]}) on {report.backend}, seed {report.seed}\n\n"
    counts = ("true boxes found", "false boxes") if boxes else ("accuracy",)
    lines = table(("injection", "knowledge", *counts, "n/a", "limit", "verdict"), rows)
    others = [str(verdict) for verdict in report.verdicts if verdict.metric in (*LATENCIES, FAILED)]
    if len(report.verdicts) - len(others) < len(report.cases):
        others.insert(0, "limits of the bundle: a margin below what these images reached at export")
    lines = "\n\n".join([lines, *(["\n".join(others)] if others else [])])
    return f"{head}{lines}\n\nself test {report.summary}"


@dataclass(frozen=True, slots=True)
class ListedAttack:
    """One attack of the registry, for people and JSON; knowledge and atlas: on the model itself, and by transfer."""

    name: str
    tasks: tuple[Task, ...]
    knowledge: tuple[str, ...]
    gradients: int
    queries: int
    budget: str
    needs: str
    atlas: tuple[str, ...]
    source: str


def run_list(args: argparse.Namespace) -> int:
    """List the registry; how large a budget is, is part of a name and so not listed."""
    entries = [entry for entry in registry.REGISTRY.values() if args.task is None or args.task in entry.tasks]
    listed = [
        ListedAttack(
            ATTACK_PREFIX + entry.name,
            entry.tasks,
            tuple(dict.fromkeys(entry.knowledge(surrogate=surrogate) for surrogate in (False, True))),
            entry.gradients,
            entry.queries,
            entry.budget,
            entry.needs,
            tuple(dict.fromkeys(id_ for surrogate in (False, True) for id_ in entry.atlas(surrogate=surrogate))),
            entry.source,
        )
        for entry in entries
    ]
    if args.json:
        print(to_json(listed))
        return EXIT_DONE
    rows = [
        (one.name, " or ".join(one.knowledge), one.gradients, one.queries, one.budget, one.needs, ", ".join(one.atlas))
        for one in listed
    ]
    print(table(("attack", "knowledge", "gradients", "queries", "budget", "needs", "MITRE ATLAS"), rows))
    return EXIT_DONE


def run_make(args: argparse.Namespace) -> int:
    """Hand the words after `make` to the trainer, which is imported only now."""
    module = load_make()
    parser = argparse.ArgumentParser(
        prog="lisard attack make", description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.configure(parser)
    return module.run(parser.parse_args(args.words))


def load_make() -> CommandModule:
    """Find the trainer's part through its entry point."""
    try:
        for entry in entry_points(group=MAKE_GROUP):
            module: CommandModule = importlib.import_module(entry.value)
            return module
        obstacle = "no such entry point"
    except ImportError as error:
        obstacle = str(error)
    raise LisardError(
        "`lisard attack make` needs the trainer",
        found=obstacle,
        expected="the package lisard_trainer",
        cure="pip install 'lisard_ros[trainer]', or `make setup` in a checkout",
    )
