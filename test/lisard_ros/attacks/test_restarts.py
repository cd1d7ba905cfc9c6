"""PGD with restarts: nothing lost by more steps or starts, nothing spent on what is fooled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.attacks.gradient import PGD
from lisard_ros.attacks.model import Targeted, Untargeted
from lisard_ros.attacks.objective import fooled
from lisard_ros.attacks.restarts import Restarts, pgd_restarts
from lisard_ros.errors import AttackError

EPS = 8 / 255


def short(steps: int = 5, restarts: int = 3, **options: Any) -> Restarts:
    """A small budget, so that some images hold."""
    return Restarts(PGD(EPS, EPS / 3, steps), restarts, **options)


def run(reference: Any, chosen: Restarts, criterion: Any = None, seed: int = 3) -> Any:
    """Attack 12 images; the answer, the network, the images."""
    network, x = reference.numpy(), reference.images(12)
    criterion = criterion or Untargeted(reference.answers(network, x))
    return pgd_restarts(network, x, criterion, chosen, np.random.default_rng(seed)), network, x, criterion


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("targeted", [True, False])
def test_the_report_holds_when_asked_again(reference: Any, stop: bool, targeted: bool) -> None:
    criterion = Targeted(np.full(12, 2)) if targeted else None
    made, network, x, criterion = run(reference, short(stop_when_fooled=stop), criterion)
    answer = network.evaluate(made.x, criterion)
    assert np.abs(made.x - x).max() <= EPS + 1e-12 and made.x.min() >= 0 and made.x.max() <= 1
    assert np.allclose(answer.loss, made.loss, atol=1e-12)
    assert np.array_equal(fooled(answer.scores, criterion), made.fooled) and 0 < made.fooled.sum() < 12


def test_what_it_costs(reference: Any) -> None:
    made, network, _, _ = run(reference, short(stop_when_fooled=False))
    assert (made.gradients == 3 * 5).all() and (made.queries == 3).all()
    thrifty, network, _, _ = run(reference, short())
    assert (thrifty.gradients[~thrifty.fooled] == 15).all() and (thrifty.gradients[thrifty.fooled] < 15).all()
    assert network.gradients == thrifty.gradients.sum() and network.queries == thrifty.queries.sum()


def test_stopping_changes_no_verdict(reference: Any) -> None:
    assert np.array_equal(run(reference, short())[0].fooled, run(reference, short(stop_when_fooled=False))[0].fooled)


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 3), st.booleans())
@settings(max_examples=15, deadline=None)
def test_more_is_never_weaker(reference: Any, seed: int, steps: int, restarts: int, stop: bool) -> None:
    little = run(reference, short(steps, 1, stop_when_fooled=stop), seed=seed)[0]
    longer = run(reference, short(steps + 2, 1, stop_when_fooled=stop), seed=seed)[0]
    oftener = run(reference, short(steps, 1 + restarts, stop_when_fooled=stop), seed=seed)[0]
    for more in (longer, oftener):
        assert (more.fooled >= little.fooled).all()
        same = more.fooled == little.fooled
        assert (more.loss[same] >= little.loss[same] - 1e-12).all()


def test_one_start_of_many_steps_is_pgd(reference: Any) -> None:
    """Each image is at least as bad as the last iterate of plain PGD from the same noise."""
    from lisard_ros.attacks.gradient import pgd

    made, network, x, criterion = run(reference, short(restarts=1, stop_when_fooled=False))
    last = network.evaluate(pgd(network, x, criterion, short().pgd, np.random.default_rng(3)), criterion)
    won = fooled(last.scores, criterion)
    assert ((made.fooled > won) | ((made.fooled == won) & (made.loss >= last.loss - 1e-12))).all()


def test_a_target_is_approached(reference: Any) -> None:
    criterion = Targeted(np.full(12, 2))
    made, network, x, _ = run(reference, short(stop_when_fooled=False), criterion)
    assert (made.loss > network.evaluate(x, criterion).loss).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Restarts(restarts=0),
        lambda: Restarts(PGD(random_start=False), 2),
        lambda: Restarts(PGD(eps=0.0)),
    ],
)
def test_impossible_settings_are_refused(make: Any) -> None:
    with pytest.raises(AttackError, match="impossible"):
        make()


def test_a_query_only_attack_model_is_refused(reference: Any) -> None:
    network, x = reference.numpy(gradient=False), reference.images(2)
    with pytest.raises(AttackError, match="needs gradients"):
        pgd_restarts(network, x, Untargeted(reference.answers(network, x)), short(), np.random.default_rng(0))


def test_a_loss_that_is_no_number_is_refused(reference: Any) -> None:
    network, x = reference.numpy(), reference.images(2)
    network.B[:] = np.nan
    with pytest.raises(AttackError, match="loss that is not a number: found NaN"):
        pgd_restarts(network, x, Untargeted(np.zeros(2, int)), short(), np.random.default_rng(0))


def test_no_images_no_work(reference: Any) -> None:
    network, x = reference.numpy(), reference.images(0)
    made = pgd_restarts(network, x, Untargeted(np.zeros(0, int)), short(), np.random.default_rng(0))
    assert made.x.shape == x.shape and made.loss.shape == made.fooled.shape == (0,)
