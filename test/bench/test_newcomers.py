"""bench/newcomers.py: its page is made from its figures, and what the shell wrote is read right."""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def newcomers() -> Iterator[Any]:
    """The module of the bench."""
    sys.path.insert(0, str(ROOT / "bench"))  # it imports what lies beside it
    spec = importlib.util.spec_from_file_location("bench_newcomers", ROOT / "bench/newcomers.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / "bench"))


def test_the_page_is_generated_from_the_figures(newcomers: Any) -> None:
    report = json.loads(newcomers.JSON.read_text(encoding="utf-8"))
    assert newcomers.TABLE.read_text(encoding="utf-8") == newcomers.table(report)
    assert report["newcomers"] and report["newcomers"].keys() <= newcomers.NEWCOMERS.keys()


def test_the_page_names_who_was_not_measured(newcomers: Any) -> None:
    report = json.loads(newcomers.JSON.read_text(encoding="utf-8"))
    only = {"newcomers": {"laptop": report["newcomers"]["laptop"]}}
    absent = "Not measured: the one who runs the demonstration, the one who has 1,000 images, the one who has a bag and"
    assert absent in newcomers.table(only)
    every = {"newcomers": dict.fromkeys(newcomers.NEWCOMERS, report["newcomers"]["laptop"])}
    assert "Not measured" not in newcomers.table(every)


def test_a_result_is_found_after_the_step_that_made_it(newcomers: Any, tmp_path: Path) -> None:
    """The blocks of a page with a folder in the place of the clone."""
    block = newcomers.tutorial_blocks.Block
    pasted = [
        block("bash", "cd ..\n", "", "One"),
        block("python", "open('result', 'w').write('1')\n", "", "Two"),
        block("bash", "python() { false; }\n", "", "Three"),
    ]
    who = newcomers.Newcomer("x.md", "tries", "result", 60)
    text = newcomers.script(who, tmp_path / "marks", pasted, None).replace("git clone -q", "mkdir lisard_ros #")
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", text], cwd=tmp_path, env=environment, check=True)
    taken = newcomers.readings((tmp_path / "marks").read_text(encoding="utf-8"))
    assert [reading.there for reading in taken] == [False, False, False, True, True]
    assert all(after.clock_s >= before.clock_s for before, after in itertools.pairwise(taken))
    assert [step.heading for step in newcomers.timed([("Get", "a"), ("One", "b")], taken)] == ["Get", "One"]
