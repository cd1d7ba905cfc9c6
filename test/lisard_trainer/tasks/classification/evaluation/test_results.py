"""What was measured: every image counted once by class, and the mean of some models against that of others."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lisard_ros.errors import UsageError
from lisard_ros.evaluation.statistics import paired_difference
from lisard_trainer.evaluation.conditions import CLEAN
from lisard_trainer.evaluation.deployed import INT8, TORCH
from lisard_trainer.tasks.classification.evaluation import results
from lisard_trainer.tasks.classification.evaluation.results import (
    ClassificationResult,
    ClassificationResults,
    ComparedModels,
    ImageTracks,
    ModelComparison,
)
from lisard_trainer.tasks.classification.evaluation.suites import ClassificationCondition

TRACKS = [f"t{n // 4}" for n in range(40)]
PAIR = ComparedModels(("a_1", "a_2"), ("b_1", "b_2"))


def row(
    model: str, condition: str, group: str, hits: np.ndarray, positions: np.ndarray | None = None, backend: str = TORCH
) -> ClassificationResult:
    at = np.arange(len(TRACKS)) if positions is None else positions
    zeros = np.zeros(len(at))
    return ClassificationResult(
        model,
        backend,
        ClassificationCondition(condition, group),
        at,
        zeros.astype(np.int16),
        zeros.astype(np.float32),
        hits[at],
    )


def hits(seed: int, share: float) -> np.ndarray:
    return np.random.default_rng(seed).random(len(TRACKS)) < share


def only(found: list[ModelComparison], condition: str) -> ModelComparison:
    (one,) = (contrast for contrast in found if contrast.condition == condition)
    return one


def test_a_contrast_is_between_means_over_models():
    own, theirs = [hits(n, 0.8) for n in (1, 2)], [hits(n, 0.5) for n in (3, 4)]
    names = (*PAIR.models, *PAIR.baselines)
    rows = [row(name, CLEAN, "clean", right) for name, right in zip(names, (*own, *theirs), strict=True)]
    found = only(list(results.comparisons(ClassificationResults(rows), [PAIR], TRACKS, 0)), CLEAN)
    wanted = np.mean(own) - np.mean(theirs)
    assert found.difference.value == pytest.approx(wanted)
    assert found.difference == paired_difference(np.mean(own, 0), np.mean(theirs, 0), TRACKS, 0)
    assert (found.models, found.baselines) == (PAIR.models, PAIR.baselines)


def test_exchanged_sides_have_the_opposite_sign():
    rows = [row(name, CLEAN, "clean", hits(n, 0.7)) for n, name in enumerate((*PAIR.models, *PAIR.baselines))]
    there = only(list(results.comparisons(ClassificationResults(rows), [PAIR], TRACKS, 0)), CLEAN).difference
    back = only(
        list(
            results.comparisons(ClassificationResults(rows), [ComparedModels(PAIR.baselines, PAIR.models)], TRACKS, 0)
        ),
        CLEAN,
    ).difference
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_each_model_has_its_own_worst_column():
    weak, strong = hits(1, 0.3), hits(2, 0.9)
    rows = [
        row("a", "gray_x@s", "gray", weak),
        row("a", "gray_y@s", "gray", strong),
        row("b", "gray_x@s", "gray", strong),
        row("b", "gray_y@s", "gray", weak),
    ]
    found = list(results.comparisons(ClassificationResults(rows), [ComparedModels(("a",), ("b",))], TRACKS, 0))
    assert only(found, "gray_worst").difference.value == 0
    assert only(found, "gray_x@s").difference.value == pytest.approx(weak.mean() - strong.mean())


def test_a_condition_that_one_model_did_not_meet_is_left_out():
    rows = [
        row("a", CLEAN, "clean", hits(1, 0.5)),
        row("b", CLEAN, "clean", hits(2, 0.5)),
        row("a", "white_pgd10", "white", hits(3, 0.5)),
    ]
    found = list(results.comparisons(ClassificationResults(rows), [ComparedModels(("a",), ("b",))], TRACKS, 0))
    assert [contrast.condition for contrast in found] == [CLEAN]


def test_conditions_of_different_sizes_are_compared_on_what_both_have():
    first, second = hits(1, 0.5), hits(2, 0.5)
    some = np.arange(0, 40, 3)
    rows = [row("a", "white_apgd_ce", "white", first, some), row("b", "white_apgd_ce", "white", second)]
    found = only(
        list(results.comparisons(ClassificationResults(rows), [ComparedModels(("a",), ("b",))], TRACKS, 0)),
        "white_apgd_ce",
    )
    assert found.difference.value == pytest.approx(first[some].mean() - second[some].mean())


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("a", "--compare: found 'a', expected MODEL"),
        ("a:", "--compare: found 'a:'"),
        ("a,:b", "--compare: found 'a,:b'"),
        ("a:b:c", "--compare: found 'a:b:c'"),
        ("tiny:noise_onli", "did you mean 'noise_only'"),
    ],
)
def test_what_is_no_comparison_is_refused(word, message):
    with pytest.raises(UsageError) as caught:
        results.parse_comparisons([word], ["tiny", "a", "b", "c", "noise_only"])
    assert message in str(caught.value)


def test_words_become_pairs():
    assert results.parse_comparisons(["a,b:c", "c:a"], ["a", "b", "c"]) == (
        ComparedModels(("a", "b"), ("c",)),
        ComparedModels(("c",), ("a",)),
    )


def test_int8_is_compared_with_fp32_on_the_same_images_by_track():
    fp32, int8 = hits(1, 0.9), hits(2, 0.6)
    rows = [row("tiny", CLEAN, "clean", fp32), row("tiny", CLEAN, "clean", int8, backend=INT8)]
    (line,) = results.int8_lines(ClassificationResults(rows), ImageTracks(tuple(TRACKS)), 0)
    assert (line.condition, line.n, line.fp32, line.int8) == (CLEAN, 40, fp32.mean(), int8.mean())
    assert line.difference == paired_difference(int8, fp32, TRACKS, 0) and line.difference.value < 0


def test_every_image_is_counted_once_with_its_most_frequent_mistake(evaluate):
    found = evaluate(surrogates=("s2", "s3"))
    own, labels = found.context.labels, found.context.models.bundle.manifest.labels
    conditions = list(dict.fromkeys(x.condition for x in found.report.classes))
    assert conditions[0] == "clean" and conditions[1].startswith("gray_") and conditions[2] == "white_pgd10"
    for name in conditions:
        row = found.measured.result("tiny", name)
        given = {x.label: x for x in found.report.classes if x.condition == name}
        assert sum(x.accuracy.n for x in given.values()) == len(own)
        for at, label in enumerate(labels):
            wrong = Counter(labels[a] for a in row.answers[own == at] if a != at)
            assert given[label].accuracy.hits == (own == at).sum() - wrong.total()
            assert given[label].often == max(wrong.values(), default=0)
            assert wrong[given[label].taken_for] == given[label].often if wrong else given[label].taken_for == ""
    lowest = next(w for w in found.report.worst if (w.model, w.condition) == ("tiny", "gray_worst"))
    assert lowest.conditions[0] in conditions
