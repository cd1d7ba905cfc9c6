"""Attacks one after the other: nothing spent twice, nothing counted that does not hold."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from lisard_ros.attacks.apgd import APGD, APGDTargeted
from lisard_ros.attacks.attack_suite import (
    NOT_FOOLED,
    NamedAttack,
    apgd_ce,
    apgd_t,
    run_suite,
    square_margin,
    standard_suite,
)
from lisard_ros.attacks.attacked import AttackResult
from lisard_ros.attacks.square import Square
from lisard_ros.errors import AttackError

EPS = 6 / 255


def run(reference: Any, stages: Any, seed: int = 0) -> Any:
    """Attack twelve images, two of which are wrong from the start."""
    network, x = reference.numpy(), reference.images(12)
    own = reference.answers(network, x)
    own[:2] = (own[:2] + 1) % 5
    return run_suite(network, x, own, stages, np.random.default_rng(seed)), network, x, own


def test_the_standard_set(reference: Any) -> None:
    made, network, x, own = run(reference, standard_suite(EPS, steps=10, queries=50))
    assert made.names == ("clean", "apgd-ce", "apgd-t", "square")
    assert np.array_equal(network.scores(made.attacked.x).argmax(axis=1) != own, made.attacked.fooled)
    assert np.array_equal(made.attacked.fooled, made.attacked.loss > 0) and (made.by[:2] == 0).all()
    assert np.array_equal(made.attacked.x[:2], x[:2]) and (made.attacked.gradients[:2] == 0).all()
    assert np.abs(made.attacked.x - x).max() <= EPS + 1e-12 and 2 < made.attacked.fooled.sum() < 12
    assert network.gradients == made.attacked.gradients.sum() and network.queries == made.attacked.queries.sum()


def test_a_stage_never_gives_back_what_was_won(reference: Any) -> None:
    plain = APGD(EPS, 5, stop_when_fooled=True)
    stages = (square_margin(Square(EPS, 20)), apgd_ce(plain), apgd_t(APGDTargeted(plain)))
    made = run(reference, stages)[0]
    robust = [made.robust_after(name) for name in made.names]
    for before, after in itertools.pairwise(robust):
        assert (after <= before).all()
    assert np.array_equal(robust[-1], ~made.attacked.fooled) and robust[0].sum() == 10
    first = run(reference, stages[:1])[0]
    assert np.array_equal(first.robust_after("square"), made.robust_after("square"))


def test_only_what_is_left_is_attacked(reference: Any) -> None:
    seen = []

    def claim_first(model: Any, x: Any, own: Any, random: Any) -> AttackResult:
        """Hand back clean images and say that the first is fooled, which is a lie."""
        seen.append(len(x))
        none = np.zeros(len(x), np.int64)
        return AttackResult(x, np.zeros(len(x)), np.arange(len(x)) == 0, none, none)

    made = run(reference, (NamedAttack("a", claim_first), NamedAttack("b", claim_first)))[0]
    assert seen == [10, 9]
    assert (made.by[2:] == NOT_FOOLED).all() and not made.attacked.fooled[2:].any()


def test_numpy_and_torch_agree(reference: Any) -> None:
    torch = pytest.importorskip("torch")
    stages = standard_suite(EPS, steps=6, queries=20)
    made, network, x, own = run(reference, stages)
    again = run_suite(reference.torch(network), torch.from_numpy(x), own, stages, np.random.default_rng(0))
    assert np.abs(made.attacked.x - again.attacked.x.numpy()).max() <= 1e-12 and np.array_equal(made.by, again.by)


def test_nothing_left_ends_it(reference: Any) -> None:
    network, x = reference.numpy(), reference.images(3)
    own = (reference.answers(network, x) + 1) % 5
    made = run_suite(network, x, own, standard_suite(EPS), np.random.default_rng(0))
    assert made.attacked.fooled.all() and (made.by == 0).all() and network.gradients == 0


@pytest.mark.parametrize("names", [[], ["a", "a"], ["clean"]])
def test_impossible_cascades_are_refused(reference: Any, names: list[str]) -> None:
    with pytest.raises(AttackError, match="impossible attack suite"):
        run(reference, [NamedAttack(name, standard_suite(EPS)[0].attack) for name in names])
