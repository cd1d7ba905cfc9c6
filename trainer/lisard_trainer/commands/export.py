"""lisard export RUN: turns a checkpoint into a model bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from lisard_ros import bundle
from lisard_ros.commands.output import OutputPath, try_outputs

from .. import task_registry
from ..training import checkpoint

REPLACE = "replace a bundle to which stored attacks or other models were added; make them again afterwards"
SUMMARY = "turn a checkpoint into a bundle (ONNX and PyTorch model)"
HELP = "turn a checkpoint into a model bundle (ONNX, PyTorch model, self test, training card)"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `lisard export`."""
    parser.add_argument("run_folder", type=Path, help="run folder of `lisard train`, or a checkpoint file")
    parser.add_argument("--out", type=Path, help="bundle folder (default: models/<recipe name>)")
    parser.add_argument("--data", help="the image folder of the training (default: the recipe's, then LISARD_DATA)")
    parser.add_argument("--replace", action="store_true", help=REPLACE)


def run(args: argparse.Namespace) -> int:
    """Exports; 0 when ONNX Runtime and torch agree."""
    saved = checkpoint.read(args.run_folder)
    check_place(place(args.out, saved.recipe.name), args.replace, "--out")
    write_bundle(saved, args.out, args.data, f"lisard train trainer/recipes/{saved.recipe.name}.yaml")
    return 0


def check_place(target: Path, replace: bool, option: str) -> None:
    """BundleError before any work if a bundle cannot be written there, or would lose what was added to an older one."""
    bundle.check_place(target)
    try_outputs(OutputPath(option, target, "bundle"))
    if not replace:
        bundle.check_replaceable(target, f"choose another {option}, or give --replace and make them again")


def place(out: Path | None, name: str) -> Path:
    """Where the bundle of a recipe goes."""
    return out or Path("models") / name


def write_bundle(saved: checkpoint.Checkpoint, out: Path | None, folder: str | None, command: str) -> None:
    """Exports and says where to."""
    name, task = saved.recipe.name, task_registry.of(saved.recipe)
    split = task.load(saved.recipe, folder)
    what, cure = f"lisard export {name}", "give the training's own --data"
    checkpoint.check_images(saved, split.train.sha256(), what, cure)
    checkpoint.check_classes(saved, split.train.classes, what, cure)
    done = task.export(saved, split, place(out, name), name, command)
    print(f"bundle {done.bundle.path} ({done.bundle.sha256[:12]}): torch and ONNX differ by {done.parity}")
