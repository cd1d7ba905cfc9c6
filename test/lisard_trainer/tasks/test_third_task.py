"""A third task is one folder: it is found by name, trained, exported and evaluated without a change elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from lisard_ros import bundle as bundles
from lisard_ros.errors import UsageError
from lisard_ros.evaluation import self_test
from lisard_ros.inference.pipeline import open_pipeline
from lisard_trainer import data, recipes, task_registry, tasks
from lisard_trainer.evaluation.cache import Cache
from lisard_trainer.evaluation.page import markdown
from lisard_trainer.evaluation.request import EvaluationRequest
from lisard_trainer.training import checkpoint, loop

TASK = '''
"""Is an image bright or dark? Images are drawn, so that the task needs no data set."""

from dataclasses import dataclass, replace

import torch

from lisard_trainer import data
from lisard_trainer.recipes import Recipe
from lisard_trainer.tasks.classification.task import ClassificationTask


@dataclass(frozen=True)
class BrightnessRecipe(Recipe):
    """A classifier's recipe under another name."""

    @property
    def task(self) -> str:
        return "brightness"


class BrightnessTask(ClassificationTask):
    name = "brightness"
    recipe_type = BrightnessRecipe

    def load(self, recipe, folder):
        generator = torch.Generator().manual_seed(0)
        labels = torch.arange(60) % 2
        noise = torch.randint(0, 60, (60, 3, recipe.data.size_px, recipe.data.size_px), generator=generator)
        images = (noise + 150 * labels[:, None, None, None]).to(torch.uint8)
        names = tuple(f"{n:03d}" for n in range(60))
        whole = data.ImageDataset(images, labels, names, names, ("dark", "bright"))
        return data.Split(whole.take(range(40)), whole.take(range(40, 60)))


TASK = BrightnessTask()
'''


@pytest.fixture
def third_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of a task beside classification/ and detection/."""
    folder = tmp_path / "more_tasks" / "brightness"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('"""Bright or dark."""\n')
    (folder / "task.py").write_text(textwrap.dedent(TASK))
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(folder.parent)])
    yield
    task_registry.find.cache_clear()


def test_a_folder_is_a_task(third_task: None, tmp_path: Path) -> None:
    assert task_registry.names() == ("brightness", "classification", "detection")
    settings = {
        "name": "tiny",
        "task": "brightness",
        "network": "resnet14n",
        "precision": "float32",
        "data": {"size_px": 16},
        "optimizer": {"epochs": 2, "batch_size": 10, "max_lr": 0.05},
    }
    recipe = recipes.from_mapping(settings)
    task = task_registry.of(recipe)
    split = task.load(recipe, None)
    loop.fit(recipe, split, tmp_path / "run", show=False, stop_after=1)
    loop.fit(recipe, split, tmp_path / "run", show=False)  # resumes
    saved = checkpoint.read(tmp_path / "run")
    assert (saved.epoch, saved.recipe) == (2, recipe)
    exported = task.export(saved, split, tmp_path / "bundle", "tiny", "lisard train tiny.yaml")
    assert exported.bundle.manifest.labels == ("dark", "bright")
    with_pipeline = open_pipeline(bundles.read(tmp_path / "bundle").path)
    assert self_test.run(with_pipeline).passed
    with_pipeline.close()
    assert np.isfinite([record.loss for record in saved.history]).all()
    found = task.evaluate(
        EvaluationRequest(
            bundles.read(tmp_path / "bundle"),
            surrogates={"": saved},
            baselines={"plain": saved},
            cache=Cache(tmp_path / "cache"),
            begin=lambda batches: lambda condition: None,
            only=("white_*",),
            images=written(split.validation, tmp_path / "images"),
            device="cpu",
        )
    )
    assert {line.condition for line in found.report.lines} == {"clean", "white_pgd10"}
    assert found.report.line("tiny", "clean").accuracy.n == 20 and "| white-box PGD-10 |" in markdown(found.page)


def written(images: data.ImageDataset, folder: Path) -> Path:
    """The images as <class>/<track>_<frame>.png."""
    for number, (image, label) in enumerate(zip(images.images.numpy(), images.labels.tolist(), strict=True)):
        path = folder / images.classes[label] / f"{number:05d}_00000.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image.transpose(1, 2, 0)[:, :, ::-1])
    return folder


def test_a_task_that_nobody_has_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="recipe key task: found 'detectoin'.*did you mean 'detection'"):
        recipes.from_mapping({"name": "x", "task": "detectoin"})
