"""Candidates for the shipped classifier beside it, on the held-back tracks that recipes are chosen on.

    python bench/candidates.py --data DATA --candidate NAME=RUN --surrogate NAME=RUN --plain RUN
    python bench/candidates.py --page                       # docs/results/candidates.md from its JSON files again

Measures by `lisard evaluate` on one of bench/tracks (--half), and beside it PGD-10 made on each model and met by
the others. What is measured is kept: the command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import evaluation_json
import numpy as np
import torch

from lisard_ros import bundle as bundles
from lisard_ros.backends.pytorch import load_network
from lisard_trainer import data, recipes
from lisard_trainer.commands import evaluate
from lisard_trainer.evaluation import cache
from lisard_trainer.evaluation.models import PLAIN
from lisard_trainer.evaluation.runner import measure
from lisard_trainer.tasks.classification.evaluation import command, suites
from lisard_trainer.tasks.classification.evaluation.measuring import ClassificationContext
from lisard_trainer.tasks.classification.evaluation.models import ClassifierLoader
from lisard_trainer.tasks.classification.evaluation.results import ClassificationResults, ImageTracks
from lisard_trainer.tasks.classification.records import ClassificationEpoch
from lisard_trainer.tasks.classification.task import TASK
from lisard_trainer.training import checkpoint

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = Path("models") / "traffic_signs"  # called by its folder in reports too
RESULTS = ROOT / "docs" / "results"
# Which tracks a half has, and the name of its result files. `report` is measured once, for the model that is to ship.
TRACKS = {half: Path("bench") / "tracks" / f"gtsrb_{half}.txt" for half in ("selection", "report")}
NAMES = {"selection": "candidates", "report": "candidates_report"}
SUITE = "standard"
# On each surrogate the published attacks and those that transfer best; white-box; and a budget that no model survives.
GRAY = ("fgsm", "pgd10", "mi_fgsm", "ti_fgsm")
WHITE = ("white_pgd10", "white_apgd_ce", "sweep_pgd50_eps32")
WEAK = (19, 21, 27, 30)  # classes that an outside test found weak
BY_CLASS = ("clean", "white_pgd10")
MADE_ON = "on_"  # before the name of a measured model as an attacker's network
SHOWN = {"clean": "clean", "gray_worst": "worst gray-box condition", "white_pgd10": "white-box PGD-10",
         "white_apgd_ce": "white-box APGD-CE", "sweep_pgd50_eps32": "PGD-50, 32/255"}  # fmt: skip


def shipped_checkpoint(split: data.Split) -> checkpoint.Checkpoint:
    """The network of the shipped bundle as a checkpoint, for attacks on it; no training goes on from it.

    Args:
        split: The images that it was trained on and judged by.
    """
    bundle = bundles.read(ROOT / BUNDLE)
    card = bundle.manifest.card
    assert card is not None
    recipe = recipes.from_mapping(json.loads(card.recipe))
    epoch = ClassificationEpoch(
        epoch=recipe.optimizer.epochs,
        loss=0.0,
        seconds=card.metrics["training_seconds"],
        cross_entropy=0.0,
        similarity=0.0,
        validation_accuracy=card.metrics["validation_accuracy"],
    )
    return checkpoint.Checkpoint(
        recipe=recipe,
        classes=split.train.classes,
        data_sha256=split.train.sha256(),
        precision=recipe.precision,
        epoch=epoch.epoch,
        step=0,
        history=(epoch,),
        network=load_network(bundle).backbone.state_dict(),
        optimizer_state={},
        random=torch.get_rng_state(),
        validation_sha256=split.validation.sha256(),
    )


def patterns(surrogates: Sequence[str]) -> list[str]:
    """Conditions that are measured."""
    return [f"gray_{method}@{name}" for name in surrogates for method in GRAY] + list(WHITE)


def words(surrogates: Sequence[str], plain: str, candidates: Sequence[str], folder: str, half: str) -> list[str]:
    """The command line of `lisard evaluate` without what it writes."""
    found = [str(BUNDLE), "--suite", SUITE, "--data", folder, "--device", "cpu", "--torch-only"]
    found += ["--tracks", str(TRACKS[half]), "--baseline", f"{PLAIN}={plain}"]
    for word in surrogates:
        found += ["--surrogate", word]
    for word in candidates:
        found += ["--baseline", word, "--compare", f"{word.partition('=')[0]}:{BUNDLE.name}"]
    for pattern in patterns([word.partition("=")[0] for word in surrogates]):
        found += ["--only", pattern]
    return found


@dataclass(frozen=True, eq=False)
class Beside:
    """What `lisard evaluate` does not report: every model by class, and PGD-10 of each model met by the others."""

    context: ClassificationContext
    measured: ClassificationResults

    def classes(self) -> Iterator[dict[str, Any]]:
        """Hits of every measured model for each weak class."""
        images = self.context.dataset
        labels = images.labels.numpy()
        for model, name in itertools.product(self.context.models.measured, BY_CLASS):
            result = self.measured.result(model.name, name)
            assert result is not None
            for number in WEAK:
                among = labels[result.positions] == number
                tracks = {images.tracks[at] for at in result.positions[among]}
                counts = {"n": int(np.sum(among)), "hits": int(np.sum(result.hits[among])), "tracks": len(tracks)}
                yield {"model": model.name, "condition": name, "class": number, **counts}

    def transfers(self) -> Iterator[dict[str, Any]]:
        """Accuracy of each measured model under PGD-10 that was made on another one."""
        tracks = ImageTracks(self.context.dataset.tracks)
        for source, model in itertools.product(self.context.models.surrogates, self.context.models.measured):
            result = self.measured.result(model.name, f"gray_pgd10@{source}")
            if result is not None and source != MADE_ON + model.name:
                accuracy = dataclasses.asdict(tracks.count(result.hits, result.positions))
                yield {"made_on": source.removeprefix(MADE_ON), "model": model.name, "accuracy": accuracy}


def beside(plain: str, candidates: Sequence[str], folder: str, half: str) -> Beside:
    """Measures, or takes what `lisard evaluate` has kept."""
    baselines = evaluate.read_baselines([f"{PLAIN}={plain}", *candidates])
    recipe = next(iter(baselines.values())).recipe
    shipped = shipped_checkpoint(data.load(recipe.data, folder))
    sources = {BUNDLE.name: shipped} | {name: saved for name, saved in baselines.items() if name != PLAIN}
    attackers = {MADE_ON + name: saved for name, saved in sources.items()}
    images = command.of_tracks(command.unseen(shipped, folder)[0], ROOT / TRACKS[half])
    models = ClassifierLoader(TASK).load(bundles.read(ROOT / BUNDLE), attackers, baselines)
    context = ClassificationContext(models, cache.Cache(cache.default_folder()), images, exported=False)
    planned = suites.conditions(SUITE, list(attackers), 0, [*BY_CLASS, "gray_pgd10@*"])
    return Beside(context, ClassificationResults(measure(context, planned)))


def page(report: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The page of both JSON files."""
    lines = {(one["model"], one["condition"]): one["accuracy"] for one in report["lines"] if one["backend"] == "torch"}
    lines |= {(one["model"], one["condition"]): one["accuracy"] for one in report["worst"]}
    differences = {(one["models"][0], one["condition"]): one["difference"] for one in report["comparisons"]}
    measured = [one["model"] for one in report["sources"] if one["role"] != "surrogate"]
    gray = [one["name"] for one in report["conditions"] if one["group"] == "gray" and "pgd10" in one["name"]]
    names = [name for name in [*SHOWN, *gray] if any((model, name) in lines for model in measured)]
    heads = [SHOWN.get(name, f"gray-box PGD-10 of `{name.partition('@')[2]}`") for name in names]
    accuracies = [[f"`{model}`", *(_share(lines.get((model, name))) for name in names)] for model in measured]
    pairs = list(dict.fromkeys(model for model, _ in differences))
    gains = [[f"`{model}`", *(_points(differences.get((model, name))) for name in names)] for model in pairs]
    by_class = _class_rows(about, measured)
    half = about["half"]
    purpose = "for choosing a recipe: they are no report on what ships" if half == "selection" else "for the report"
    met = {(one["made_on"], one["model"]): one["accuracy"] for one in about["transfers"]}
    made_on = list(dict.fromkeys(source for source, _ in met))
    transfers = [[f"`{source}`", *(_share(met.get((source, model))) for model in measured)] for source in made_on]
    sources = [
        [f"`{one['model']}`", one["role"], one["training"], str(one["seed"]), str(one["epochs"]), one["sha256"][:12]]
        for one in report["sources"]
    ]
    blocks = [
        "# Candidates for the shipped classifier",
        f"{report['images']} images of {report['tracks']} held-back GTSRB tracks, those {purpose} "
        f"([research.md](../research.md#choosing-a-recipe)). `{report['model']}` is the shipped model. Attacks have a "
        "budget of 8/255 unless the head names another one. One seed each.",
        f"This page is generated by `bench/candidates.py` from `{NAMES[half]}.json` and `{NAMES[half]}_models.json`. "
        f"{report['device']}, commit `{report['commit'][:12]}`, {report['made_at'][:10]}.",
        "## Accuracy in %, 95 % interval",
        _table(["model", *heads], accuracies),
        "## Candidate minus shipped, in points",
        "Paired over images, intervals by bootstrap over tracks. They are about other images, not about other seeds.",
        _table(["candidate", *heads], gains),
        "## PGD-10 made on one model and met by another, in %",
        "Models of one seed began with the same first weights, so their attacks carry over more than those of another "
        "seed. An attacker who knows the recipe has a network of another seed.",
        _table(["made on", *(f"`{model}`" for model in measured)], transfers),
        "## Weak classes: images that are right",
        "A class has one or two held-back tracks, so a row is about one or two signs. A class without rows has its "
        "only track in the other half.",
        _table(["class", "tracks", "condition", *(f"`{model}`" for model in measured)], by_class),
        "## What was trained",
        _table(["model", "part", "training", "seed", "epochs", "sha256"], sources),
        f"Their recipes are in `{NAMES[half]}_models.json`. Measured with `{report['command']}`.",
    ]
    return "\n\n".join(blocks) + "\n"


def _class_rows(about: Mapping[str, Any], measured: Sequence[str]) -> list[list[str]]:
    found = {(one["class"], one["condition"], one["model"]): one for one in about["classes"] if one["n"]}
    keys = dict.fromkeys((number, condition) for number, condition, _ in found)
    rows = []
    for number, condition in keys:
        own = [found[number, condition, model] for model in measured]
        name = suites.title(condition)
        rows.append([str(number), str(own[0]["tracks"]), name, *(f"{one['hits']} of {one['n']}" for one in own)])
    return rows


def _share(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "–"
    return f"{100 * found['share']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def _points(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "–"
    return f"{100 * found['value']:+.1f} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def trained(folder: str) -> dict[str, Any]:
    """The recipe of a run, in what arithmetic it was trained, from which weights, and for how long."""
    saved = checkpoint.read(Path(folder))
    return {
        **json.loads(saved.recipe.as_json()),
        "precision": saved.precision,
        "started_from_sha256": saved.started_from,
        "seconds": round(sum(epoch.seconds for epoch in saved.history)),
    }


def main() -> int:
    """Measures and writes; the exit status of `lisard evaluate`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of GTSRB")
    parser.add_argument("--candidate", action="append", default=[], metavar="NAME=RUN", help="a run to compare")
    parser.add_argument("--surrogate", action="append", default=[], metavar="NAME=RUN", help="an attacker's network")
    parser.add_argument("--plain", metavar="RUN", help="standard training of another seed than the surrogates'")
    parser.add_argument("--half", choices=list(TRACKS), default="selection", help="tracks (default: %(default)s)")
    parser.add_argument("--page", action="store_true", help="write the page from its JSON files alone")
    args = parser.parse_args()
    report, about = (RESULTS / f"{NAMES[args.half]}{end}.json" for end in ("", "_models"))
    status = 0
    if not args.page:
        asked = words(args.surrogate, args.plain, args.candidate, args.data, args.half)
        title = "Candidates for the shipped classifier"
        status = subprocess.run(
            [sys.executable, "-m", "lisard_ros", "evaluate", *asked, "--json", str(report), "--title", title],
            check=False,
        ).returncode
        if status > 1:
            return status
        runs = dict(word.split("=", 1) for word in (*args.candidate, *args.surrogate, f"{PLAIN}={args.plain}"))
        found = beside(args.plain, args.candidate, args.data, args.half)
        content = {
            "half": args.half,
            "recipes": {name: trained(folder) for name, folder in runs.items()},
            "classes": list(found.classes()),
            "transfers": list(found.transfers()),
        }
        about.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    text = page(evaluation_json.read(report), json.loads(about.read_text()))
    report.with_suffix(".md").write_text(text, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
