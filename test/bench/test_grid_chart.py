"""The drawing of a grid of variants: well-formed, one dot a figure and seed, the most robust variant first."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import grid_chart

SVG = "{http://www.w3.org/2000/svg}"


def report(figures):
    """figures: model -> column -> share; the report of an evaluation, as far as the drawing looks at it."""
    lines = [
        {"model": model, "backend": "torch", "condition": column, "accuracy": {"share": share}}
        for model, own in figures.items()
        for column, share in own.items()
        if column != "gray_worst"
    ]
    worst = [
        {
            "model": model,
            "condition": "gray_worst",
            "conditions": ["gray_fgsm@a"],
            "accuracy": {"share": own["gray_worst"]},
        }
        for model, own in figures.items()
        if "gray_worst" in own
    ]
    roles = {"signs": "bundle"}
    return {
        "model": "signs",
        "images": 9,
        "lines": lines,
        "worst": worst,
        "sources": [
            {"model": model, "role": roles.get(model, "baseline"), "recipe": "published_1", "training": ""}
            for model in figures
        ],
    }


FOUND = report({
    "signs": {"clean": 0.9, "gray_worst": 0.4, "white_pgd10": 0.1}, "published_2": {"clean": 0.8, "gray_worst": 0.5},
    "plain": {"clean": 1.0, "gray_worst": 0.0, "white_pgd10": 0.0}, "linear_1": {"clean": 0.7, "gray_worst": 0.6},
})  # fmt: skip


def test_variants_are_sorted_by_what_their_worst_condition_leaves():
    root = ElementTree.fromstring(grid_chart.drawing(FOUND))
    names = [text.text for text in root.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
    assert names == ["linear", "published", "ce"]


def test_every_figure_of_every_seed_has_a_dot_at_its_place():
    root = ElementTree.fromstring(grid_chart.drawing(FOUND))
    dots = [circle for circle in root.iter(f"{SVG}circle") if circle.find(f"{SVG}title") is not None]
    said = {dot.find(f"{SVG}title").text: float(dot.get("cx")) for dot in dots}
    assert len(dots) == len(said) == 10
    named = ("clean: 90.0", "clean: 80.0", "white-box PGD-10: 10.0")
    clean, other, white = (said[f"published, {what} %"] for what in named)
    assert clean > other > white
    assert said["ce, clean: 100.0 %"] == grid_chart.WIDTH - grid_chart.RIGHT
    assert said["ce, white-box PGD-10: 0.0 %"] == said["ce, worst gray-box condition: 0.0 %"] == grid_chart.LEFT


def test_what_was_not_measured_has_no_dot():
    page = grid_chart.drawing(report({"signs": {"clean": 0.9}}))
    assert "clean: 90.0 %" in page and "worst gray-box condition: " not in page
