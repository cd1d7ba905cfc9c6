"""bench/fuzz.py: a short set of its cases finds nothing, and a run goes on where it stopped."""

from __future__ import annotations

import contextlib
import importlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = {"bundle": 400, "images": 400, "bags": 40, "parameters": 400}


@pytest.fixture(scope="module")
def fuzz() -> Any:
    """The module of the bench, which imports others that lie beside it."""
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        return importlib.import_module("fuzz")
    finally:
        sys.path.remove(str(ROOT / "bench"))


@pytest.mark.parametrize("name", CASES)
def test_damaged_input_is_refused_with_a_sentence(fuzz: Any, tmp_path: Path, name: str) -> None:
    tally = fuzz.Tally()
    fuzz.run_area(fuzz.fuzz_areas.AREAS[name](tmp_path), tally, 7, CASES[name], lambda: None)
    assert tally.findings == []
    assert tally.done == CASES[name] == tally.accepted + sum(tally.refused.values())
    assert tally.accepted and tally.refused, "both happen, else nothing is looked at"


def test_a_run_goes_on_where_it_stopped(fuzz: Any, tmp_path: Path) -> None:
    class Odd:
        name = "odd"

        def case(self, draw: random.Random) -> bool:
            if draw.random() < 0.3:
                raise KeyError("odd")
            return True

    path = tmp_path / "report.json"

    def part(until: int) -> Any:
        report = fuzz.load(path, 3, 100, ["odd"])
        fuzz.run_area(Odd(), report.areas["odd"], 3, until, lambda: fuzz.save(report, path), tmp_path)
        return report

    part(40)
    (tmp_path / "odd.running").write_text("40")  # as a process that ended in case 40 leaves it
    whole = part(100).areas["odd"]
    assert whole.done == 100 and whole.findings[0].error.startswith("KeyError")
    assert [one.case for one in whole.findings if "process ended" in one.error] == [40]
    again = fuzz.load(path, 3, 100, ["odd"]).areas["odd"]
    assert again == whole
    with pytest.raises(SystemExit, match="seed 3"):
        fuzz.load(path, 4, 100, ["odd"])


def test_a_case_that_takes_too_long_is_ended(fuzz: Any) -> None:
    def forever(draw: random.Random) -> bool:
        while True:
            with contextlib.suppress(Exception):  # as code under test might
                draw.random()

    with pytest.raises(fuzz.TookTooLong):
        fuzz.run_case(forever, "seed", 0.2)
