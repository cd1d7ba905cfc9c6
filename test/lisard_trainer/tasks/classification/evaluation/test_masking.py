"""Each sign of masked gradients is raised where it is, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lisard_trainer.evaluation.deployed import TORCH
from lisard_trainer.tasks.classification.evaluation import masking, validity
from lisard_trainer.tasks.classification.evaluation.masking import Probe
from lisard_trainer.tasks.classification.evaluation.models import ClassifierSource
from lisard_trainer.tasks.classification.evaluation.results import ClassificationResult, ClassificationResults
from lisard_trainer.tasks.classification.evaluation.suites import Attack, ClassificationCondition

N = 200


def row(name, share, group="white", eps=8.0, unrounded=None, places=None):
    places = np.arange(N, dtype=np.int64) if places is None else places
    hits = places < round(N * share)
    attack = Attack(name, "white-box", "pgd", eps, 2, 10, True, 0)
    raw = None if unrounded is None else places < round(N * unrounded)
    return ClassificationResult(
        "m",
        TORCH,
        ClassificationCondition(name, group, attack=attack),
        places,
        hits.astype(np.int16),
        hits.astype(np.float32),
        hits,
        raw,
    )


def codes(*rows, probe=None):
    return [flag.code for flag in masking.of_model(ClassificationResults(rows), "m", probe)]


HONEST = (row("white_fgsm", 0.5), row("white_pgd10", 0.3), row("white_pgd50", 0.29), row("white_apgd_ce", 0.28))


def test_an_honest_model_raises_nothing():
    sweep = [row(f"sweep_pgd50_eps{e}", s, "sweep", e) for e, s in ((1, 0.9), (8, 0.3), (32, 0.0))]
    others = (row("gray_pgd10", 0.7, "gray"), row("query_square", 0.45, "query"))
    assert codes(*HONEST, *sweep, *others, probe=Probe("m", N, 0.0, 0.0)) == []


@pytest.mark.parametrize("weaker", [row("gray_pgd10", 0.2, "gray"), row("query_square", 0.2, "query")])
def test_an_attacker_without_weights_does_better(weaker):
    assert codes(*HONEST, weaker) == ["weaker_with_weights"]


def test_comparisons_are_on_the_images_both_have():
    some = np.arange(100, N, dtype=np.int64)  # the white-box attacks break every one of these, Square not
    assert codes(*HONEST, row("query_square", 0.9, "query", places=some)) == []


def test_one_step_is_stronger_and_more_steps_are_weaker():
    assert codes(row("white_fgsm", 0.2), row("white_pgd10", 0.3)) == ["one_step_stronger"]
    assert codes(row("white_pgd10", 0.3), row("white_pgd50", 0.33)) == ["more_steps_weaker"]


def test_a_part_of_the_sweep_need_not_fall_to_zero():
    part = [row("sweep_a_eps1", 0.9, "sweep", 1), row("sweep_a_eps2", 0.3, "sweep", 2)]
    assert codes(*HONEST, *part) == codes(*HONEST)


def test_the_sweep_must_fall_to_zero():
    left = [row("sweep_a_eps16", 0.1, "sweep", 16), row("sweep_a_eps32", 0.05, "sweep", 32)]
    assert codes(*left) == ["budget_without_effect"]
    rising = [
        row("sweep_a_eps8", 0.1, "sweep", 8),
        row("sweep_a_eps16", 0.2, "sweep", 16),
        row("sweep_a_eps32", 0.0, "sweep", 32),
    ]
    assert codes(*rising) == ["budget_not_monotone"]


def test_gradients_that_vanish_and_answers_that_vary():
    assert codes(*HONEST, probe=Probe("m", N, 0.4, 0.0)) == ["zero_gradients"]
    assert codes(*HONEST, probe=Probe("m", N, 0.0, 0.2)) == ["random_answers"]


def test_rounding_that_protects_is_noted():
    (flag,) = masking.of_model(ClassificationResults([row("white_pgd10", 0.3, unrounded=0.2)]), "m", None)
    assert (flag.code, flag.severity) == ("rounding_protects", "note")


def source(seed, network, training="ordinary"):
    return ClassifierSource(f"s{seed}", "surrogate", "r", seed, 1, "0", training, network)


def test_a_surrogate_with_the_seed_of_a_model_is_told():
    ours = ClassifierSource("tiny", "bundle", "r", 1, 1, "1", "noise", "resnet14w")
    assert [flag.code for flag in masking.of_scope([ours, source(1, "resnet14w")], (), wide=False)] == [
        "surrogate_shares_seed"
    ]
    assert masking.of_scope([ours, source(2, "resnet14w"), source(1, "resnet20")], (), wide=False) == ()


def test_few_attackers_are_noted_in_wide_suites_alone():
    few = [source(1, "resnet14w")]
    assert [flag.code for flag in masking.of_scope(few, (), wide=True)] == ["few_attackers"]
    assert masking.of_scope(few, (), wide=False) == ()
    ours = ClassifierSource("tiny", "bundle", "r", 9, 1, "1", "noise + gradient", "resnet14w")
    many = [ours, source(1, "resnet14w"), source(2, "resnet14w"), source(3, "resnet20", "noise + gradient")]
    assert masking.of_scope(many, (), wide=True) == ()
    unlike = [*many[:3], source(3, "resnet20", "LISArD (normalised)")]
    assert "no surrogate trained like the bundle" in masking.of_scope(unlike, (), wide=True)[0].text
    flags = masking.of_scope(many, ("tiny", "plain"), wide=True)
    assert [(f.severity, f.code, f.model) for f in flags] == [
        ("warning", "trained_on_other_images", "tiny"),
        ("warning", "trained_on_other_images", "plain"),
    ]


def test_what_does_not_count_says_which_condition_fails():
    share = {"clean": 0.98, "gray_fgsm@a": 0.5, "gray_fgsm@b": 0.5, "gray_fgsm@c": 0.9}
    rows = [row(name, at, name.partition("_")[0]) for name, at in share.items()]
    plain = [replace(one, model="plain") for one in rows]
    own = [replace(row("clean", at, "clean"), model=name) for name, at in zip("abc", (0.95, 0.98, 0.98), strict=True)]
    own += [
        replace(row(f"gray_fgsm@{name}", at, "gray"), model=name)
        for name, at in zip("abc", (0.1, 0.6, 0.1), strict=True)
    ]
    measured = ClassificationResults([*plain, *own])
    found = validity.requirements(measured, {"a": False, "b": False, "c": False})
    sources = [ClassifierSource(name, "surrogate", "r", 1, 1, "0", "ordinary", "resnet8") for name in "abc"]
    said = {flag.model: flag.text for flag in masking.of_surrogates(found, measured, sources)}
    assert said["a"].startswith("FGSM: 3.0 points behind the plain baseline on clean images; a high")
    assert said["b"].startswith("FGSM: the surrogate withstands FGSM; a high")
    assert said["c"].startswith("FGSM: the plain baseline is hardly hurt by FGSM; a high")


def test_a_class_that_is_mostly_wrong_when_clean_is_flagged(class_line):
    neglected = [class_line("yellow", 2, 7), class_line("red", 4, 8), class_line("green", 0, 9, "white_pgd10")]
    (flag,) = masking.of_classes("tiny", neglected)
    assert (flag.severity, flag.code, flag.model) == ("note", "class_neglected", "tiny")
    assert "yellow (2 of 7 right, mostly taken for red)" in flag.text and "green" not in flag.text
    assert masking.of_classes("tiny", neglected[1:]) == ()
    (flag,) = masking.of_classes("tiny", [class_line(f"sign {n}", 0, 3) for n in range(8)])
    assert flag.text.count("of 3 right") == 5 and flag.text.endswith("3 more classes")
