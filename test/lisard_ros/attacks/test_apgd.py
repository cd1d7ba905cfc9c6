"""Auto-PGD: its schedule, its budget, that it keeps the best, and that NumPy and torch walk the same way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.attacks.apgd import APGD, APGDTargeted, apgd, apgd_targeted, checkpoints, likeliest_others
from lisard_ros.attacks.gradient import PGD
from lisard_ros.attacks.model import Targeted, Untargeted
from lisard_ros.attacks.objective import fooled
from lisard_ros.attacks.restarts import Restarts, pgd_restarts
from lisard_ros.errors import AttackError

EPS = 8 / 255
COUNT = 12


def run(reference: Any, chosen: APGD, loss: Any = "cross_entropy", seed: int = 3) -> Any:
    """Attack twelve images; the answer, the network, the images, the criterion."""
    network, x = reference.numpy(), reference.images(COUNT)
    criterion = Untargeted(reference.answers(network, x), loss)
    return apgd(network, x, criterion, chosen, np.random.default_rng(seed)), network, x, criterion


def push(reference: Any, chosen: APGDTargeted, model: Any = None, x: Any = None) -> Any:
    """APGD-T on the same images."""
    network, clean = reference.numpy(), reference.images(COUNT)
    own = reference.answers(network, clean)
    made = apgd_targeted(model or network, clean if x is None else x, own, chosen, np.random.default_rng(3))
    return made, network, clean, own


# --- schedule -------------------------------------------------------------------------------------------------------


def test_the_published_checkpoints() -> None:
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert sorted(checkpoints(10)) == [3, 5, 6, 7, 8, 9, 10] and sorted(checkpoints(1)) == [1]


@given(st.integers(1, 2000))
def test_checkpoints_lie_within_the_steps(steps: int) -> None:
    found = sorted(checkpoints(steps))
    assert found[0] >= 1 and found[-1] <= steps and found[0] == -(-22 * steps // 100)


def test_the_step_halves_where_the_loss_cannot_rise(reference: Any) -> None:
    """On a flat network nothing ever rises: the images stay where they started."""
    network, x = reference.numpy(scale=0.0), reference.images(2)
    made = apgd(network, x, Untargeted(np.zeros(2, int)), APGD(steps=20), np.random.default_rng(0))
    other = apgd(network, x, Untargeted(np.zeros(2, int)), APGD(steps=1), np.random.default_rng(0))
    assert np.array_equal(made.x, other.x)


# --- what it finds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
@pytest.mark.parametrize("stop", [True, False])
def test_the_report_holds_when_asked_again(reference: Any, loss: Any, stop: bool) -> None:
    made, network, x, criterion = run(reference, APGD(EPS, 10, 2, stop_when_fooled=stop), loss)
    answer = network.evaluate(made.x, criterion)
    assert np.abs(made.x - x).max() <= EPS + 1e-12 and made.x.min() >= 0 and made.x.max() <= 1
    assert np.allclose(answer.loss, made.loss, atol=1e-12)
    assert np.array_equal(fooled(answer.scores, criterion), made.fooled) and 0 < made.fooled.sum() < COUNT


def test_it_is_at_least_as_strong_as_pgd(reference: Any) -> None:
    made, network, x, criterion = run(reference, APGD(EPS, 40))
    plain = pgd_restarts(network, x, criterion, Restarts(PGD(steps=40), 1, False), np.random.default_rng(3))
    assert made.fooled.sum() >= plain.fooled.sum() and made.loss.mean() >= plain.loss.mean() - 1e-3


def test_it_finds_the_corner_of_a_linear_network(reference: Any) -> None:
    """Where the margin is linear, the worst image is known: eps along the sign of its gradient."""
    network, x = reference.numpy(scale=1e-3, classes=2), reference.images(4)
    criterion = Untargeted(reference.answers(network, x), "margin")
    corner = np.clip(x + EPS * np.sign(network.evaluate(x, criterion).gradient), 0, 1)
    made = apgd(network, x, criterion, APGD(EPS, 30), np.random.default_rng(0))
    assert np.allclose(made.loss, network.evaluate(corner, criterion).loss, rtol=1e-4, atol=1e-9)


@given(st.integers(0, 1000), st.integers(1, 3), st.booleans())
@settings(max_examples=10, deadline=None)
def test_more_restarts_are_never_weaker(reference: Any, seed: int, more: int, stop: bool) -> None:
    little = run(reference, APGD(EPS, 6, 1, stop_when_fooled=stop), seed=seed)[0]
    much = run(reference, APGD(EPS, 6, 1 + more, stop_when_fooled=stop), seed=seed)[0]
    same = much.fooled == little.fooled
    assert (much.fooled >= little.fooled).all() and (much.loss[same] >= little.loss[same] - 1e-12).all()


@given(st.integers(0, 1000), st.floats(1e-3, 1.0), st.integers(1, 12))
@settings(max_examples=20, deadline=None)
def test_the_budget_holds(reference: Any, seed: int, eps: float, steps: int) -> None:
    network, x = reference.numpy(seed), reference.images(3, seed)
    criterion = Untargeted(np.zeros(3, int))
    for chosen in (APGD(eps, steps), APGD(eps, steps, stop_when_fooled=True)):
        made = apgd(network, x, criterion, chosen, np.random.default_rng(seed)).x
        assert np.abs(made - x).max() <= eps + 1e-12 and made.min() >= 0 and made.max() <= 1


def test_the_seed_decides(reference: Any) -> None:
    first, same, other = (run(reference, APGD(EPS, 5), seed=seed)[0].x for seed in (1, 1, 2))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_an_image_does_not_depend_on_others_being_dropped(reference: Any) -> None:
    """Stopping drops images from the batch; those that are left walk as before."""
    whole, thrifty = (run(reference, APGD(EPS, 10, stop_when_fooled=stop))[0] for stop in (False, True))
    left = ~thrifty.fooled
    assert np.array_equal(whole.fooled, thrifty.fooled) and np.allclose(whole.x[left], thrifty.x[left], atol=1e-12)


def test_what_it_costs(reference: Any) -> None:
    made, network, _, _ = run(reference, APGD(EPS, 10, 2))
    assert (made.gradients == 2 * 10).all() and (made.queries == 2).all()
    thrifty, network, _, _ = run(reference, APGD(EPS, 10, 2, stop_when_fooled=True))
    assert (thrifty.gradients[thrifty.fooled] < 20).all() and network.gradients == thrifty.gradients.sum()


# --- targeted -------------------------------------------------------------------------------------------------------


def test_the_likeliest_others_come_first() -> None:
    scores = np.array([[0.5, 0.1, 0.4], [0.2, 0.3, 0.5]])
    assert [a.tolist() for a in likeliest_others(scores, np.array([0, 1]))] == [[2, 2], [1, 0]]


def test_targeted_holds_when_asked_again(reference: Any) -> None:
    made, network, x, own = push(reference, APGDTargeted(APGD(EPS, 10, stop_when_fooled=True)))
    assert np.array_equal(network.scores(made.x).argmax(axis=1) != own, made.fooled) and 0 < made.fooled.sum() < COUNT
    assert np.abs(made.x - x).max() <= EPS + 1e-12 and network.queries == made.queries.sum()


def test_more_targets_are_never_weaker(reference: Any) -> None:
    one, all_of_them = (push(reference, APGDTargeted(APGD(EPS, 8), targets))[0] for targets in (1, 9))
    assert (all_of_them.fooled >= one.fooled).all() and (all_of_them.gradients == 4 * one.gradients).all()


def test_a_target_is_approached(reference: Any) -> None:
    network, x = reference.numpy(), reference.images(COUNT)
    own = reference.answers(network, x)
    for criterion in (
        Targeted((own + 1) % 5),
        Targeted((own + 1) % 5, "margin"),
        Targeted((own + 1) % 5, "dlr_targeted", own),
    ):
        made = apgd(network, x, criterion, APGD(EPS, 10), np.random.default_rng(0))
        assert (made.loss > network.evaluate(x, criterion).loss).all()


def test_two_classes_do_with_the_margin(reference: Any) -> None:
    network, x = reference.numpy(classes=2), reference.images(4)
    own = reference.answers(network, x)
    with pytest.raises(AttackError, match="found 2 classes, expected >= 4"):
        apgd_targeted(network, x, own, APGDTargeted(), np.random.default_rng(0))
    chosen = APGDTargeted(APGD(0.2, 5), loss="margin")
    assert apgd_targeted(network, x, own, chosen, np.random.default_rng(0)).fooled.any()


# --- two array libraries, wrong use ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [True, False])
def test_numpy_and_torch_make_the_same_images(reference: Any, stop: bool) -> None:
    torch = pytest.importorskip("torch")
    chosen = APGD(EPS, 12, 2, stop_when_fooled=stop)
    for loss in ("cross_entropy", "dlr"):
        made, network, x, criterion = run(reference, chosen, loss)
        again = apgd(reference.torch(network), torch.from_numpy(x), criterion, chosen, np.random.default_rng(3))
        assert np.abs(made.x - again.x.numpy()).max() <= 1e-12 and np.array_equal(made.fooled, again.fooled)
        assert np.array_equal(made.gradients, again.gradients)
    targeted = APGDTargeted(chosen, 3)
    made, network, x, _ = push(reference, targeted)
    again = push(reference, targeted, reference.torch(network), torch.from_numpy(x))[0]
    assert np.abs(made.x - again.x.numpy()).max() <= 1e-12 and np.array_equal(made.fooled, again.fooled)


@pytest.mark.parametrize(
    "make",
    [
        lambda: APGD(eps=0),
        lambda: APGD(eps=float("nan")),
        lambda: APGD(steps=0),
        lambda: APGD(restarts=0),
        lambda: APGD(rho=1.0),
        lambda: APGD(momentum=0),
        lambda: APGDTargeted(targets=0),
        lambda: APGDTargeted(loss="dlr"),
    ],
)
def test_impossible_settings_are_refused(make: Any) -> None:
    with pytest.raises(AttackError, match="impossible.*expected"):
        make()


def test_a_query_only_attack_model_is_refused(reference: Any) -> None:
    network, x = reference.numpy(gradient=False), reference.images(2)
    with pytest.raises(AttackError, match="needs gradients"):
        apgd(network, x, Untargeted(np.zeros(2, int)), APGD(), np.random.default_rng(0))
