"""lisard train RECIPE: trains what the recipe says, resumes an interrupted run, and exports the recipe's bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .. import checkpoint, data, fit, recipes
from .export import write_bundle

HELP = "train a model from a recipe (resumes where an interrupted run stopped)"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `lisard train`."""
    parser.add_argument("recipe", type=Path, help="YAML file, for example trainer/recipes/traffic_signs.yaml")
    parser.add_argument(
        "--data", help="image folder <class>/<track>_<frame>.png (default: the recipe's, then LISARD_DATA)"
    )
    parser.add_argument("--out", type=Path, help="run folder for checkpoints (default: runs/<recipe name>)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, help="processor threads (default: torch's choice)")
    parser.add_argument("--print", action="store_true", dest="print_only", help="show the resolved recipe and stop")
    parser.add_argument("--bundle", type=Path, help="folder of the exported bundle (default: models/<recipe name>)")
    parser.add_argument("--no-export", action="store_true", help="stop after the last checkpoint")


def run(args: argparse.Namespace) -> int:
    """Trains; 0 when the last epoch is reached."""
    recipe = recipes.read(args.recipe)
    if args.print_only:
        print(recipe.as_yaml(), end="")
        return 0
    if args.threads:
        torch.set_num_threads(args.threads)
    folder = args.out or Path("runs") / recipe.name
    pictures = data.read(data.find_folder(args.data or recipe.data.folder), recipe.data.size_px)
    split = data.split_by_track(pictures, recipe.data.validation_share, recipe.data.split_seed)
    print(f"{recipe.name}: {len(split.train)} training and {len(split.validation)} validation pictures -> {folder}")
    fit.fit(recipe, split, folder, device=_device(args.device))
    if not args.no_export:
        write_bundle(checkpoint.read(folder), args.bundle, args.data, f"lisard train {args.recipe}")
    return 0


def _device(name: str) -> str:
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"
