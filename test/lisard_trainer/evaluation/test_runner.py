"""The runner with a task of its own: who meets whom, every batch once, and as many ticks as were announced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from torch import nn

from lisard_ros.errors import UsageError
from lisard_trainer.evaluation.cache import Cache
from lisard_trainer.evaluation.conditions import EvaluationCondition, select, suite_of
from lisard_trainer.evaluation.models import ModelSource, ModelsUnderTest, ModelUnderTest
from lisard_trainer.evaluation.runner import EvaluationContext, View, batches_of, measure, ticks


@dataclass(frozen=True)
class Condition(EvaluationCondition):
    name: str
    attacked: str = "nobody"  # type: ignore[assignment]
    surrogate_name: str = ""  # type: ignore[assignment]
    baseline: str | None = None


CONDITIONS = (
    Condition("clean"),
    Condition("gray", "surrogate", "s"),
    Condition("white", "each model"),
    Condition("noise"),
)
IMAGES = 5


@dataclass(frozen=True, eq=False)
class Context(EvaluationContext):
    """Answers are the sums of the images; attacked ones are brighter by the length of the attacked model's name."""

    made: list

    batch_size = 2

    def count(self, condition):
        return IMAGES

    def batches(self, condition):
        return batches_of(IMAGES, self.batch_size)

    def view(self, condition, batch, source):
        def make():
            self.made.append((condition.name, batch.start, source and source.name))
            added = len(source.name) if source else 0
            return np.arange(batch.start, batch.stop, dtype=np.float32) + added

        return View("", make)

    def answers(self, condition, batch, view, answerer):
        return {"sums": view.images}

    def result(self, condition, answerer, answers):
        return condition.name, answerer.model.name, float(np.concatenate([one["sums"] for one in answers]).sum())


@pytest.fixture
def context(tmp_path) -> Context:
    def model(name, role="baseline"):
        source = ModelSource(name, role, "", 0, 0, name)
        return ModelUnderTest(source, name, nn.Identity, lambda network: network)

    models = ModelsUnderTest(None, model("signs"), (model("plain"),), {"s": model("other")})  # type: ignore[arg-type]
    return Context(models, Cache(tmp_path), [], exported=False)


def test_everybody_meets_whom_the_condition_says(context):
    sums = 0 + 1 + 2 + 3 + 4
    assert measure(context, CONDITIONS) == [
        *(("clean", name, sums) for name in ("signs", "plain", "other")),
        *(("gray", name, sums + IMAGES * len("other")) for name in ("signs", "plain", "other")),
        ("white", "signs", sums + IMAGES * len("signs")),
        ("white", "plain", sums + IMAGES * len("plain")),
        *(("noise", name, sums) for name in ("signs", "plain")),
    ]


def test_images_are_made_once_for_all_models_that_meet_them(context):
    measure(context, CONDITIONS)
    assert len(context.made) == len(set(context.made)) == 3 * (1 + 1 + 2 + 1)


def test_ticks_are_as_many_as_announced(context):
    heard: list[str] = []
    measure(context, CONDITIONS, heard.append)
    assert len(heard) == ticks(context, CONDITIONS) == 15 and set(heard) == {one.name for one in CONDITIONS}


def test_chosen_conditions_keep_clean_and_their_baseline():
    planned = [*CONDITIONS, Condition("patch", baseline="noise")]
    assert [c.name for c in select("quick", planned, ["patch"], lambda c: c.baseline)] == ["clean", "noise", "patch"]
    assert [c.name for c in select("quick", planned, ["w*"])] == ["clean", "white"]
    assert list(select("quick", planned, [])) == planned


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(UsageError, match="no condition of suite quick fits --only: found 'whit'.*did you mean 'white'"):
        select("quick", CONDITIONS, ["whit"])
    with pytest.raises(UsageError, match="found 'zzz', expected one of clean, gray, white, noise; a pattern such as"):
        select("quick", CONDITIONS, ["zzz"])
    with pytest.raises(UsageError, match="unknown suite.*did you mean 'quick'"):
        suite_of("quik", {"quick": None})  # type: ignore[dict-item]
