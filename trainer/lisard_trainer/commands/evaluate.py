"""lisard evaluate BUNDLE: accuracy clean, gray-box and white-box against controls, as JSON and as a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from lisard_ros import bundle as bundles
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands.output import to_json
from lisard_ros.errors import UsageError

from .. import checkpoint, evaluate, export, tables

HELP = """measure a bundle and its controls on the validation tracks

The attacks are made on --surrogate (gray-box) and on each model itself (white-box).
Exit status 1 if the gray-box attack does not meet the conditions under which it counts."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `lisard evaluate`."""
    parser.add_argument("bundle", type=Path, help="model bundle with a torch twin")
    parser.add_argument("--surrogate", type=Path, required=True, help="run folder of the attacker's network")
    parser.add_argument(
        "--control",
        action="append",
        default=[],
        metavar="NAME=RUN",
        help="run folder of a control; `plain` must be among them",
    )
    parser.add_argument("--data", help="image folder (default: LISARD_DATA)")
    parser.add_argument("--limit", type=int, default=0, help="only so many pictures, evenly spread (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of attacks and bootstrap (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--table", type=Path, help="write the table (Markdown) here")


def run(args: argparse.Namespace) -> int:
    """Measures; 0 when the attack counts, 1 when it does not."""
    surrogate = checkpoint.read(args.surrogate)
    controls = dict(_control(word) for word in args.control)
    pictures = export.load_split(surrogate, args.data).validation
    if args.limit:
        pictures = pictures.take(evaluate.spread(len(pictures), args.limit))
    report = evaluate.evaluate(bundles.read(args.bundle), surrogate, controls, pictures, args.seed, _command(args))
    text = tables.markdown(report)
    _write(args.json, to_json(report) + "\n")
    _write(args.table, text)
    print(text)
    return EXIT_DONE if report.valid else EXIT_CHECK_FAILED


def _command(args: argparse.Namespace) -> str:
    controls = " ".join(f"--control {word}" for word in args.control)
    limit = f" --limit {args.limit}" if args.limit else ""
    return (
        f"lisard evaluate {args.bundle} --surrogate {args.surrogate} {controls} --seed {args.seed}{limit} --data DATA"
    )


def _control(word: str) -> tuple[str, checkpoint.Checkpoint]:
    name, equals, folder = word.partition("=")
    if not (name and equals and folder):
        raise UsageError("--control", found=word, expected="NAME=RUN, for example plain=runs/traffic_signs_plain")
    return name, checkpoint.read(Path(folder))


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
