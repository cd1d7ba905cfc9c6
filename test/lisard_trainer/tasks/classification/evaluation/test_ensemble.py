"""All surrogates at once: the mean of their logits, attacked like one more surrogate."""

from __future__ import annotations

import pytest
import torch

from lisard_ros.attacks.gradient import fgsm
from lisard_ros.attacks.model import Untargeted
from lisard_ros.errors import UsageError
from lisard_trainer import data
from lisard_trainer.tasks.classification.attack_model import TorchAttackModel
from lisard_trainer.tasks.classification.evaluation import models

PAIR = ("s2", "s3")


def test_logits_are_the_mean_of_the_members(evaluate):
    members = evaluate(surrogates=PAIR, only=["gray_fgsm*"]).context.models.surrogates.values()
    x = torch.rand(3, 3, 16, 16)
    one, other = (member.network(x) for member in members)
    assert torch.allclose(models.MeanOfNetworks(member.network for member in members)(x), (one + other) / 2, atol=1e-6)


def test_it_is_one_more_surrogate(evaluate, trained):
    found = evaluate(surrogates=PAIR, only=["gray_fgsm*"], join=True)
    gray = [column.name for column in found.report.columns if column.group == "gray"]
    assert gray == ["gray_fgsm@s2", "gray_fgsm@s3", "gray_fgsm@ensemble"]
    assert found.measured.result(models.ENSEMBLE, "clean") and found.measured.result(models.ENSEMBLE, gray[-1])
    x, own = data.to_unit(trained.dataset.images), trained.dataset.labels.numpy()
    members = [found.context.models.surrogates[name].network for name in PAIR]
    made = fgsm(TorchAttackModel(models.MeanOfNetworks(members)), x, Untargeted(own), 8 / 255)
    rounded = torch.round(made * 255) / 255
    answered = found.context.models.shipped.network(rounded).argmax(1).numpy()
    assert (found.measured.result("lisard", gray[-1]).hits == (answered == own)).all()


def test_it_stands_for_no_seed_and_no_architecture(evaluate):
    alone, joined = (evaluate("grid", PAIR, ["gray_fgsm*"], join=join).report for join in (False, True))
    told = [[flag.text for flag in report.flags if flag.code == "few_attackers"] for report in (alone, joined)]
    assert told[0] == told[1] and "2 of 3 seeds" in told[0][0]


def test_other_members_are_another_model(evaluate):
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
