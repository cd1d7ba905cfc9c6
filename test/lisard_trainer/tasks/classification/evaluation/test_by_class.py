"""By class: every image counted once, mistakes named, the weakest class first, and a neglected one flagged."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from lisard_ros.evaluation.statistics import proportion
from lisard_trainer.evaluation.report import html, markdown
from lisard_trainer.tasks.classification.evaluation import masking, page, tables
from lisard_trainer.tasks.classification.evaluation.results import ClassLine


@pytest.fixture(scope="module")
def found(evaluate):
    return evaluate(surrogates=("s2", "s3"))


def line(label, hits, n, condition="clean", taken_for="red"):
    often = n - hits
    return ClassLine(condition, label, proportion(hits, n), taken_for if often else "", often)


def test_every_image_is_counted_once_with_its_most_frequent_mistake(found):
    own, labels = found.context.labels, found.context.models.bundle.manifest.labels
    conditions = list(dict.fromkeys(x.condition for x in found.report.classes))
    assert conditions[0] == "clean" and conditions[1].startswith("gray_") and conditions[2] == "white_pgd10"
    for name in conditions:
        row = found.measured.result("lisard", name)
        given = {x.label: x for x in found.report.classes if x.condition == name}
        assert sum(x.accuracy.n for x in given.values()) == len(own)
        for at, label in enumerate(labels):
            wrong = Counter(labels[a] for a in row.answers[own == at] if a != at)
            assert given[label].accuracy.hits == (own == at).sum() - wrong.total()
            assert given[label].often == max(wrong.values(), default=0)
            assert wrong[given[label].taken_for] == given[label].often if wrong else given[label].taken_for == ""


def test_the_gray_box_column_is_the_worst_one(found):
    lowest = next(w for w in found.report.worst if (w.model, w.condition) == ("lisard", "gray_worst"))
    assert lowest.columns[0] in {x.condition for x in found.report.classes}


def test_the_weakest_class_comes_first_and_classes_weigh_alike(found):
    classes = (line("red", 9, 10), line("blue", 1, 1), line("green", 0, 2))
    grid = tables.by_class(replace(found.report, classes=classes))
    assert [name for name, _ in grid.rows] == ["mean over classes", "green", "red", "blue"]
    mean, green = grid.rows[0][1], grid.rows[1][1]
    assert mean[0].text == "13" and mean[1].text == f"{100 * np.mean([0.9, 1, 0]):.1f}"
    assert green[0].text == "2" and green[2].text == "red, 2 of 2" and grid.rows[3][1][2].text == "–"
    assert tables.by_class(replace(found.report, classes=classes[:1])) is None


def test_a_class_without_an_image_in_a_subset_has_an_empty_cell(found):
    classes = (line("red", 9, 10), line("blue", 2, 4), line("red", 1, 2, "white_pgd10"))
    grid = tables.by_class(replace(found.report, classes=classes))
    assert [name for name, _ in grid.rows[1:]] == ["red", "blue"]
    assert all(len(cells) == len(grid.header) - 1 for _, cells in grid.rows)
    assert [cell.text for cell in grid.rows[2][1]][-2:] == ["not run", "–"]


def test_markdown_and_page_show_it(found):
    heading = "Accuracy of lisard by class"
    shown = page.page_of(found.report)
    assert f"## {heading}" in markdown(shown) and f"<h3>{heading}" in html(shown)


def test_a_class_that_is_mostly_wrong_when_clean_is_flagged():
    neglected = [line("yellow", 2, 7), line("red", 4, 8), line("green", 0, 9, "white_pgd10")]
    (flag,) = masking.of_classes(neglected)
    assert (flag.severity, flag.code, flag.model) == ("note", "class_neglected", "lisard")
    assert "yellow (2 of 7 right, mostly taken for red)" in flag.text and "green" not in flag.text
    assert masking.of_classes(neglected[1:]) == ()
    (flag,) = masking.of_classes([line(f"sign {n}", 0, 3) for n in range(8)])
    assert flag.text.count("of 3 right") == 5 and flag.text.endswith("3 more classes")
