"""A bundle, a surrogate and baselines of tiny networks that know three colours, and an evaluation's surroundings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lisard_ros import bundle as bundles
from lisard_ros.evaluation.statistics import proportion
from lisard_trainer import data
from lisard_trainer.evaluation import cache, request, runner
from lisard_trainer.tasks.classification import export
from lisard_trainer.tasks.classification.evaluation import measuring, models, report, results, suites
from lisard_trainer.tasks.classification.task import TASK
from lisard_trainer.training import checkpoint, loop


@dataclass(frozen=True, eq=False)
class Trained:
    """Where the run folders and the bundle lie, and the images that were held back."""

    runs: dict[str, Path]
    bundle: Path
    dataset: data.ImageDataset

    def read(self, name: str) -> checkpoint.Checkpoint:
        return checkpoint.read(self.runs[name])


@pytest.fixture(scope="session")
def trained(shared_folder, split, made_once, make_recipe) -> Trained:
    """One recipe with four seeds; the first becomes the bundle."""
    settings = {"size_px": 16, "validation_share": 0.25, "folder": str(shared_folder), "source": "coloured patches"}
    names = ("own", "plain", "s2", "s3")

    def fill(base: Path) -> None:
        for seed, name in enumerate(names, start=1):
            optimizer = {"epochs": 3, "batch_size": 15, "max_lr": 0.05}
            recipe = make_recipe(name=name, seed=seed, views=1, data=settings, optimizer=optimizer)
            loop.fit(recipe, split, base / "runs" / name, show=False)
        export.export(checkpoint.read(base / "runs/own"), split, base / "bundle", "tiny", "lisard train")

    base = made_once("evaluated", fill)
    return Trained({name: base / "runs" / name for name in names}, base / "bundle", split.validation)


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What came out, and the context it was measured on."""

    report: report.ClassificationReport
    context: measuring.ClassificationContext
    measured: results.ClassificationResults


@pytest.fixture(scope="session")
def class_line():
    """Makes the line of a class: its label, right answers, images, condition, and what it is taken for."""

    def make(label, hits, n, condition="clean", taken_for="red") -> results.ClassLine:
        often = n - hits
        return results.ClassLine(condition, label, proportion(hits, n), taken_for if often else "", often)

    return make


def light(condition: suites.ClassificationCondition) -> suites.ClassificationCondition:
    """The same condition with fewer steps, queries and draws; what the quick suite does stays as it is."""
    attack, certificate = condition.attack, condition.certificate
    if attack:
        attack = replace(attack, steps=min(attack.steps, 10), queries=min(attack.queries, 20))
    if certificate:
        certificate = replace(certificate, choose=10, draws=50)
    return replace(condition, attack=attack, certificate=certificate)


@pytest.fixture(scope="session")
def evaluate(trained, tmp_path_factory):
    """Runs an evaluation: suite, names of surrogates, patterns of conditions, and where results are kept."""

    def run_one(
        suite="quick", surrogates=("",), only=(), folder=None, seed=0, tick=lambda what: None, pairs=(), join=False
    ) -> Evaluated:
        kept = cache.Cache(folder or tmp_path_factory.mktemp("cache"))
        saved = {name: trained.read(name or "s2") for name in surrogates}
        everybody = models.ClassifierLoader(TASK).load(
            bundles.read(trained.bundle), saved, {"plain": trained.read("plain")}
        )
        everybody = models.with_ensemble(everybody) if join else everybody
        planned = tuple(map(light, suites.conditions(suite, list(everybody.surrogates), seed, only)))
        context = measuring.ClassificationContext(everybody, kept, trained.dataset)
        measured = results.ClassificationResults(runner.measure(context, planned, tick))
        plain = {"plain": trained.read("plain")}
        asked = request.EvaluationRequest(
            everybody.bundle, saved, plain, kept, lambda _: tick, command="lisard evaluate", suite=suite, seed=seed
        )
        built = report.build(context, measured, planned, asked, "tracks", pairs)
        return Evaluated(built, context, measured)

    return run_one
