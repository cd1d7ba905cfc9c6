"""JSON for machines and tables for people."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.commands.output import table, to_json
from lisard_ros.statistics import proportion


@dataclass(frozen=True)
class Nested:
    """A dataclass with everything that occurs."""

    values: tuple[float, ...]
    inner: dict[str, object]


def test_dataclasses_become_objects_and_nan_becomes_null() -> None:
    text = to_json(Nested((1.5, math.nan, math.inf), {"p": proportion(0, 0), "word": "é"}))
    found = json.loads(text, parse_constant=pytest.fail)
    assert found["values"] == [1.5, None, None] and found["inner"]["p"]["share"] is None and "é" in text


@given(st.lists(st.lists(st.text("ab ", max_size=6), min_size=3, max_size=3), max_size=5))
def test_columns_line_up(rows: list[list[str]]) -> None:
    lines = table(("first", "second", "third"), rows).split("\n")
    rule = lines[1]
    assert len(lines) == 2 + len(rows) and all(len(line) <= len(rule) for line in lines)
    assert set(rule) <= {"-", " "}
