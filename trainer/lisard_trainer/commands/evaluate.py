"""lisard evaluate BUNDLE: the robustness evidence for a bundle and its controls, as JSON, Markdown and HTML."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from lisard_ros import bundle as bundles
from lisard_ros.attacks import store
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands.output import OutputPath, to_json, try_outputs
from lisard_ros.errors import UsageError

from .. import data
from ..evaluation import cache, chosen, contrasts, ensemble, markdown, page, plan, probe, report, samples, subjects
from ..evaluation import run as running
from ..evaluation.columns import EPS_255
from ..evaluation.detection import command as detector_command
from ..evaluation.detection import page as detector_page
from ..evaluation.detection import plan as detector_plan
from ..training import checkpoint
from ..training.checkpoint import Checkpoint

SUITES = "\n".join(f"  {name:<9} {suite.about}" for name, suite in plan.SUITES.items())
DETECTOR_SUITES = "\n".join(f"  {name:<9} {suite.about}" for name, suite in detector_plan.SUITES.items())
SUMMARY = "measure accuracy clean and attacked, with intervals"
HELP = f"""measure a bundle and its baselines: clean, gray-box, white-box

Gray-box attacks are made on each --surrogate, white-box attacks on each model itself. Results are stored as they are
made: an interrupted evaluation resumes where it stopped, a repeated one is instant.

suites of a classifier:
{SUITES}

suites of a detector (judged by AP; attacks: PGD-10 on class, location and joint loss, TOG, patches):
{DETECTOR_SUITES}

Exit status 1 if the gray-box attack does not meet the conditions under which it counts, or if the bundle seems to
hide its gradients."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `lisard evaluate`."""
    add = parser.add_argument
    add("bundle", type=Path, help="model bundle with a PyTorch model")
    add(
        "--surrogate",
        action="append",
        required=True,
        metavar="[NAME=]RUN",
        help="run folder of an attacker's network; give several with names, the first is the reference",
    )
    add(
        "--ensemble",
        action="store_true",
        help="attack the mean of all surrogates' logits too, as one more surrogate (classifiers only)",
    )
    add(
        "--control",
        action="append",
        default=[],
        metavar="NAME=RUN",
        help="run folder of a baseline; one must be named `plain`",
    )
    add("--suite", default=plan.DEFAULT_SUITE, help=", ".join(plan.SUITES) + " (default: %(default)s)")
    add(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only conditions that fit, for example 'white_*' (may be given several times)",
    )
    add("--data", help="image folder (default: LISARD_DATA)")
    add(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="measure on these images, <class>/<track>_<frame>.png, instead of the held-back tracks of --data",
    )
    add(
        "--contrast",
        action="append",
        default=[],
        metavar="A[,A2]:B[,B2]",
        help="also compare these models (`lisard` is the bundle) with those, the mean of each side on the same "
        "images; for the seeds of a variant and of its baseline (may be given several times)",
    )
    add("--limit", type=int, help="only so many images, evenly spread (default: all)")
    add(
        "--eps",
        type=float,
        default=EPS_255,
        metavar="LEVELS",
        help="budget of every attack except a sweep, in grey levels of 255 (Linf; default: %(default)g)",
    )
    add("--seed", type=int, default=0, help="seed of attacks and bootstrap (default: %(default)s)")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where torch computes (default: %(default)s)")
    add(
        "--torch-only",
        action="store_true",
        help="leave out the bundle's ONNX file, which computes on the CPU (classifiers only)",
    )
    add("--cache", type=Path, metavar="FOLDER", help="where results are kept (default: LISARD_CACHE/evaluations)")
    add("--fresh", action="store_true", help="measure everything anew")
    add("--json", type=Path, help="write the report here")
    add("--table", type=Path, help="write the tables (Markdown) here")
    add("--title", default="", help="title of the page (default: Robustness of NAME; classifiers only)")
    add("--html", type=Path, help="write the page here: one file with tables, curves and images")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an evaluation found, and the images that its page shows."""

    report: report.Report
    attacked: tuple[samples.Gallery, ...]
    corrupted: samples.Gallery | None


def evaluate(args: argparse.Namespace) -> Outcome:
    """Reads, checks, measures and judges."""
    chosen.check_limit(args.limit)
    surrogates, controls = read_surrogates(args.surrogate), read_controls(args.control)
    attackers = ensemble.named(list(surrogates)) if args.ensemble else list(surrogates)
    columns = plan.columns(args.suite, attackers, args.seed, args.only, budget(args.eps))
    pairs = contrasts.parse(args.contrast, [subjects.SHIPPED, *controls])
    bundle = bundles.read(bundles.locate(args.bundle))
    kept = cache.Cache(args.cache or cache.default_folder(), fresh=args.fresh)
    saved = _named(surrogates, controls)
    chosen.check_tasks(bundle.manifest.task, saved)
    everybody = subjects.assemble(bundle, surrogates, controls, _device(args.device))
    everybody = ensemble.joined(everybody) if args.ensemble else everybody
    first = next(iter(surrogates.values()))
    pictures, origin = read_pictures(args, first)
    subjects.check_same_labels(bundle, first.recipe.data.labels, pictures)
    with _bar(running.ticks(everybody, columns, len(pictures))) as bar:
        bench = running.Bench(everybody, pictures, kept, _teller(bar), not args.torch_only)
        measured, probes = running.measure(bench, columns), probe.probe(bench)
    card = bundle.manifest.card
    strangers = chosen.strangers(saved, card.data_sha256 if card else "")
    about = report.Circumstances(_command(args), args.suite, origin, args.seed, strangers, pairs, args.eps, args.title)
    found = report.build(measured, probes, everybody, columns, pictures, about)
    return Outcome(found, samples.attacked(bench, measured), samples.corrupted(bench, measured))


def _named(surrogates: Mapping[str, Checkpoint], controls: Mapping[str, Checkpoint]) -> dict[str, Checkpoint]:
    """All checkpoints, surrogates first, as messages call them."""
    return {f"surrogate {name}".strip(): one for name, one in surrogates.items()} | dict(controls)


def run(args: argparse.Namespace) -> int:
    """Measures and writes; 0 when the checks hold, 1 when not."""
    if (args.bundle / checkpoint.FILE_NAME).is_file():
        raise UsageError(
            "bundle",
            found=f"a run folder, {args.bundle}",
            expected="a bundle",
            cure=f"`lisard export {args.bundle}` makes one",
        )
    try_outputs(
        *(
            OutputPath(option, path, "deep file")
            for option, path in (("--json", args.json), ("--table", args.table), ("--html", args.html))
            if path is not None
        ),
        OutputPath("--cache", args.cache or cache.default_folder(), "folder"),
    )
    bundle = bundles.read(bundles.locate(args.bundle))
    if bundle.manifest.task == "detection":
        return _run_detector(args, bundle)
    found = evaluate(args)
    text = markdown.page(found.report)
    _write(args.json, to_json(found.report) + "\n")
    _write(args.table, text)
    if args.html:
        _write(args.html, page.render(found.report, found.attacked, found.corrupted))
    print(text)
    return EXIT_DONE if found.report.passed else EXIT_CHECK_FAILED


def _run_detector(args: argparse.Namespace, bundle: bundles.Bundle) -> int:
    """The same for a detection bundle."""
    if args.contrast:
        raise UsageError("--contrast", found=args.contrast[0], expected="a classifier", cure="leave --contrast out")
    if args.eps != EPS_255:
        raise UsageError(
            "--eps",
            found=f"{args.eps:g}",
            expected="a classifier",
            cure="a detector's suites have columns of several budgets; see --only",
        )
    if args.title:
        raise UsageError("--title", found=args.title, expected="a classifier", cure="leave --title out")
    if args.torch_only:
        raise UsageError("--torch-only", found="given", expected="a classifier", cure="leave --torch-only out")
    if args.ensemble:
        raise UsageError("--ensemble", found="given", expected="a classifier", cure="leave --ensemble out")
    surrogates, controls = read_surrogates(args.surrogate), read_controls(args.control)
    chosen.check_tasks(bundle.manifest.task, _named(surrogates, controls))
    kept = cache.Cache(args.cache or cache.default_folder(), fresh=args.fresh)
    if args.device == "cuda":
        raise UsageError("--device", found="cuda", expected="cpu, for a detector", cure="leave --device out")
    with _bar(0) as bar:

        def begin(total: int) -> Callable[[str], None]:
            bar.reset(total)
            return _teller(bar)

        done = detector_command.evaluate(args, bundle, surrogates, controls, kept, _command(args), begin)
    text = detector_page.markdown(done.report)
    _write(args.json, to_json(done.report) + "\n")
    _write(args.table, text)
    if args.html:
        _write(args.html, detector_page.html(done.report, done.galleries))
    print(text)
    return EXIT_DONE if done.report.passed else EXIT_CHECK_FAILED


def read_surrogates(words: Sequence[str]) -> dict[str, Checkpoint]:
    """Name in columns -> checkpoint; '' for one that has no name."""
    read: dict[str, Checkpoint] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        name, folder = (name, folder) if equals else ("", word)
        if name in read:
            raise UsageError("--surrogate", found=f"{name or 'no name'} twice", expected="a name for each: NAME=RUN")
        read[name] = checkpoint.read(Path(folder))
    return read


def read_controls(words: Sequence[str]) -> dict[str, Checkpoint]:
    """Name -> checkpoint; `plain` must be among them, and no name twice."""
    read: dict[str, Checkpoint] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise UsageError("--control", found=word, expected="NAME=RUN, for example plain=runs/traffic_signs_plain")
        if name in read:
            raise UsageError("--control", found=f"{name} twice", expected="each name once")
        read[name] = checkpoint.read(Path(folder))
    if subjects.PLAIN not in read:
        raise subjects.no_plain_control()
    return read


def budget(eps_255: float) -> float:
    """The budget itself; a usage error if nothing is left of it in an image of 8 bit."""
    if not 1 <= eps_255 <= store.GREY_LEVELS:
        raise UsageError(
            "--eps",
            found=f"{eps_255:g}",
            expected=f"1 to {store.GREY_LEVELS} grey levels",
            cure="attacked images are rounded to whole grey levels",
        )
    return eps_255


def read_pictures(args: argparse.Namespace, saved: Checkpoint) -> tuple[data.Pictures, str]:
    """The images to measure on, and what they are in words."""
    if args.pictures:
        given = chosen.of_folder(args.pictures, saved)
        return chosen.limited(given, args.limit), f"{chosen.unit(given)} of {args.pictures}"
    pictures, words = chosen.unseen(saved, args.data)
    return chosen.limited(pictures, args.limit), words


def _device(name: str) -> str:
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device", found="cuda, but torch sees no GPU", expected="cpu", cure="leave --device out")
    if name == "cpu" or not torch.cuda.is_available():
        return "cpu"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # the report says float32
    return "cuda"


def _bar(total: int) -> tqdm:
    return tqdm(total=total, unit="part", disable=not sys.stderr.isatty(), dynamic_ncols=True)


def _teller(bar: tqdm) -> Callable[[str], None]:
    """Called with the column of each part that is begun: moves the bar; where none is seen, a line for each column."""
    told: set[str] = set()

    def tell(what: str) -> None:
        if bar.disable and what not in told:
            print(f"lisard: measuring {what}", file=sys.stderr, flush=True)
        told.add(what)
        bar.set_description(what)
        bar.update()

    return tell


def _command(args: argparse.Namespace) -> str:
    """The command line again, without what does not change the figures."""
    words = ["lisard evaluate", str(args.bundle), *(f"--surrogate {word}" for word in args.surrogate)]
    words += [f"--control {word}" for word in args.control]
    words += [f"--suite {args.suite}"] if args.suite != plan.DEFAULT_SUITE else []
    words += [f"--only '{pattern}'" for pattern in args.only]
    words += [f"--contrast {pair}" for pair in args.contrast]
    words += ["--ensemble"] if args.ensemble else []
    words += ["--torch-only"] if args.torch_only else []
    words += [f"--eps {args.eps:g}"] if args.eps != EPS_255 else []
    words += [f"--seed {args.seed}"] + ([f"--limit {args.limit}"] if args.limit else [])
    return " ".join([*words, f"--pictures {args.pictures}" if args.pictures else "--data DATA"])


def _write(path: Path | None, text: str) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            "cannot write the report",
            found=f"{path}: {error.strerror}",
            expected="a writable folder",
            cure="choose another file; what was measured is kept",
        ) from error
