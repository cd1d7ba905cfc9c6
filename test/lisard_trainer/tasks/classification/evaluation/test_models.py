"""Under which hash a model's results are kept: of all that decides its answers, and of nothing else."""

from __future__ import annotations

import dataclasses

import pytest

from lisard_ros import bundle as bundles
from lisard_trainer.tasks.classification import export
from lisard_trainer.tasks.classification.evaluation.models import ClassifierLoader
from lisard_trainer.tasks.classification.task import TASK
from lisard_trainer.training import checkpoint


def key(saved: checkpoint.Checkpoint) -> str:
    return ClassifierLoader(TASK).of_checkpoint("control", "control", saved).key


def with_recipe(saved: checkpoint.Checkpoint, **changes) -> checkpoint.Checkpoint:
    return dataclasses.replace(saved, recipe=dataclasses.replace(saved.recipe, **changes))


def test_how_a_network_was_trained_does_not_decide_its_answers(trained):
    saved = trained.read("own")
    loss = dataclasses.replace(saved.recipe.loss, alpha_value=0.25)
    assert key(with_recipe(saved, name="another", seed=77, loss=loss)) == key(saved)


@pytest.mark.parametrize("change", [{"activation": "silu"}, {"network": "resnet14w"}])
def test_what_is_built_around_the_weights_does(trained, change):
    saved = trained.read("own")
    assert key(with_recipe(saved, **change)) != key(saved)


def test_other_weights_have_another_key(trained):
    assert key(trained.read("own")) != key(trained.read("plain"))


def test_a_bundle_exported_again_keeps_its_key(trained, split, tmp_path):
    """Its card names the command, so the bundle's own hash is another."""
    again = export.export(trained.read("own"), split, tmp_path / "again", "renamed", "lisard train, later")
    first, second = (
        ClassifierLoader(TASK).of_bundle(bundles.read(path)) for path in (trained.bundle, again.bundle.path)
    )
    assert bundles.read(trained.bundle).sha256 != again.bundle.sha256
    assert first.about.sha256 == second.about.sha256 and first.key == second.key
