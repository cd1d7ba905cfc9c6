"""Tables of a classifier: the weakest class first, and comparisons where there are some."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lisard_trainer.evaluation.page import html, markdown
from lisard_trainer.tasks.classification.evaluation import page, tables
from lisard_trainer.tasks.classification.evaluation.results import ComparedModels


@pytest.fixture(scope="module")
def found(evaluate):
    return evaluate(surrogates=("s2", "s3"))


def test_the_weakest_class_comes_first_and_classes_weigh_alike(found, class_line):
    classes = (class_line("red", 9, 10), class_line("blue", 1, 1), class_line("green", 0, 2))
    grid = tables.by_class(replace(found.report, classes=classes))
    assert [name for name, _ in grid.rows] == ["mean over classes", "green", "red", "blue"]
    mean, green = grid.rows[0][1], grid.rows[1][1]
    assert mean[0].text == "13" and mean[1].text == f"{100 * np.mean([0.9, 1, 0]):.1f}"
    assert green[0].text == "2" and green[2].text == "red, 2 of 2" and grid.rows[3][1][2].text == "–"
    assert tables.by_class(replace(found.report, classes=classes[:1])) is None


def test_a_class_without_an_image_in_a_subset_has_an_empty_cell(found, class_line):
    classes = (class_line("red", 9, 10), class_line("blue", 2, 4), class_line("red", 1, 2, "white_pgd10"))
    grid = tables.by_class(replace(found.report, classes=classes))
    assert [name for name, _ in grid.rows[1:]] == ["red", "blue"]
    assert all(len(cells) == len(grid.header) - 1 for _, cells in grid.rows)
    assert [cell.text for cell in grid.rows[2][1]][-2:] == ["not run", "–"]


def test_markdown_and_page_show_the_classes(found):
    heading = "Accuracy of tiny by class"
    shown = page.page_of(found.report)
    assert f"## {heading}" in markdown(shown) and f"<h3>{heading}" in html(shown)


def test_the_report_has_a_table_of_the_comparisons(evaluate):
    found = evaluate(pairs=(ComparedModels(("plain",), ("tiny",)),)).report
    back = {d.condition: d.difference.value for d in found.differences}
    assert {c.condition: pytest.approx(-c.difference.value) for c in found.comparisons} == back
    ((name, cells),) = tables.comparisons(found).rows
    assert name == "plain minus tiny" and len(cells) == len(tables.comparisons(found).header) - 1


def test_without_comparisons_there_is_no_table(evaluate):
    assert tables.comparisons(evaluate().report) is None
