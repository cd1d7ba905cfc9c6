"""lisard evaluate BUNDLE: the robustness evidence for a bundle and its baselines, as JSON, Markdown and HTML."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from lisard_ros import bundle as bundles
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands.output import OutputPath, to_json, try_outputs
from lisard_ros.errors import UsageError

from .. import task_registry
from ..evaluation import cache, models, page
from ..evaluation.conditions import DEFAULT_SUITE
from ..evaluation.report import EvaluationOutcome
from ..evaluation.request import EPS_255, EvaluationRequest, UnsupportedOption
from ..training import checkpoint
from ..training.checkpoint import Checkpoint

SUMMARY = "measure accuracy clean and attacked, with intervals"


SUITES = [task_registry.find(name).suites() for name in task_registry.names()]
SUITES_TEXT = "\n\n".join(
    "\n".join([task.heading, *(f"  {name:<9} {about}" for name, about in task.suites.items())]) for task in SUITES
)
HELP = f"""measure a bundle and its baselines: clean, gray-box, white-box

Gray-box attacks are made on each --surrogate, white-box attacks on each model itself. Results are stored as they are
made: an interrupted evaluation resumes where it stopped, a repeated one is instant.

{SUITES_TEXT}

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
        "--baseline",
        action="append",
        default=[],
        metavar="NAME=RUN",
        help="run folder of a baseline; one must be named `plain`",
    )
    add(
        "--suite",
        default=DEFAULT_SUITE,
        help=", ".join(dict.fromkeys(name for task in SUITES for name in task.suites)) + " (default: %(default)s)",
    )
    add(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only conditions that fit, for example 'white_*' (may be given several times)",
    )
    add("--data", help="image folder (default: LISARD_DATA)")
    add(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="measure on these images, <class>/<track>_<frame>.png, instead of the held-back tracks of --data",
    )
    add(
        "--tracks",
        type=Path,
        metavar="FILE",
        help="only images of the tracks that this file lists, one a line (classifiers only; default: all)",
    )
    add(
        "--compare",
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
        help="leave out the bundle's ONNX files (fp32, int8), which compute on the CPU",
    )
    add("--cache", type=Path, metavar="FOLDER", help="where results are kept (default: LISARD_CACHE/evaluations)")
    add("--no-cache", action="store_true", help="measure everything again, whatever is stored")
    add("--json", type=Path, help="write the report here")
    add("--table", type=Path, help="write the tables (Markdown) here")
    add("--title", default="", help="title of the page (default: it names the recipe)")
    add("--html", type=Path, help="write the page here: one file with tables, curves and images")


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
    task = task_registry.find(bundle.manifest.task)
    check_options(task.unsupported_options, args)
    with tqdm(total=0, unit="part", disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:

        def begin(total: int) -> Callable[[str], None]:
            bar.reset(total)
            return _teller(bar)

        outcome: EvaluationOutcome = task.evaluate(read_request(args, bundle, begin))
    text = page.markdown(outcome.page)
    _write(args.json, to_json(outcome.report) + "\n")
    _write(args.table, text)
    if args.html:
        _write(args.html, page.html(outcome.page))
    print(text)
    return EXIT_DONE if outcome.page.passed else EXIT_CHECK_FAILED


def check_options(unsupported: Sequence[UnsupportedOption], args: argparse.Namespace) -> None:
    """UsageError for the first option that was given although the task's evaluation does not have it."""
    parser = argparse.ArgumentParser()
    configure(parser)
    for one in unsupported:
        name = one.option.removeprefix("--").replace("-", "_")
        given = getattr(args, name)
        if given != parser.get_default(name) and one.value in ("", given):
            raise UsageError(one.option, found=_shown(given), expected=one.expected, cure=one.cure or None)


def _shown(given: object) -> str:
    """The value of an option as the user wrote it; `given` for one without."""
    if given is True:
        return "given"
    if isinstance(given, list):
        return str(given[0])
    return f"{given:g}" if isinstance(given, float) else str(given)


def read_request(
    args: argparse.Namespace, bundle: bundles.Bundle, begin: Callable[[int], Callable[[str], None]]
) -> EvaluationRequest:
    """Reads the models; checks what holds for every task."""
    if args.limit is not None and args.limit < 1:
        raise UsageError("--limit", found=args.limit, expected="1 or more images", cure="leave it out for all")
    surrogates, baselines = read_surrogates(args.surrogate), read_baselines(args.baseline)
    models.check_task(bundle.manifest.task, models.labelled(surrogates, baselines))
    return EvaluationRequest(
        bundle=bundle,
        surrogates=surrogates,
        baselines=baselines,
        cache=cache.Cache(args.cache or cache.default_folder(), fresh=args.no_cache),
        begin=begin,
        command=_command(args),
        suite=args.suite,
        only=tuple(args.only),
        data=args.data,
        images=args.images,
        tracks=args.tracks,
        limit=args.limit,
        seed=args.seed,
        eps_255=args.eps,
        compare=tuple(args.compare),
        ensemble=args.ensemble,
        exported=not args.torch_only,
        device=args.device,
        title=args.title,
        galleries=args.html is not None,
    )


def read_surrogates(words: Sequence[str]) -> dict[str, Checkpoint]:
    """Name in conditions -> checkpoint; '' for one that has no name."""
    read: dict[str, Checkpoint] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        name, folder = (name, folder) if equals else ("", word)
        if name in read:
            raise UsageError("--surrogate", found=f"{name or 'no name'} twice", expected="a name for each: NAME=RUN")
        read[name] = checkpoint.read(Path(folder))
    return read


def read_baselines(words: Sequence[str]) -> dict[str, Checkpoint]:
    """Name -> checkpoint; `plain` must be among them, and no name twice."""
    read: dict[str, Checkpoint] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise UsageError("--baseline", found=word, expected="NAME=RUN, for example plain=runs/traffic_signs_plain")
        if name in read:
            raise UsageError("--baseline", found=f"{name} twice", expected="each name once")
        read[name] = checkpoint.read(Path(folder))
    if models.PLAIN not in read:
        raise models.no_plain_baseline()
    return read


def _teller(bar: tqdm) -> Callable[[str], None]:
    """Called with the condition of each part that is begun: moves the bar; where none is seen, a line for each one."""
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
    words += [f"--baseline {word}" for word in args.baseline]
    words += [f"--suite {args.suite}"] if args.suite != DEFAULT_SUITE else []
    words += [f"--only '{pattern}'" for pattern in args.only]
    words += [f"--compare {pair}" for pair in args.compare]
    words += ["--ensemble"] if args.ensemble else []
    words += ["--torch-only"] if args.torch_only else []
    words += [f"--eps {args.eps:g}"] if args.eps != EPS_255 else []
    words += [f"--tracks {args.tracks}"] if args.tracks else []
    words += [f"--seed {args.seed}"] + ([f"--limit {args.limit}"] if args.limit else [])
    return " ".join([*words, f"--images {args.images}" if args.images else "--data DATA"])


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
