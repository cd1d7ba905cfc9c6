"""Models under test: the hash under which results are kept, and all surrogates at once as one more surrogate."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from lisard_ros import bundle as bundles
from lisard_ros.attacks.gradient import fgsm
from lisard_ros.attacks.model import Untargeted
from lisard_ros.errors import UsageError
from lisard_trainer import data
from lisard_trainer.tasks.classification import export
from lisard_trainer.tasks.classification.attack_model import TorchAttackModel
from lisard_trainer.tasks.classification.evaluation import models
from lisard_trainer.tasks.classification.evaluation.models import ClassifierLoader
from lisard_trainer.tasks.classification.task import TASK
from lisard_trainer.training import checkpoint

PAIR = ("s2", "s3")


def key(saved: checkpoint.Checkpoint) -> str:
    return ClassifierLoader(TASK).of_checkpoint("baseline", "baseline", saved).key


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


def test_logits_of_an_ensemble_are_the_mean_of_its_members(evaluate):
    members = evaluate(surrogates=PAIR, only=["gray_fgsm*"]).context.models.surrogates.values()
    x = torch.rand(3, 3, 16, 16)
    one, other = (member.network(x) for member in members)
    assert torch.allclose(models.MeanOfNetworks(member.network for member in members)(x), (one + other) / 2, atol=1e-6)


def test_an_ensemble_is_one_more_surrogate(evaluate, trained):
    found = evaluate(surrogates=PAIR, only=["gray_fgsm*"], join=True)
    gray = [condition.name for condition in found.report.conditions if condition.group == "gray"]
    assert gray == ["gray_fgsm@s2", "gray_fgsm@s3", "gray_fgsm@ensemble"]
    assert found.measured.result(models.ENSEMBLE, "clean") and found.measured.result(models.ENSEMBLE, gray[-1])
    x, own = data.to_unit(trained.dataset.images), trained.dataset.labels.numpy()
    members = [found.context.models.surrogates[name].network for name in PAIR]
    made = fgsm(TorchAttackModel(models.MeanOfNetworks(members)), x, Untargeted(own), 8 / 255)
    rounded = torch.round(made * 255) / 255
    answered = found.context.models.of_bundle.network(rounded).argmax(1).numpy()
    assert (found.measured.result("tiny", gray[-1]).hits == (answered == own)).all()


def test_an_ensemble_stands_for_no_seed_and_no_architecture(evaluate):
    alone, joined = (evaluate("grid", PAIR, ["gray_fgsm*"], join=join).report for join in (False, True))
    told = [[flag.text for flag in report.flags if flag.code == "few_attackers"] for report in (alone, joined)]
    assert told[0] == told[1] and "2 of 3 seeds" in told[0][0]


def test_an_ensemble_of_other_members_is_another_model(evaluate):
    keys = [
        evaluate(surrogates=pair, only=["gray_fgsm*"], join=True).context.models.surrogates[models.ENSEMBLE].key
        for pair in (PAIR, PAIR[::-1], PAIR)
    ]
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a"], "found 1 surrogate, expected 2 or more"), (["a", "ensemble"], "found a surrogate called ensemble")],
)
def test_what_cannot_be_joined_is_refused(names, message):
    with pytest.raises(UsageError, match=message):
        models.names_with_ensemble(names)
