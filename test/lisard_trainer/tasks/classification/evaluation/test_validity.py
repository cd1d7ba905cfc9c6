"""When a gray-box attack counts, for each surrogate and condition."""

from __future__ import annotations

import numpy as np
import pytest

from lisard_ros.errors import LisardError
from lisard_trainer.evaluation.deployed import TORCH
from lisard_trainer.tasks.classification.evaluation import validity
from lisard_trainer.tasks.classification.evaluation.results import ClassificationResult, ClassificationResults
from lisard_trainer.tasks.classification.evaluation.suites import ClassificationCondition, gray_name


def row(model, condition, group, share, n=100):
    hits = np.arange(n) < round(n * share)
    places = np.arange(n, dtype=np.int64)
    return ClassificationResult(
        model,
        TORCH,
        ClassificationCondition(condition, group),
        places,
        hits.astype(np.int16),
        hits.astype(np.float32),
        hits,
    )


def measured(plain, **surrogates):
    """Shares (clean, FGSM and PGD-10) of the plain baseline, and of each surrogate under its own attack."""
    rows = [row("plain", "clean", "clean", plain[0])]
    for name, (clean, own) in surrogates.items():
        rows.append(row(name, "clean", "clean", clean))
        for way in ("fgsm", "pgd10"):
            condition = gray_name(way, "" if name == "surrogate" else name)
            rows += [row(name, condition, "gray", own), row("plain", condition, "gray", plain[1])]
    return ClassificationResults(rows)


@pytest.mark.parametrize(
    ("surrogate", "plain", "valid"),
    [
        ((0.98, 0.2), (0.98, 0.5), True),
        ((0.95, 0.2), (0.98, 0.5), False),  # a surrogate worse than the baseline
        ((0.98, 0.5), (0.98, 0.5), False),  # a surrogate that withstands its own attack
        ((0.30, 0.2), (0.31, 0.11), True),  # just the limits, where a difference of floats is a little beyond
        ((0.98, 0.2), (0.98, 0.9), False),  # an attack that does not hurt a baseline of another seed
    ],
)
def test_conditions_of_a_gray_box_attack(surrogate, plain, valid):
    rows = measured(plain, surrogate=surrogate)
    found = validity.requirements(rows, {"": False})
    assert all(condition.holds for condition in found) is valid
    assert validity.valid(found, rows, {"": None}) is valid and len(found) == 6


def test_a_surrogate_that_is_the_baseline_proves_nothing():
    rows = measured((0.98, 0.2), surrogate=(0.98, 0.2))
    found = validity.requirements(rows, {"": True})
    assert [c.what for c in found if not c.holds] == ["surrogate and the plain baseline are different networks"]
    assert not validity.valid(found, rows, {"": None})


def test_each_surrogate_is_judged_and_the_first_decides():
    rows = measured((0.98, 0.5), s1=(0.98, 0.2), weak=(0.9, 0.2))
    found = validity.requirements(rows, {"s1": False, "weak": False})
    assert validity.counts(found, "s1", "gray_fgsm@s1") and not validity.counts(found, "weak", "gray_fgsm@weak")
    assert validity.valid(found, rows, {"s1": None, "weak": None})
    assert not validity.valid(found, rows, {"weak": None, "s1": None})


@pytest.mark.parametrize("strong", ["fgsm", "pgd10"])
def test_both_published_attacks_must_count(strong):
    rows = [row("plain", "clean", "clean", 0.98), row("surrogate", "clean", "clean", 0.98)]
    for way in ("fgsm", "pgd10"):
        condition = gray_name(way, "")
        own = 0.2 if way == strong else 0.6
        rows += [row("surrogate", condition, "gray", own), row("plain", condition, "gray", 0.5)]
    found = validity.requirements(ClassificationResults(rows), {"": False})
    assert [validity.counts(found, "surrogate", gray_name(way, "")) for way in ("fgsm", "pgd10")].count(True) == 1
    assert not validity.valid(found, ClassificationResults(rows), {"": None})


def test_without_a_plain_baseline_nothing_can_be_said():
    with pytest.raises(LisardError, match="no plain baseline"):
        validity.requirements(ClassificationResults([row("surrogate", "clean", "clean", 0.98)]), {"": False})
