"""Variants of the detector: each trained alike on road_signs, then all measured against the same surrogates.

    python bench/detector_grid.py --data ROAD_SIGNS         # all that is not done yet
    python bench/detector_grid.py --data ROAD_SIGNS --list  # what is done, what is to do

Data, scenes and optimizer are those of trainer/recipes/road_signs.yaml; --epochs changes their length for all variants.
Trainings are resumed where they stopped (--jobs: so many side by side); measuring is `lisard evaluate` with every
finished variant as a baseline, and keeps what it has measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grid
import yaml

RECIPES = grid.ROOT / "trainer" / "recipes"
NAME = "detector"
RESULTS = grid.RESULTS
# Sections that a baseline leaves out; everything else is common to all variants.
VIEWS = ("noise", "detail_mixing")
TERMS = ("levels", "instances", "agreement")
SHIPPED, PLAIN = "lisard_1", "plain_1"
DECISIVE = ("plain", "noise", "lisard")
SURROGATES = (("plain", 101), ("plain", 102), ("lisard", 101))


def variants() -> dict[str, dict[str, Any]]:
    """Name -> what is laid over the common base: views, then one term after the other, then all of them."""
    shipped = yaml.safe_load((RECIPES / "road_signs.yaml").read_text(encoding="utf-8"))
    noise = {key: shipped[key] for key in VIEWS}
    single = {term: {**noise, term: shipped[term]} for term in TERMS}
    return {"plain": {"views": 1}, "noise": noise, **single, "lisard": {**noise, **{t: shipped[t] for t in TERMS}}}


def base(epochs: int) -> dict[str, Any]:
    """What all variants have in common."""
    shipped = yaml.safe_load((RECIPES / "road_signs.yaml").read_text(encoding="utf-8"))
    common = {key: value for key, value in shipped.items() if key not in (*VIEWS, *TERMS, "name", "seed")}
    return grid.merged(common, {"optimizer": {"epochs": epochs}} if epochs else {})


def queue(seeds: int, epochs: int) -> Iterator[grid.Item]:
    """Surrogates, then one seed of every variant, then more seeds of the decisive ones."""
    everything = variants()
    own = grid.Grid(NAME, base(epochs), {})
    for variant, seed in SURROGATES:
        yield grid.Item(own, f"surrogate_{variant}{seed}", everything[variant], seed)
    for seed in range(1, seeds + 1):
        for variant, changes in everything.items():
            if seed == 1 or variant in DECISIVE:
                yield grid.Item(own, f"{variant}_{seed}", changes, seed)


def measure(items: list[grid.Item], data: str, suite: str) -> int:
    """`lisard evaluate` over every finished variant; the bundle is the variant `lisard`, seed 1."""
    found = {item.name: item for item in items}
    if SHIPPED not in found or PLAIN not in found:
        print(f"nothing is measured before {SHIPPED} and {PLAIN} are trained")
        return 1
    bundle = grid.RUNS / NAME / "bundle"
    if grid.lisard("export", found[SHIPPED].folder, "--out", bundle, "--data", data):
        return 1
    words: list[object] = [grid.in_checkout(bundle)]
    for item in items:
        if item.name.startswith("surrogate_"):
            words += ["--surrogate", f"{item.name.removeprefix('surrogate_')}={grid.in_checkout(item.folder)}"]
        elif item.name != SHIPPED:
            words += ["--baseline", f"{'plain' if item.name == PLAIN else item.name}={grid.in_checkout(item.folder)}"]
    out = RESULTS / "grid_detector"
    files = ("--json", out.with_suffix(".json"), "--table", out.with_suffix(".md"))
    page = ("--html", bundle.parent / "grid.html")
    code = grid.lisard("evaluate", *words, "--suite", suite, "--data", data, *files, *page)
    about = {item.name: json.loads(item.recipe.as_json()) for item in items}
    Path(f"{out}_recipes.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return code


def main() -> int:
    """Trains what is not done, then measures; exit status 1 if something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of road_signs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0, help="of every variant (default: those of the shipped recipe)")
    parser.add_argument("--suite", default="grid", help="suite of `lisard evaluate` (default: %(default)s)")
    parser.add_argument("--only", action="append", default=[], help="only these trainings, for example noise_2")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads of each (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="show the queue and stop")
    parser.add_argument("--no-measure", action="store_true", help="train alone")
    parser.add_argument("--no-train", action="store_true", help="measure what is done")
    args = parser.parse_args()
    items = list(queue(args.seeds, args.epochs))
    if args.list:
        print("\n".join(f"{'done ' if item.done else 'to do'} {item.name}" for item in items))
        return 0
    todo = [] if args.no_train else grid.chosen(items, args.only)
    with ThreadPoolExecutor(args.jobs) as pool:
        failed = sum(pool.map(lambda item: grid.train(item, args.data, args.threads) != 0, todo))
    if args.no_measure:
        return int(failed > 0)
    return int(measure([item for item in items if item.done], args.data, args.suite) != 0 or failed > 0)


if __name__ == "__main__":
    sys.exit(main())
