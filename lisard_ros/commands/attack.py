"""`lisard attack`: `run` attacks a bundle on images, `make` stores perturbations in it (needs the trainer)."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import get_args

from lisard_ros import backends, injection
from lisard_ros import bundle as bundles
from lisard_ros.attacks import registry
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.bundle.manifest import ATTACK_PREFIX, DETECTOR_PREFIX, Task
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE, EXIT_WRONG_USE, CommandModule
from lisard_ros.commands import attack_images, bundle_signing
from lisard_ros.commands.output import REPORT_EVERY_S, OutputPath, table, to_json, try_outputs
from lisard_ros.errors import LisardError, UsageError
from lisard_ros.evaluation import limits as limit_rules
from lisard_ros.evaluation import self_test
from lisard_ros.evaluation.self_test_report import JUDGED_WORDS, SelfTestProgress, SelfTestReport
from lisard_ros.inference.pipeline import Pipeline, open_pipeline
from lisard_ros.provenance import made
from lisard_ros.reporting import pages, self_test_files
from lisard_ros.reporting.self_test_album import SelfTestAlbum

SUMMARY = "attack a bundle on images, a recording or a camera; make stored perturbations"
HELP = """Attack a bundle as its node's self test does, or make new perturbations.

  lisard attack run models/traffic_signs        its reference images, clean and attacked, against its limits
  lisard attack run models/traffic_signs --suite clean,corruption/fog/3=0.9      other cases and limits
  lisard attack run models/traffic_signs --limits clean=0.9,noise=0.8,p95_ms=50  limits as `lisard replay` has them
  lisard attack run models/traffic_signs --attack pgd10,square100/4              worked out now and measured
  lisard attack run models/traffic_signs --attack patch_object,patch_object/10   the bundle's patch on each object
  lisard attack run models/traffic_signs PHOTOS --attack pgd10                   other images than the bundle's own
  lisard attack run models/traffic_signs --bag drive --report out                frames of a recording
  lisard attack run models/traffic_signs --topic /front/image_raw --count 50     live frames of a camera
  lisard attack list --task detection           what such attacks know, cost and need
  lisard attack make --help                        make gray-box FGSM, PGD-10, a universal perturbation or a patch

Other images are judged by accuracy where they have labels: folders named after classes, a COCO list, the labels of a
recording. Else agreement with the clean answer is counted. The bundle's own limits hold for its own images alone.

Exit status 1 if a case fails; 2 if an image cannot be read (the others are attacked all the same), or for wrong use."""

MAKE_GROUP = "lisard_ros.attack_make"
_NO_PREFIX = "\0"  # begins no word, so that every word after `make` is passed on, options too


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    actions = parser.add_subparsers(dest="action", required=True)
    runner = actions.add_parser("run", help="attack a bundle's reference images, image files, a recording or a camera")
    runner.add_argument("bundle", type=Path, help="model bundle (folder or .zip)")
    attack_images.add_options(runner)
    runner.add_argument("--detector", type=Path, help="detection bundle in front; its cases are called detector/NAME")
    runner.add_argument(
        "--backend", choices=backends.POLICIES, default=backends.AUTO, help="what runs the model (default: %(default)s)"
    )
    runner.add_argument(
        "--precision",
        choices=model_choice.PRECISIONS,
        default=model_choice.AUTO,
        help="precision of the model; auto: fp32 (default: %(default)s)",
    )
    runner.add_argument(
        "--threads", type=int, default=0, help="threads of the runtime; 0: one for each core, at most 8 (default: 0)"
    )
    bundle_signing.add_trusted_keys(runner)
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
        f"NAME: {', '.join(registry.names_of('classification'))}; for a detector also NAME_LOSS with LOSS one of "
        f"{', '.join(registry.BOX_LOSSES)}",
    )
    runner.add_argument(
        "--surrogate",
        type=Path,
        metavar="BUNDLE",
        help="follow the gradients of this bundle instead (gray-box): of the same classes and input size",
    )
    runner.add_argument(
        "--count",
        type=int,
        default=0,
        help=f"how many images (default: all; {attack_images.USUAL_COUNT} of a recording or topic)",
    )
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
    """Attack the images that the user names; exit status 1 when a case fails, 2 when an image could not be read."""
    limits = limit_rules.parse(args.limits) if args.limits else ()
    try_outputs(OutputPath("--report", args.report, "folder") if args.report else None)
    keys = bundle_signing.trusted_keys(args)
    pipeline = open_pipeline(
        args.bundle,
        backend=args.backend,
        threads=args.threads,
        detector=args.detector,
        precision=args.precision,
        trusted_keys=keys,
    )
    suite = _suite(args, pipeline)
    if args.surrogate is not None and not any(_follows_gradients(case, pipeline) for case in suite):
        raise UsageError(
            "--surrogate without an attack that follows gradients",
            found=", ".join(suite) or "no attack",
            expected="--attack with one of fgsm, pgd, mifgsm, apgd on the bundle itself",
        )
    surrogate = None if args.surrogate is None else bundles.read(bundles.locate(args.surrogate))
    if keys is not None and surrogate is not None:
        keys.require_signed(surrogate)
    sources = injection.AttackSources(surrogate, pipeline.choice.backend, args.threads)
    live = bool(args.inputs or args.bag or args.topic is not None)
    first = None if pipeline.detector is None else pipeline.detector.bundle
    suite, limits = self_test.with_limits(pipeline.bundle, suite, limits, detector=first, live=live)
    _make_ready(suite, pipeline, sources)
    images = attack_images.given(args, pipeline, [limit.metric for limit in limits])
    album = SelfTestAlbum()
    report = self_test.run(
        pipeline,
        count=args.count,
        suite=suite,
        seed=args.seed,
        limits=limits,
        sources=sources,
        live=None if images is None else images.frames,
        source="live" if images is None else images.source,
        origin="" if images is None else images.origin,
        watch=album.watch,
        progress=_told_now_and_then(),
    )
    pipeline.close()
    print(to_json(report) if args.json else text(report))
    for note in () if images is None else images.notes:
        print(f"lisard: {note}", file=sys.stderr)
    if args.report:
        page = self_test_files.write(report, args.report, made(), examples=album.examples())
        print(f"report: {page}", file=sys.stderr)
    if images is not None and images.source == "images" and images.unreadable:
        return EXIT_WRONG_USE
    return EXIT_CHECK_FAILED if report.failed else EXIT_DONE


def _told_now_and_then() -> Callable[[SelfTestProgress], None]:
    """Show on stderr how far a long test is."""
    last_s = time.monotonic()

    def tell(progress: SelfTestProgress) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= REPORT_EVERY_S:
            last_s = time.monotonic()
            print(f"lisard: attack run: {progress}", file=sys.stderr, flush=True)

    return tell


def _suite(args: argparse.Namespace, pipeline: Pipeline) -> tuple[str, ...]:
    """Return the cases of --suite and --attack; AttackError for a name that no bundle knows."""
    suite = tuple(filter(None, map(str.strip, args.suite.split(","))))
    for case in suite:
        bundle, name = _of_stage(case.partition("=")[0], pipeline)
        injection.require_known(bundle, name)
    chosen = []
    for word in filter(None, map(str.strip, args.attack.split(","))):
        bundle, name = _of_stage(word, pipeline)
        chosen.append(word[: len(word) - len(name)] + registry.choose(name, bundle.manifest.task).name)
    return (*(suite or (injection.CLEAN,)), *dict.fromkeys(chosen)) if chosen else suite


def _make_ready(suite: Sequence[str], pipeline: Pipeline, sources: injection.AttackSources) -> None:
    """Make each attack once, so that what is missing is told before the long work."""
    for case in suite:
        bundle, name = _of_stage(case.partition("=")[0], pipeline)
        if name.startswith(ATTACK_PREFIX):
            own = sources if bundle is pipeline.bundle else replace(sources, surrogate=None)
            injection.make(bundle, name, sources=own)


def _follows_gradients(case: str, pipeline: Pipeline) -> bool:
    """Whether a case works its attack out with gradients of the bundle, for which a surrogate can stand."""
    name = case.partition("=")[0]
    if not name.startswith(ATTACK_PREFIX):
        return False
    return registry.choose(name, pipeline.bundle.manifest.task).entry.access == "gradients"


def _of_stage(name: str, pipeline: Pipeline) -> tuple[Bundle, str]:
    """Return the bundle that a case attacks, and the name of its injection there."""
    own = name.removeprefix(DETECTOR_PREFIX)
    if own == name or pipeline.detector is None:
        return pipeline.bundle, name
    return pipeline.detector.bundle, own


def text(report: SelfTestReport) -> str:
    """Lay the report out as a table for people."""
    boxes, kinds = any(c.counted == "boxes" for c in report.cases), {c.judged for c in report.cases}
    rows = [
        (
            c.injection,
            c.knowledge,
            *([c.judged] if len(kinds) > 1 else []),
            str(c.accuracy),
            pages.percent(c.success) if c.success.n else "-",
            *([c.false_boxes] if boxes else []),
            c.not_applicable,
            f"{100 * c.min_accuracy:.1f} %" if c.min_accuracy else "-",
            f"FAILED: {c.reason}" if c.verdict == "failed" else c.verdict,
        )
        for c in report.cases
    ]
    where = f", {self_test_files.SOURCES[report.source]} of {report.origin}" if report.origin else ""
    head = f"{report.bundle} ({report.bundle_sha256[:12]}) on {report.backend}, seed {report.seed}{where}\n\n"
    right = JUDGED_WORDS[min(kinds)] if len(kinds) == 1 else "right"
    right = "true boxes found" if boxes and kinds == {"accuracy"} else right
    judged, false_boxes = ["judged by"] * (len(kinds) > 1), ["false boxes"] * boxes
    columns = (*judged, right, "attack succeeds", *false_boxes)
    lines = table(("injection", "knowledge", *columns, "n/a", "limit", "verdict"), rows)
    others = [str(verdict) for verdict in report.figures]
    if report.source == "references" and len(report.verdicts) - len(others) < len(report.cases):
        others.insert(0, "limits of the bundle: a margin below what these images reached at export")
    lines = "\n\n".join([lines, *(["\n".join(others)] if others else [])])
    return f"{head}{lines}\n\nself test {report.summary}"


@dataclass(frozen=True, slots=True)
class ListedAttack:
    """One attack of the registry, for people and JSON.

    objective: at each kind of bundle. knowledge, access and atlas: on the model itself, and by transfer.
    """

    name: str
    tasks: tuple[Task, ...]
    knowledge: tuple[str, ...]
    gradients: int
    queries: int
    budget: str
    needs: str
    objective: tuple[str, ...]
    access: tuple[str, ...]
    atlas: tuple[str, ...]
    source: str

    @classmethod
    def of(cls, entry: registry.AttackEntry) -> ListedAttack:
        """Describe an entry."""
        knowledge = tuple(dict.fromkeys(entry.knowledge(surrogate=surrogate) for surrogate in (False, True)))
        choice = registry.AttackChoice(entry, entry.usual_budget)
        attackers = [choice.attacker(task, known) for task in entry.tasks for known in knowledge]
        return cls(
            ATTACK_PREFIX + entry.name,
            entry.tasks,
            knowledge,
            entry.gradients,
            entry.queries,
            entry.budget,
            entry.needs,
            tuple(dict.fromkeys(attacker.objective for attacker in attackers)),
            tuple(dict.fromkeys(attacker.access for attacker in attackers)),
            tuple(dict.fromkeys(id_ for attacker in attackers for id_ in attacker.atlas)),
            entry.source,
        )


def run_list(args: argparse.Namespace) -> int:
    """List the registry; how large a budget is, is part of a name and so not listed."""
    entries = [entry for entry in registry.REGISTRY.values() if args.task is None or args.task in entry.tasks]
    listed = [ListedAttack.of(entry) for entry in entries]
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
