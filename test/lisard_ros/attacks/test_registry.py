"""The registry: every name says what it costs and needs; unknown ones are answered with the list and the nearest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lisard_ros.attacks import registry
from lisard_ros.attacks.model import Untargeted
from lisard_ros.attacks.threat_model import NOBODY
from lisard_ros.errors import AttackError


@pytest.mark.parametrize("name", registry.REGISTRY)
def test_every_entry_states_what_it_knows_costs_and_needs(name: str) -> None:
    entry = registry.REGISTRY[name]
    assert entry.name == name and entry.needs and entry.tasks
    spent = {"gradients": entry.gradients, "queries": entry.queries, "scene": 1, "nothing": 1}[entry.access]
    assert spent >= 1 and (entry.place is not None) == (entry.access == "scene") and entry.budget
    assert entry.knowledge(surrogate=False) in ("white-box", "query", "none")
    assert (entry.knowledge(surrogate=True) == "gray-box") == (entry.access in ("gradients", "scene"))
    attacker = registry.AttackChoice(entry, 4).attacker(entry.tasks[0], entry.knowledge(surrogate=False))
    assert (attacker == NOBODY) == (entry.access == "nothing")
    assert (entry.make is None) == (entry.access == "scene") and (entry.make is None or entry.make(8 / 255))


def test_a_patch_needs_access_to_the_scene_and_not_to_the_model() -> None:
    choice = registry.choose("patch_object/10", "detection")
    transferred, whole = (choice.attacker("detection", knowledge) for knowledge in ("gray-box", "white-box"))
    assert transferred.atlas == ("AML.T0041", "AML.T0043.002", "AML.T0015")
    assert whole.atlas == ("AML.T0041", "AML.T0043.000", "AML.T0015")
    assert whole.capability == "testing data control: a printed patch over at most 10 % of each object"


@pytest.mark.parametrize(
    ("name", "task", "guess"),
    [
        ("pgd9", "classification", "attack/pgd10"),
        ("attack/pgd9", "classification", "attack/pgd10"),
        ("attack/pgd39/4", "classification", "attack/pgd40/4"),
        ("attack/pgd10_vanish", "classification", "attack/pgd10"),
        ("attack/square0", "classification", "attack/square100"),
        ("attack/apgd100_vanis", "detection", "attack/apgd100"),
        ("attack/sqare100", "detection", "attack/square100"),
        ("patch_objekt/5", "detection", "attack/patch_object/5"),
    ],
)
def test_an_unknown_attack_is_answered_with_the_nearest_of_its_family(name: str, task: str, guess: str) -> None:
    with pytest.raises(AttackError) as caught:
        registry.choose(name, task)  # type: ignore[arg-type]
    assert f"did you mean '{guess}'?" in str(caught.value)
    assert all(known in str(caught.value) for known in registry.names_of(task))  # type: ignore[arg-type]


@pytest.mark.parametrize("budget", ["", "-1", "256", "8.5", "x", "²"])
def test_a_budget_is_whole_grey_levels(budget: str) -> None:
    with pytest.raises(AttackError, match="whole grey levels from 0"):
        registry.choose(f"attack/fgsm/{budget}", "classification")


@pytest.mark.parametrize("budget", ["", "-1", "101", "20.5", "9" * 5000])
def test_a_budget_of_a_patch_is_whole_percent(budget: str) -> None:
    with pytest.raises(AttackError, match="whole percent of the area from 0 .* to 100"):
        registry.choose(f"attack/patch_object/{budget}", "detection")


def test_names_are_read_back() -> None:
    for name in ("attack/pgd10", "attack/pgd10/4", "attack/fgsm/0"):
        assert registry.choose(name, "classification").name == name
    assert registry.choose("fgsm/8", "classification").name == "attack/fgsm"
    object_, fixed = registry.choose("patch_object", "detection"), registry.choose("patch_fixed/20", "detection")
    assert (object_.name, object_.area_percent, object_.eps_255) == ("attack/patch_object", 20, 255)
    assert (fixed.name, fixed.area_percent) == ("attack/patch_fixed/20", 20)
    assert registry.choose("fgsm", "detection").area_percent is None


@pytest.mark.parametrize("eps_255", [1, 8, 255])
def test_uniform_noise_takes_every_level_within_its_budget(eps_255: int) -> None:
    x = np.full((4, 3, 64, 64), 128 / 255, np.float32)
    make = registry.uniform
    moved = make(None, x, Untargeted(np.zeros(4, np.int64)), np.random.default_rng(0), eps=eps_255 / 255)
    levels = np.rint((moved - x) * 255).astype(int)
    assert np.abs(moved * 255 - np.rint(moved * 255)).max() < 1e-3
    most = min(eps_255, 127)
    assert levels.min() >= -min(eps_255, 128) and levels.max() <= most
    if eps_255 < 100:
        assert set(np.unique(levels)) == set(range(-eps_255, eps_255 + 1))


@pytest.mark.parametrize("name", ["fgsm", "pgd10", "mifgsm10", "apgd20", "square100"])
def test_an_attack_costs_what_its_entry_says(reference: Any, name: str) -> None:
    entry = registry.REGISTRY[name]
    network = reference.numpy(scale=0.02)
    x = reference.images(3)
    labels = reference.answers(network, x)
    assert entry.make is not None
    entry.make(1 / 255)(network, x, Untargeted(labels, entry.class_loss), np.random.default_rng(0))
    assert network.gradients == 3 * entry.gradients and network.queries <= 3 * entry.queries
