"""Suites, and choosing conditions by name."""

from __future__ import annotations

from typing import get_args

import pytest

from lisard_ros.corruptions import NAMES
from lisard_ros.errors import UsageError
from lisard_trainer.tasks.classification.evaluation import suites
from lisard_trainer.tasks.classification.evaluation.suites import Method, title


def names(suite, surrogates=("",), only=()):
    return [condition.name for condition in suites.conditions(suite, surrogates, 0, only)]


def test_quick_is_what_is_published():
    assert names("quick") == ["clean", "gray_fgsm", "gray_pgd10", "white_pgd10"]
    by_name = {condition.name: condition.attack for condition in suites.conditions("quick", [""], 0)}
    gray, white = by_name["gray_pgd10"], by_name["white_pgd10"]
    assert (gray.knowledge, gray.eps_255, gray.step_255, gray.steps, gray.random_start) == ("gray-box", 8, 2, 10, True)
    assert (white.knowledge, white.method, white.steps) == ("white-box", "pgd", 10)


@pytest.mark.parametrize("suite", suites.SUITES)
def test_every_condition_has_a_method_a_title_and_a_name_of_its_own(suite):
    conditions = suites.conditions(suite, ["s1", "s2"], 0)
    assert len({condition.name for condition in conditions}) == len(conditions)
    assert all(condition.attack.method in get_args(Method) for condition in conditions if condition.attack)
    assert all(title(condition.name) and "_" not in title(condition.name) for condition in conditions)


def test_a_budget_is_that_of_every_attack_but_the_sweep():
    planned = [c.attack for c in suites.conditions("standard", [""], 0, eps_255=4) if c.attack and c.group != "sweep"]
    assert planned and {attack.eps_255 for attack in planned} == {4}
    same = {c.name: c for c in suites.conditions("standard", [""], 0)}
    assert all(c == same[c.name] for c in suites.conditions("standard", [""], 0, eps_255=4) if c.group == "sweep")
    pgd = next(attack for attack in planned if attack.name == "white_pgd10")
    assert (pgd.step_255, same["white_pgd10"].attack.step_255) == (1, 2)


@pytest.mark.parametrize("suite", ["standard", "full"])
def test_the_larger_suites_cover_every_attacker(suite):
    found = set(names(suite, ["s1", "s2"]))
    transfer = ("fgsm", "pgd10", "pgd50", "mi_fgsm", "di_fgsm", "ti_fgsm", "apgd_ce", "apgd_t")
    assert {f"gray_{method}@{s}" for method in transfer for s in ("s1", "s2")} <= found
    assert {"white_fgsm", "white_pgd50", "white_apgd_ce", "white_apgd_t", "query_square", "smoothed_clean"} <= found
    assert {f"sweep_pgd50_eps{eps}" for eps in (1, 2, 4, 8, 16, 32)} <= found
    assert all(any(name.startswith(f"corruption_{kind}_") for name in found) for kind in NAMES)
    assert any(name.startswith("certified_") for name in found) and any(name.startswith("noise_") for name in found)


def test_full_has_all_severities_and_restarts():
    found = {condition.name: condition for condition in suites.conditions("full", [""], 0)}
    assert {f"corruption_fog_{severity}" for severity in range(1, 6)} <= set(found)
    assert found["white_pgd50"].attack.restarts > 1 and found["white_apgd_ce"].attack.steps == 100
    assert any(condition.attack.draws > 1 for condition in found.values() if condition.attack)


def test_only_keeps_what_fits_and_clean():
    assert names("standard", only=["white_*"])[:3] == ["clean", "white_fgsm", "white_pgd10"]
    assert names("quick", ["a", "b"], ["*@b"]) == ["clean", "gray_fgsm@b", "gray_pgd10@b"]
    assert names("quick", only=["gray_fgsm", "white_*"]) == ["clean", "gray_fgsm", "white_pgd10"]


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UsageError, match="unknown suite.*did you mean 'standard'"):
        names("standart")
    with pytest.raises(UsageError, match="did you mean 'white_pgd10'"):
        names("quick", only=["white_pgd11"])


def test_titles():
    assert title("gray_pgd10@s2") == "gray-box PGD-10, surrogate s2"
    assert title("sweep_pgd50_eps16") == "white-box PGD-50, eps 16/255"
    assert title("query_square") == "query Square" and title("corruption_motion_blur_3") == "corruption motion blur 3"
