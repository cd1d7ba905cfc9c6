"""`lisard models`: the bundles that come with this package, whether they are whole, and a copy of one."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lisard_ros import bundle as bundles
from lisard_ros import share
from lisard_ros.bundle import Bundle
from lisard_ros.cli import EXIT_CHECK_FAILED, EXIT_DONE
from lisard_ros.commands.output import table, to_json
from lisard_ros.errors import BundleError, NewerSchemaError, UsageError, unknown_name

SUMMARY = "list, verify and copy the bundles that come with this package"
HELP = """List, verify and copy the bundles that come with this package.

  lisard models                                what is here, and whether every file matches its hash
  lisard models verify road_signs              exit status 1 if a bundle is not whole
  lisard models copy traffic_signs my_signs    a folder of your own, byte for byte

A checkout and `colcon build` have the bundles. A wheel leaves them out, because they are larger than all the code:
pip install 'lisard_ros[models]' adds them. The node and `lisard predict`, `replay` and `doctor` take them as
models/NAME, from any folder. What changes a bundle needs a copy."""

MEGABYTE = 1e6
State = Literal["whole", "newer schema", "damaged"]


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """A bundle that comes with the package.

    error: '' for a whole one; the fields between state and error are empty or 0 for one that cannot be read.
    """

    name: str
    path: str
    state: State
    task: str = ""
    classes: int = 0
    megabytes: float = 0.0
    licence: str = ""
    sha256: str = ""
    error: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions; without one the bundles are listed."""
    parser.set_defaults(call=_list, names=[])
    parser.add_argument("--json", action="store_true", help="print JSON")
    after = argparse.ArgumentParser(add_help=False)  # --json behind an action; left out, it keeps what stands before
    after.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    actions = parser.add_subparsers(dest="action")
    verifier = actions.add_parser("verify", parents=[after], help="check every file of the bundles against its hash")
    verifier.add_argument("names", nargs="*", metavar="NAME", help="bundles to check (default: all)")
    verifier.set_defaults(call=_verify)
    copier = actions.add_parser("copy", parents=[after], help="copy a bundle to a folder of your own")
    copier.add_argument("name", metavar="NAME", help="which bundle")
    copier.add_argument("target", nargs="?", type=Path, metavar="FOLDER", help="new folder (default: ./NAME)")
    copier.set_defaults(call=_copy)


def run(args: argparse.Namespace) -> int:
    """List, verify or copy."""
    status: int = args.call(args)
    return status


def _list(args: argparse.Namespace) -> int:
    _show([_look(name, path) for name, path in bundles.shipped().items()], args.json)
    return EXIT_DONE


def _verify(args: argparse.Namespace) -> int:
    there = bundles.shipped()
    models = [_look(name, _path_of(name, there)) for name in args.names or there]
    _show(models, args.json)
    return EXIT_DONE if models and all(model.state == "whole" for model in models) else EXIT_CHECK_FAILED


def _copy(args: argparse.Namespace) -> int:
    made = bundles.copy(_path_of(args.name, bundles.shipped()), args.target or Path(args.name))
    print(to_json(_described(args.name, made)) if args.json else f"{made.path}: {args.name} {made.sha256[:12]}")
    return EXIT_DONE


def _path_of(name: str, there: dict[str, Path]) -> Path:
    """Return where a shipped bundle lies; UsageError lists those that are there."""
    name = name.removeprefix(f"{bundles.MODELS}/").rstrip("/")
    if not there:
        raise UsageError(
            "no bundle comes with this installation",
            found=f"none in {', '.join(str(folder / bundles.MODELS) for folder in share.folders())}",
            expected=name,
            cure="pip install 'lisard_ros[models]', or use a checkout",
        )
    if name not in there:
        raise unknown_name("model", name, there)
    return there[name]


def _look(name: str, path: Path) -> ShippedModel:
    """Read a bundle and verify every file."""
    try:
        return _described(name, bundles.read(path))
    except BundleError as error:
        state: State = "newer schema" if isinstance(error, NewerSchemaError) else "damaged"
        return ShippedModel(name, str(path), state, error=str(error))


def _described(name: str, bundle: Bundle) -> ShippedModel:
    manifest = bundle.manifest
    size = len(bundle.manifest_bytes) + sum(map(len, bundle.contents.values()))
    return ShippedModel(
        name,
        str(bundle.path),
        "whole",
        manifest.task,
        len(manifest.labels),
        round(size / MEGABYTE, 1),
        manifest.card.licence if manifest.card else "",
        bundle.sha256,
    )


def _show(models: list[ShippedModel], as_json: bool) -> None:
    """Print the models; what is wrong with one goes to stderr."""
    if as_json:
        print(to_json(models))
        return
    if not models:
        print("no bundle comes with this installation: pip install 'lisard_ros[models]', or use a checkout")
        return
    rows = [
        (f"{bundles.MODELS}/{one.name}", one.task, one.classes or "", one.megabytes or "", one.state, one.path)
        for one in models
    ]
    print(table(("model", "task", "classes", "MB", "state", "path"), rows))
    for one in models:
        if one.error:
            print(f"lisard: {one.name}: {one.error}", file=sys.stderr)
