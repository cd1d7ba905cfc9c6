"""docs/robustness_record.md quotes differences that stand in the result files that its rows link to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
NUMBER = r"[+-]?\d+\.\d"
DIFFERENCE = re.compile(rf"({NUMBER}) \[({NUMBER}), ({NUMBER})\]")
ROWS = [
    line for line in (DOCS / "robustness_record.md").read_text(encoding="utf-8").splitlines() if "](results/" in line
]
Triple = tuple[float, float, float]


def stored(content: Any) -> Iterator[Triple]:
    """Every difference of a result file in points, and its mirror image, with one decimal."""
    if isinstance(content, dict):
        if {"value", "low", "high"} <= set(content):
            value, low, high = (100 * content[name] for name in ("value", "low", "high"))
            yield round(value, 1), round(low, 1), round(high, 1)
            yield round(-value, 1), round(-high, 1), round(-low, 1)
        for inside in content.values():
            yield from stored(inside)
    elif isinstance(content, list):
        for inside in content:
            yield from stored(inside)


def near(one: Triple, other: Triple) -> bool:
    """Equal but for the rounding of a half."""
    return all(abs(a - b) < 0.11 for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_every_difference_stands_in_a_linked_result(row: str) -> None:
    pages = [DOCS / page for page in re.findall(r"\]\((results/[a-z0-9_]+)\.md\)", row)]
    known = [one for page in pages for one in stored(json.loads(page.with_suffix(".json").read_text(encoding="utf-8")))]
    for value, low, high in DIFFERENCE.findall(row):
        quoted = (float(value), float(low), float(high))
        assert any(near(quoted, one) for one in known), f"{quoted} is in none of {[page.name for page in pages]}"


def test_the_record_has_rows_with_differences() -> None:
    assert sum(len(DIFFERENCE.findall(row)) for row in ROWS) >= 30
