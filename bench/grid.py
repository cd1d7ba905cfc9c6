"""The grid of variants: every variant and seed trained alike, then all of them measured against the same surrogates.

    python bench/grid.py gtsrb --data DATA            # everything that is not done yet
    python bench/grid.py gtsrb --data DATA --list     # what is done, what is to do
    python bench/grid.py cifar10 --data DATA --no-train --attackers 3 --report NAME
                              # variants of seed 3 attack those of other seeds: attackers who know the recipe

One training after the other (--jobs: so many side by side, and as many parts of the measuring), each with checkpoints,
so that an interrupted queue goes on where it stopped. Measuring is `lisard evaluate` with every finished variant as a
baseline; it keeps what it has measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evaluation_json
import grid_chart
import grid_table

from lisard_trainer import recipes
from lisard_trainer.tasks.classification.evaluation import suites
from lisard_trainer.tasks.classification.evaluation.models import ENSEMBLE
from lisard_trainer.training import checkpoint

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs" / "grid"
RESULTS = ROOT / "docs" / "results"
RECIPES = ROOT / "trainer" / "recipes"

NORMALISED = {"form": "normalised", "weight": 2.0, "off_weight": 0.1}
OFFICIAL = {"form": "official"}
PUBLISHED_NOISE = {"sigma_low": 0.177123, "sigma_high": 0.177123}
# Two stages: what all variants of the GTSRB grid share is taken from the first, what makes it robust from the second.
BASE, SHIPPED, NOISE_ONLY = (recipes.read(RECIPES / f"traffic_signs{end}.yaml") for end in ("_base", "", "_noise_only"))
# A former recipe: stronger noise, some of it on the first view, and details of another image.
OVERLAY = {
    "noise": {"sigma_low": 0.2, "sigma_high": 0.2, "first_view_high": 0.1},
    "detail_mixing": {"first_255": 12, "own_low": 0.5, "own_high": 1.5, "donors": "alike"},
}
# The published training but for its length: alpha is that of the first epochs of a run of 200, the warm-up one epoch.
FAITHFUL: dict[str, Any] = {
    "forward": "separate",
    "similarity": {**OFFICIAL, "projector": "dead", "divisor": "batch", "precision": "autocast"},
    "loss": {"alpha": "official"},
    "optimizer": {"schedule": "official", "official_warmup_epochs": 1, "decay_norm_and_bias": True, "shuffle": False,
                  "drop_last": False},
}  # fmt: skip
# The same as long as what ships, whose two stages take 15 and 12 epochs.
EPOCHS_SHIPPED = BASE.optimizer.epochs + SHIPPED.optimizer.epochs
FAITHFUL_LONG = {**FAITHFUL, "optimizer": {**FAITHFUL["optimizer"], "epochs": EPOCHS_SHIPPED}}
LINEAR = {"forward": "separate", "gradient": {**dataclasses.asdict(SHIPPED.gradient), "after": 9}}
VARIANTS: dict[str, dict[str, Any]] = {
    "ce": {"views": 1},
    "noise": {},
    "noise_separate": {"forward": "separate"},
    "noise_rising": {"forward": "separate", "loss": {"alpha": "rising"}},  # `published` without its similarity term
    "published": {"forward": "separate", "similarity": OFFICIAL, "loss": {"alpha": "rising"}},
    "normalised": {"similarity": NORMALISED},
    "faithful": FAITHFUL,
    "overlay": OVERLAY,
    "overlay_lisard": {**OVERLAY, "similarity": NORMALISED},
    "linear": LINEAR,
    "linear_half": {**LINEAR, "gradient": {**LINEAR["gradient"], "weight": SHIPPED.gradient.weight / 2}},
    "linear_quiet": {**LINEAR, "noise": {"sigma_low": 0.1, "sigma_high": 0.1}},
    "linear_float32": {**LINEAR, "gradient": {**LINEAR["gradient"], "precision": "float32"}},
    "stages": {"similarity": {**NORMALISED, "layers": "stages"}},
    "kl": {"consistency": {"form": "kl"}},
    "slope": {"gradient": {"form": "slope", "weight": 0.004, "share": 0.5, "distance_255": 0.5}},
    "adversarial": {"views": 1, "adversarial": {"form": "fgsm_rs"}},
}
DECISIVE = (
    "ce",
    "noise",
    "noise_separate",
    "noise_rising",
    "published",
    "normalised",
    "linear",
    "linear_half",
    "linear_quiet",
    "linear_float32",
    "faithful",
    "adversarial",
)
# What the second stage of the shipped recipe changes in the first.
STAGE: dict[str, Any] = {
    key: dataclasses.asdict(getattr(SHIPPED, key)) for key in ("augment", "similarity", "gradient", "loss", "optimizer")
} | {"forward": SHIPPED.forward}
# Both stages, 27 epochs: as shipped, without the similarity term in the second, and without either term.
STAGES: dict[str, dict[str, Any]] = {
    "shipped": STAGE,
    "linear_stage": {**STAGE, "similarity": {"form": "none"}},
    "noise_stage": {**STAGE, "similarity": {"form": "none"}, "gradient": {"form": "none"}},
}
SURROGATE = "surrogate_"  # before the names of the attackers' networks
FIRST_STAGE = "noise_rising"  # the variant, of the same seed, from which they go on


@dataclass(frozen=True)
class Grid:
    """A data set with what all variants share, and the attackers' networks (name -> changes and seed).

    stages: second stages, which go on from a variant. shipped: trainings that trainer/recipes has under a name of
    its own, so that none is done twice. variants: name -> changes; decisive: those that get more than one seed unasked.
    reference: the variant whose first finished seed is measured as the bundle. gpu: it is meant for one, so that the
    bundle's ONNX file, which would answer on the CPU, is left out.
    """

    name: str
    base: dict[str, Any]
    surrogates: dict[str, tuple[dict[str, Any], int]]
    stages: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    shipped: dict[str, str] = dataclasses.field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = dataclasses.field(default_factory=lambda: VARIANTS)
    decisive: tuple[str, ...] = DECISIVE
    reference: str = "published"
    gpu: bool = False


@dataclass(frozen=True)
class Item:
    """One training of the queue."""

    grid: Grid
    name: str
    changes: dict[str, Any]
    seed: int

    @property
    def variant(self) -> str:
        """Its name without the seed."""
        return self.name.rpartition("_")[0]

    def attacks(self, attackers: int | None) -> bool:
        """Whether it is an attacker's network; attackers: the seed whose variants are."""
        return self.name.startswith(SURROGATE) or self.seed == attackers

    @property
    def planned(self) -> bool:
        """Whether it is trained unasked; other seeds of variants that are not decisive are when `--only` names them."""
        return self.seed == 1 or self.variant not in self.grid.variants or self.variant in self.grid.decisive

    @property
    def folder(self) -> Path:
        """Where its checkpoint lies."""
        shipped = self.grid.shipped.get(self.name)
        return RUNS / self.grid.name / self.name if shipped is None else ROOT / "runs" / shipped

    @property
    def recipe(self) -> recipes.Recipe:
        """Base and changes, resolved."""
        if self.name in self.grid.shipped:
            return recipes.read(RECIPES / f"{self.grid.shipped[self.name]}.yaml")
        return self.resolved

    @property
    def resolved(self) -> recipes.Recipe:
        """Base and changes, whatever trainer/recipes has."""
        return recipes.from_mapping(merged({"name": self.name, "seed": self.seed, **self.grid.base}, self.changes))

    @property
    def done(self) -> bool:
        """Whether the last epoch of this recipe is there; `lisard train` refuses to go on with another's."""
        if not (self.folder / checkpoint.FILE_NAME).is_file():
            return False
        saved, recipe = self.saved, self.recipe
        return saved.epoch >= recipe.optimizer.epochs and not checkpoint.recipe_differences(saved.recipe, recipe)

    @property
    def saved(self) -> checkpoint.Checkpoint:
        """The checkpoint of its last epoch so far."""
        return checkpoint.read_file(self.folder / checkpoint.FILE_NAME)


GTSRB = Grid(
    "gtsrb",
    {
        "network": BASE.network,
        "data": {"labels": BASE.data.labels},
        "augment": dataclasses.asdict(BASE.augment),
        "noise": PUBLISHED_NOISE,
        "optimizer": dataclasses.asdict(BASE.optimizer),
    },
    {
        # The first is the reference attacker: trained as long as the variants, as `plain101`, which ships, is not.
        "plain102": ({"views": 1}, 102),
        "plain103": ({"views": 1}, 103),
        "plain101": ({"views": 1}, 101),
        "resnet20": ({"views": 1, "network": "resnet20"}, 101),
        "lisard101": (VARIANTS["overlay_lisard"], 101),
        "published101": (VARIANTS["published"], 101),
        # The second stage of the shipped recipe, of another seed and another first stage.
        "linear101": ({**STAGE, "init": {"weights": "runs/grid/gtsrb/surrogate_lisard101"}}, 101),
    },
    STAGES,
    {"surrogate_plain101": "traffic_signs_surrogate", "noise_rising_1": BASE.name, "shipped_1": SHIPPED.name,
     "noise_stage_1": NOISE_ONLY.name},
    {**VARIANTS, "faithful_long": FAITHFUL_LONG},
)  # fmt: skip
CIFAR10 = Grid(
    "cifar10",
    {
        "network": "resnet8",
        "data": {"kind": "cifar10"},
        "augment": {"shift_px": 0, "rotation_deg": 0, "zoom": 1, "shear": 0, "contrast_low": 1, "contrast_high": 1,
                    "brightness": 0, "flip": True, "crop_padding_px": 4},
        "noise": PUBLISHED_NOISE,
        "optimizer": {"epochs": 20, "batch_size": 128, "max_lr": 0.1, "warmup_fraction": 0.1},
    },
    {
        "plain101": ({"views": 1}, 101),
        "plain102": ({"views": 1}, 102),
        "plain103": ({"views": 1}, 103),
        "resnet14n": ({"views": 1, "network": "resnet14n"}, 101),
        "lisard101": (VARIANTS["overlay_lisard"], 101),
        "published101": (VARIANTS["published"], 101),
        "linear101": (VARIANTS["linear"], 101),
    },
    reference="faithful",
)  # fmt: skip
# The published network, for a GPU, as long as ResNet-8 is trained.
RESNET18 = Grid(
    "resnet18",
    {
        **CIFAR10.base,
        "network": "resnet18",
        "optimizer": {**CIFAR10.base["optimizer"], "batch_size": 256, "max_lr": 0.2},
    },
    {
        "plain101": ({"views": 1}, 101),
        "resnet20": ({"views": 1, "network": "resnet20"}, 101),
        "lisard101": (VARIANTS["normalised"], 101),
        "linear101": (VARIANTS["linear"], 101),
    },
    variants={name: VARIANTS[name] for name in ("ce", "noise_separate", "faithful", "adversarial", "linear")},
    decisive=("noise_separate", "faithful", "linear"),
    reference="faithful",
    gpu=True,
)  # fmt: skip
GRIDS = {grid.name: grid for grid in (GTSRB, CIFAR10, RESNET18)}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, section by section."""
    out = dict(base)
    for key, value in changes.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def queue(grid: Grid, seeds: int) -> Iterator[Item]:
    """Surrogates, every variant and then every second stage with each seed, planned or not."""
    for name, (changes, seed) in grid.surrogates.items():
        yield Item(grid, f"{SURROGATE}{name}", changes, seed)
    for seed in range(1, seeds + 1):
        for variant, changes in grid.variants.items():
            yield Item(grid, f"{variant}_{seed}", changes, seed)
    for seed in range(1, seeds + 1):
        for stage, changes in grid.stages.items():
            start = in_checkout(Item(grid, f"{FIRST_STAGE}_{seed}", grid.variants[FIRST_STAGE], seed).folder)
            yield Item(grid, f"{stage}_{seed}", {**changes, "init": {"weights": str(start)}}, seed)


def chosen(items: list[Item], only: list[str]) -> list[Item]:
    """What is not done, of `only` or of all planned; ends the program when one of `only` is not in the queue."""
    names = [item.name for item in items]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise SystemExit(f"--only: found {', '.join(unknown)}, expected some of {', '.join(names)}; see --list")
    return [item for item in items if not item.done and (item.name in only if only else item.planned)]


def in_checkout(path: Path) -> Path:
    """As seen from the checkout, in which `lisard` runs: reports name their command, and no machine."""
    return path.relative_to(ROOT)


def train(item: Item, data: str, device: str, threads: int) -> int:
    """Trains one item to its end; exit status of `lisard train`."""
    item.folder.mkdir(parents=True, exist_ok=True)
    path = item.folder / f"{item.name}.yaml"
    path.write_text(item.recipe.as_yaml(), encoding="utf-8")
    print(f"{item.name}: begins", flush=True)
    with (item.folder / "log.txt").open("a") as log:
        code = lisard(
            "train",
            path,
            "--data",
            data,
            "--out",
            item.folder,
            "--no-export",
            "--device",
            device,
            "--threads",
            threads,
            log=log,
        )
    print(f"{item.name}: {'done' if code == 0 else 'failed, see its log.txt'}", flush=True)
    return code


def lisard(*words: object, log: Any = None) -> int:
    """Runs a `lisard` command."""
    command = [sys.executable, "-m", "lisard_ros", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False).returncode


@dataclass(frozen=True)
class Measuring:
    """How finished trainings are measured.

    conditions: patterns, none: all. jobs: parts side by side. report: name of the pages. attackers: a seed whose
    variants are surrogates, and not measured. limit: so many images (none: all). ensemble: all surrogates at once
    attack too.
    """

    data: str
    device: str
    conditions: list[str]
    jobs: int
    report: str
    attackers: int | None = None
    limit: int | None = None
    ensemble: bool = False


def measure(grid: Grid, items: list[Item], how: Measuring) -> int:
    """`lisard evaluate` over every finished variant, and the pages."""
    variants = [item for item in items if not item.attacks(how.attackers)]
    first = next((item for item in variants if item.variant == grid.reference), None)
    if first is None or not any(item.name == grid_table.STANDARD for item in variants):
        print(f"nothing is measured before {grid.reference} and {grid_table.STANDARD} are trained")
        return 1
    bundle, report = RUNS / grid.name / "bundle", RESULTS / f"{how.report}.json"
    if lisard("export", first.folder, "--out", bundle, "--data", how.data):
        return 1
    words: list[object] = [in_checkout(bundle), *models(items, first, how.attackers), "--suite", "grid"]
    words += ["--data", how.data, "--device", how.device, *(["--torch-only"] if grid.gpu else [])]
    words += [] if how.limit is None else ["--limit", how.limit]
    words += ["--ensemble"] if how.ensemble else []
    if how.jobs > 1:
        prepare(words, parts(items, how), how.jobs)
    words += [word for pattern in how.conditions for word in ("--only", pattern)]
    pairs = grid_table.comparisons([item.name for item in variants])
    code = lisard("evaluate", *words, *(word for pair in pairs for word in ("--compare", pair)), "--json", report)
    if report.is_file():
        publish(report, items)
    return code


def models(items: list[Item], first: Item, attackers: int | None) -> Iterator[str]:
    """Surrogates and baselines as `lisard evaluate` is told of them; `first` is the bundle."""
    for item in items:
        if item.attacks(attackers):
            yield from ("--surrogate", f"{item.name.removeprefix(SURROGATE)}={in_checkout(item.folder)}")
        elif item is not first:
            yield from ("--baseline", f"{grid_table.name_in_report(item.name)}={in_checkout(item.folder)}")


def publish(report: Path, items: list[Item]) -> None:
    """Recipes, page and drawing beside the report."""
    about = {item.name: trained(item) for item in items}
    report.with_name(f"{report.stem}_recipes.json").write_text(json.dumps(about, indent=1) + "\n")
    found = evaluation_json.read(report)
    report.with_suffix(".md").write_text(grid_table.markdown(found))
    report.with_suffix(".svg").write_text(grid_chart.drawing(found))


def trained(item: Item) -> dict[str, Any]:
    """The recipe of its checkpoint, with the arithmetic that it was trained in."""
    saved = item.saved
    return {**json.loads(saved.recipe.as_json()), "precision": saved.precision}


def parts(items: list[Item], how: Measuring) -> list[str]:
    """Patterns that divide the conditions: what is made on each surrogate, and each attack on the models themselves."""
    attackers = [item.name.removeprefix(SURROGATE) for item in items if item.attacks(how.attackers)]
    attackers += [ENSEMBLE] if how.ensemble else []
    planned = suites.conditions("grid", attackers, 0, how.conditions)
    sources = [one.attack.surrogate if one.attack else "" for one in planned]
    names = [f"*@{source}" if source else one.name for source, one in zip(sources, planned, strict=True)]
    return list(dict.fromkeys(names))


def prepare(words: list[object], patterns: list[str], jobs: int) -> None:
    """Measures the parts side by side, so that the report finds them kept. What fails here fails there, and is told."""
    with ThreadPoolExecutor(jobs) as pool, open(os.devnull, "w") as nowhere:
        list(pool.map(lambda pattern: lisard("evaluate", *words, "--only", pattern, log=nowhere), patterns))


def main() -> int:
    """Trains what is not done, then measures; exit status 1 if something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", choices=sorted(GRIDS))
    parser.add_argument("--data", required=True, help="folder of the data set")
    parser.add_argument("--seeds", type=int, default=3, help="of the decisive variants (default: %(default)s)")
    parser.add_argument("--only", action="append", default=[], help="only these trainings, for example noise_2 or kl_2")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads of each (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    parser.add_argument("--list", action="store_true", help="show the queue and stop")
    parser.add_argument("--no-measure", action="store_true", help="train alone")
    parser.add_argument("--no-train", action="store_true", help="measure what is done")
    parser.add_argument("--attackers", type=int, metavar="SEED", help="its variants are surrogates for the others")
    parser.add_argument("--ensemble", action="store_true", help="all surrogates at once attack too")
    parser.add_argument("--limit", type=int, help="measure on so many images (default: all)")
    parser.add_argument("--report", metavar="NAME", help="name of the pages in docs/results (default: grid_GRID)")
    parser.add_argument("--conditions", action="append", default=[], help="measure only these, for example 'gray_*'")
    args = parser.parse_args()
    items = list(queue(GRIDS[args.grid], args.seeds))
    if args.list:
        shown = [item for item in items if item.planned or item.done]
        print("\n".join(f"{'done ' if item.done else 'to do'} {item.name}" for item in shown))
        return 0
    todo = [] if args.no_train else chosen(items, args.only)
    with ThreadPoolExecutor(args.jobs) as pool:
        failed = sum(pool.map(lambda item: train(item, args.data, args.device, args.threads) != 0, todo))
    if args.no_measure:
        return int(failed > 0)
    done = [item for item in items if item.done]
    name = args.report or f"grid_{args.grid}"
    how = Measuring(args.data, args.device, args.conditions, args.jobs, name, args.attackers, args.limit, args.ensemble)
    code = measure(GRIDS[args.grid], done, how)
    return int(code != 0 or failed > 0)


if __name__ == "__main__":
    sys.exit(main())
