"""The losses that attacks raise: against arithmetic, differences and autograd; and what counts as fooled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.attacks.model import Targeted, Untargeted, pick
from lisard_ros.attacks.objective import LOSSES, check, fooled, objective
from lisard_ros.errors import AttackError

LOGITS = np.array([[4.0, 1.0, 2.0, -1.0], [0.0, 3.0, 1.0, 2.0]])
OWN, OTHER = np.array([0, 2]), np.array([2, 1])
CRITERIA = [
    *(kind(OWN, loss) for kind in (Untargeted, Targeted) for loss in ("cross_entropy", "margin", "dlr")),
    Targeted(OTHER, "dlr_targeted", OWN),
]


def identity(criterion: Any) -> str:
    """Name of a case."""
    return f"{type(criterion).__name__} {criterion.loss}"


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (Untargeted(OWN, "margin"), [2 - 4, 3 - 1]),
        (Targeted(OTHER, "margin"), [2 - 4, 3 - 2]),
        (Untargeted(OWN, "dlr"), [-(4 - 2) / (4 - 1), -(1 - 3) / (3 - 1)]),
        (Targeted(OTHER, "dlr"), [(2 - 4) / (4 - 1), (3 - 2) / (3 - 1)]),
        (Targeted(OTHER, "dlr_targeted", OWN), [-(4 - 2) / (4 - (1 - 1) / 2), -(1 - 3) / (3 - (1 + 0) / 2)]),
    ],
    ids=str,
)
def test_losses_by_arithmetic(criterion: Any, expected: list[float]) -> None:
    assert objective(LOGITS, criterion) == pytest.approx(expected, abs=1e-9)


def test_cross_entropy_is_minus_the_log_of_the_score() -> None:
    powers = np.exp(LOGITS)
    scores = powers / powers.sum(axis=1, keepdims=True)
    expected = -np.log(scores[[0, 1], OWN])
    assert objective(LOGITS, Untargeted(OWN)) == pytest.approx(expected)
    assert objective(LOGITS, Targeted(OWN)) == pytest.approx(-expected)
    assert np.isfinite(objective(LOGITS * 1e4, Untargeted(OWN))).all()


@pytest.mark.parametrize("criterion", CRITERIA, ids=identity)
def test_torch_gives_the_same_losses(criterion: Any) -> None:
    torch = pytest.importorskip("torch")
    assert np.allclose(objective(torch.from_numpy(LOGITS), criterion).numpy(), objective(LOGITS, criterion), atol=1e-14)


@pytest.mark.parametrize("criterion", CRITERIA, ids=identity)
def test_gradients_by_hand_differences_and_autograd_agree(reference: Any, criterion: Any) -> None:
    """So that the comparisons of attacks stand on something."""
    torch = pytest.importorskip("torch")
    network, x = reference.numpy(), reference.images(2)
    slope = network.evaluate(x, criterion).gradient
    by_torch = reference.torch(network).evaluate(torch.from_numpy(x), criterion).gradient
    assert np.allclose(slope, by_torch.numpy(), atol=1e-12)
    for place in [(0, 0, 0, 0), (0, 2, 3, 4), (1, 1, 5, 3)]:
        step = np.zeros_like(x)
        step[place] = 1e-6
        up, down = (network.evaluate(x + s, criterion).loss for s in (step, -step))
        assert slope[place] == pytest.approx((up - down)[place[0]] / 2e-6, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-5, 5))
def test_dlr_knows_neither_scale_nor_shift(seed: int, scale: float, shift: float) -> None:
    random = np.random.default_rng(seed)
    logits, own = random.standard_normal((4, 6)), random.integers(0, 6, 4)
    for criterion in (Untargeted(own, "dlr"), Targeted((own + 1) % 6, "dlr_targeted", own)):
        assert np.allclose(objective(scale * logits + shift, criterion), objective(logits, criterion), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_margin_and_dlr_are_positive_exactly_where_fooled(seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, own = random.standard_normal((8, 5)), random.integers(0, 5, 8)
    for loss in ("margin", "dlr"):
        assert np.array_equal(objective(logits, Untargeted(own, loss)) > 0, fooled(logits, Untargeted(own)))
    assert np.array_equal(objective(logits, Targeted(own, "margin")) > 0, fooled(logits, Targeted(own)))


def test_with_own_classes_any_other_answer_fools() -> None:
    scores = np.eye(4)
    own, aim = np.zeros(4, int), np.full(4, 2)
    assert fooled(scores, Untargeted(own)).tolist() == [False, True, True, True]
    assert fooled(scores, Targeted(aim)).tolist() == [False, False, True, False]
    assert fooled(scores, Targeted(aim, labels=own)).tolist() == [False, True, True, True]


def test_pick_keeps_everything_else() -> None:
    chosen = pick(Targeted(OTHER, "dlr_targeted", OWN), np.array([1]))
    assert isinstance(chosen, Targeted) and chosen.loss == "dlr_targeted"
    assert chosen.targets.tolist() == [1] and chosen.labels is not None and chosen.labels.tolist() == [2]
    assert pick(Untargeted(OWN, "dlr"), slice(0, 1)).loss == "dlr" and pick(Targeted(OWN), slice(0, 1)).labels is None


@pytest.mark.parametrize(
    ("criterion", "classes", "what"),
    [
        (Untargeted(OWN, "hinge"), 4, "unknown loss of a criterion: found hinge, expected cross_entropy, margin"),
        (Untargeted(OWN, "dlr"), 2, "found 2 classes, expected >= 3; use margin"),
        (Targeted(OTHER, "dlr_targeted", OWN), 3, "found 3 classes, expected >= 4"),
        (Targeted(OTHER, "dlr_targeted"), 4, "from one class to another: found no true classes"),
        (
            Untargeted(np.array([0, 4])),
            4,
            "class that the network does not have: found classes 0 to 4, expected 0 to 3",
        ),
        (Untargeted(np.array([-1, 0])), 4, "found classes -1 to 0"),
        (Targeted(OTHER, labels=np.array([0, 9])), 4, "found classes 0 to 9"),
        (Untargeted(np.array([0])), 4, r"one class for each image: found shape \(1,\), expected \(2,\)"),
    ],
)
def test_criteria_that_do_not_fit_are_refused(criterion: Any, classes: int, what: str) -> None:
    with pytest.raises(AttackError, match=what):
        check(criterion, 2, classes)


def test_every_loss_is_listed() -> None:
    assert {criterion.loss for criterion in CRITERIA} == set(LOSSES)
