"""What stops a training: NaN at once, divergence when it lasts."""

from __future__ import annotations

import math

import pytest
import torch

from lisard_trainer.tasks.classification.step import StepLoss
from lisard_trainer.training import divergence, loop
from lisard_trainer.training.distributed import Team


def values(cross_entropy: float, step: int = 1, total: float | None = None) -> divergence.StepValues:
    parts = (cross_entropy, cross_entropy, 0.0, 0.0, 0.0)
    return divergence.StepValues(step, 0.1, cross_entropy if total is None else total, parts)


def test_meter_reads_steps_in_order_and_empties():
    meter = divergence.Meter(Team())
    for step in (1, 2, 3):
        meter.add(StepLoss(torch.tensor(float(step)), torch.arange(5.0) * step), step, 0.1 * step)
    read = meter.read()
    assert [(v.step, v.total, v.parts) for v in read] == [
        (s, s, tuple(float(i * s) for i in range(5))) for s in (1, 2, 3)
    ]
    assert read[2].cross_entropy == 1.5 and len(meter) == 0 and meter.read() == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_stops_at_its_step(bad):
    with pytest.raises(
        divergence.TrainingError, match=r"epoch 3, step 7, learning rate 0.1: found loss .*a finite loss; do so"
    ):
        divergence.DivergenceGuard(10).check([values(2.0, 6), values(2.0, 7, bad), values(2.0, 8)], 3, "do so")


def test_divergence_stops_when_it_lasts():
    guard = divergence.DivergenceGuard(10)
    far = guard.limit + 1
    guard.check([values(far, i) for i in range(divergence.PATIENCE_STEPS - 1)], 1, "do so")
    guard.check([values(math.log(10), 60)], 1, "do so")
    with pytest.raises(
        divergence.TrainingError, match=r"found cross entropy 8\.3 after 50 steps above 7\.3.*guessing has, 2\.3"
    ):
        guard.check([values(far, i) for i in range(divergence.PATIENCE_STEPS)], 2, "do so")


def test_guessing_and_a_short_excess_are_no_divergence():
    guard = divergence.DivergenceGuard(43)
    guard.check([values(math.log(43), i) for i in range(500)], 1, "")
    for _ in range(5):
        guard.check([values(100.0, i) for i in range(divergence.PATIENCE_STEPS - 1)], 1, "")
        guard.check([values(3.0, 1)], 1, "")


def test_training_at_an_absurd_rate_is_stopped_with_the_cure(split, tmp_path, make_recipe):
    recipe = make_recipe(optimizer={"epochs": 60, "batch_size": 15, "max_lr": 1e6})
    with pytest.raises(
        divergence.TrainingError, match=r"training stopped after epoch 1, .*not finite.*lower optimizer.max_lr"
    ):
        loop.fit(recipe, split, tmp_path, show=False)
