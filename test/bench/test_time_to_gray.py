"""Time to equal gray-box accuracy: shorter trainings are the variant's own, and the verdict is what the figures say."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import grid
import time_to_gray

FAITHFUL = time_to_gray.Line("faithful_1", 20, 1300.0, 0.63, 0.39)


@pytest.mark.parametrize("variant", ["linear", "published"])
def test_a_shortened_variant_differs_in_its_length_alone(variant):
    whole = grid.Item(grid.CIFAR10, "whole", grid.VARIANTS[variant], 1).recipe
    short = time_to_gray.shortened(variant, 8).recipe
    assert short.optimizer == replace(whole.optimizer, epochs=8)
    assert replace(short, name="whole", optimizer=whole.optimizer, gradient=whole.gradient) == whole


def test_a_term_that_begins_late_begins_after_the_same_share():
    whole = grid.Item(grid.CIFAR10, "whole", grid.VARIANTS["linear"], 1).recipe
    for epochs in time_to_gray.LENGTHS:
        after = time_to_gray.shortened("linear", epochs).recipe.gradient.after
        assert 0 < after < epochs
        assert abs(after / epochs - whole.gradient.after / whole.optimizer.epochs) <= 0.5 / epochs


@pytest.mark.parametrize(("clean", "worst", "reaches"), [(0.63, 0.39, True), (0.7, 0.38, False), (0.6, 0.5, False)])
def test_both_figures_must_be_reached(clean, worst, reaches):
    ours = time_to_gray.Line("short_linear_3", 3, 260.0, clean, worst)
    assert ours.reaches(FAITHFUL) is reaches
    found = {"command": "c", "commit": "0" * 40, "pictures": 10, "faithful": asdict(FAITHFUL), "ours": [asdict(ours)]}
    page = time_to_gray.markdown(found)
    assert ("gray-box and clean accuracy of the faithful run after 5.0 times less" in page) is reaches
    assert ("No length that was tried has its gray-box and clean accuracy." in page) is not reaches
    assert ("has the gray-box accuracy of the faithful run after 5.0 times less" in page) is (worst >= 0.39)
    assert "| `faithful_1` | 20 | 1300 | 63.0 | 39.0 |" in page
