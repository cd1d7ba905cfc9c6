"""Learning rates over a run: one cycle, two, or the published schedule."""

from __future__ import annotations

import pytest

from lisard_ros.errors import UsageError
from lisard_trainer import optimiser

PER_EPOCH = 10


def schedule(make_recipe, **changes):
    recipe = make_recipe(optimiser={"peak_rate": 0.1, "warm_up_share": 0.2, **changes})
    return [optimiser.rates(recipe, step, PER_EPOCH).weights for step in range(recipe.optimiser.epochs * PER_EPOCH)]


def test_the_second_cycle_repeats_the_first_over_its_own_length(make_recipe):
    """A run that stops before it is the first cycle alone; the second equals a run of its own."""
    both = schedule(make_recipe, epochs=9, second_cycle=4)
    assert both[: 5 * PER_EPOCH] == schedule(make_recipe, epochs=5)
    assert both[5 * PER_EPOCH :] == schedule(make_recipe, epochs=4)
    assert max(both[5 * PER_EPOCH :]) == pytest.approx(0.1)
    assert both[5 * PER_EPOCH - 1] < 0.01


@pytest.mark.parametrize(
    "changes", [{"epochs": 4, "second_cycle": 4}, {"epochs": 4, "second_cycle": -1},
                {"epochs": 4, "second_cycle": 2, "schedule": "official"}],
)  # fmt: skip
def test_a_cycle_that_cannot_be_is_refused(make_recipe, changes):
    with pytest.raises(UsageError, match=r"second_cycle.*expected 0, or fewer epochs"):
        make_recipe(optimiser=changes)
