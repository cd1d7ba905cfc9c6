"""lisard train RECIPE: trains what the recipe says, resumes an interrupted run, and exports the recipe's bundle."""

from __future__ import annotations

import argparse
import shlex
import tempfile
from pathlib import Path
from typing import Any

import torch

from lisard_ros.commands.output import OutputPath, try_outputs
from lisard_ros.errors import UsageError

from .. import recipes, task_registry
from ..training import checkpoint, distributed, logger, loop, state
from . import smoke
from .export import REPLACE, check_place, place, write_bundle

SUMMARY = "train a model from a recipe and export its bundle"
HELP = """train a model from a recipe (resumes where an interrupted run stopped)

lisard train trainer/recipes/traffic_signs.yaml --data FOLDER --bundle models/signs
lisard train trainer/recipes/road_signs.yaml --data FOLDER --bundle models/boxes      a detector (task: detection)
lisard train RECIPE --set seed=2 --set name=signs_2              change keys: SECTION.KEY=VALUE
lisard train --smoke                                             train for seconds: does everything work here?
torchrun --nproc-per-node 2 -m lisard_ros train RECIPE --data FOLDER      one training in several processes

The run folder has last.safetensors (and best.safetensors if the recipe selects that), epochs.csv and steps.csv."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `lisard train`."""
    parser.add_argument(
        "recipe", type=Path, nargs="?", help="YAML file, for example trainer/recipes/traffic_signs.yaml"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="KEY=VALUE",
        help="another value than the recipe's, for example optimizer.epochs=5 (may be given several times)",
    )
    parser.add_argument("--data", help="folder of the data set (default: the recipe's, then LISARD_DATA)")
    parser.add_argument("--out", type=Path, help="run folder for checkpoints (default: runs/<recipe name>)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:NUMBER")
    parser.add_argument("--threads", type=int, help="processor threads (default: torch's choice)")
    parser.add_argument("--print", action="store_true", dest="print_only", help="show the resolved recipe and stop")
    parser.add_argument("--smoke", action="store_true", help="train for seconds on shipped images, export, attack")
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard files (package tensorboardX)")
    parser.add_argument("--bundle", type=Path, help="folder of the exported bundle (default: models/<recipe name>)")
    parser.add_argument("--replace", action="store_true", help=REPLACE)
    parser.add_argument("--no-export", action="store_true", help="stop after the last checkpoint")


def run(args: argparse.Namespace) -> int:
    """Trains; 0 when the last epoch is reached."""
    if args.threads is not None:
        if args.threads < 1:
            raise UsageError("--threads", found=args.threads, expected="1 or more")
        torch.set_num_threads(args.threads)
    if args.smoke:
        return _smoke(args)
    if args.recipe is None:
        raise UsageError(
            "lisard train", found="no recipe", expected="a YAML file", cure="see trainer/recipes, or --smoke"
        )
    recipe = recipes.read(args.recipe, args.changes)
    if args.print_only:
        print(recipe.as_yaml(), end="")
        return 0
    return _train(recipe, args)


def _train(recipe: Any, args: argparse.Namespace) -> int:
    folder = args.out or Path("runs") / recipe.name
    if not args.no_export:
        check_place(place(args.bundle, recipe.name), args.replace, "--bundle")  # now, and not after the last epoch
    try_outputs(OutputPath("--out", folder, "folder"))
    if args.tensorboard:
        logger.check_board()
    state.check_first_weights(recipe.init, folder)
    split = task_registry.of(recipe).load(recipe, args.data)
    if distributed.leads():
        print(f"{recipe.name}: {task_registry.of(recipe).describe(split)} -> {folder}")
    done = loop.fit(recipe, split, folder, device=args.device, board=args.tensorboard)
    if done.team.leads and not args.no_export:
        changes = (word for change in args.changes for word in ("--set", change))
        made_with = shlex.join(["lisard", "train", str(args.recipe), *changes])
        write_bundle(checkpoint.read(folder), args.bundle, args.data, made_with)
    return 0


def _smoke(args: argparse.Namespace) -> int:
    """In a folder that is thrown away, unless --out names one."""
    if args.recipe or args.changes:
        raise UsageError(
            "--smoke",
            found="a recipe, or --set, beside it",
            expected="--smoke without them",
            cure="to shorten a training: RECIPE --set optimizer.epochs=1",
        )
    try_outputs(OutputPath("--out", args.out, "folder") if args.out else None)
    with tempfile.TemporaryDirectory() as passing:
        smoke.run(args.out or Path(passing), args.data, args.device)
    return 0
