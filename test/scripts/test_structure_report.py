"""scripts/structure_report.py: what it counts, on a made-up tree and on a commit of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import structure_report  # noqa: E402

FILES = {
    "README.md": "One two three four.\n",
    "docs/guide.md": "Five words are in here.\n",
    "lisard_ros/__init__.py": "",
    "lisard_ros/errors.py": "class Row:\n    pass\n",
    "lisard_ros/cli.py": "from . import node\nfrom .bags import reader\n",
    "lisard_ros/bags/__init__.py": "",
    "lisard_ros/bags/reader.py": "from ..errors import Row as Base\n\n\nclass Row(Base):\n    pass\n",
    "lisard_ros/node/__init__.py": "",
    "lisard_ros/node/worker.py": (
        "from collections.abc import Callable\n\n\n"
        "class Worker:\n"
        "    ask: Callable[[int], int]\n\n"
        "    def run(self) -> int:\n"
        "        return self._once() + _twice(1) + _twice(2)\n\n"
        "    def _once(self) -> int:\n"
        "        return 1\n\n\n"
        "def _twice(number: int) -> int:\n"
        "    return number\n"
    ),
    "trainer/lisard_trainer/__init__.py": "",
    "trainer/lisard_trainer/first.py": "from lisard_trainer import second\n",
    "trainer/lisard_trainer/second.py": (
        "from typing import TYPE_CHECKING\n\n"
        "if TYPE_CHECKING:\n    from lisard_ros import cli\n\n\n"
        "def late() -> None:\n    from . import first\n"
    ),
    "trainer/lisard_trainer/tasks/__init__.py": "from .. import second\n",
}


@pytest.fixture
def tree(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_lines_modules_names_and_helpers(tree):
    report = structure_report.figures(tree)
    assert report["lines of lisard_trainer"] == 9 + 1
    assert report["lines of lisard_engines"] == 0
    assert report["modules"] == 11
    assert report["flat modules in lisard_trainer"] == 2
    assert report["classes"] == 3
    assert report["class names that stand for several:"] == {"Row": ["lisard_ros.bags.reader", "lisard_ros.errors"]}
    assert report["classes under such names"] == 2
    assert (report["private helpers"], report["private helpers named once"]) == (2, 1)
    assert report["Callable[[ in node"] == 1
    assert (report["functions"], report["function lines, longest"]) == (4, 2)
    assert report["words of the README"] == 4
    assert report["README and guides, median"] == 4.5


def test_circles_of_modules_with_and_without_functions(tree):
    report = structure_report.figures(tree)
    assert report["import circles of modules:"] == [["lisard_trainer.first", "lisard_trainer.second"]]
    assert report["those at import time alone"] == 0
    assert report["arrows between rooms of lisard_trainer"] == 3


def test_a_circle_of_folders_is_found_where_no_module_is_in_one(tree):
    assert structure_report.figures(tree)["import circles of folders"] == 1  # first and second, each a room of its own
    (tree / "lisard_ros/bags/index.py").write_text("from ..node import worker\n", encoding="utf-8")
    (tree / "lisard_ros/node/player.py").write_text("from ..bags import reader\n", encoding="utf-8")
    report = structure_report.figures(tree)
    assert ["lisard_ros.bags", "lisard_ros.node"] in report["import circles of folders:"]
    assert report["import circles of modules"] == 1


def test_circles_are_the_strongly_connected_groups():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert structure_report.circles(graph) == [["a", "b", "c"], ["d", "e"]]


def test_a_commit_and_the_one_after_it_stand_side_by_side(tree, tmp_path_factory, monkeypatch, capsys):
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "Old")
    (tree / "lisard_ros/errors.py").write_text("class Problem:\n    pass\n", encoding="utf-8")
    git("commit", "-qam", "New")
    monkeypatch.setattr(structure_report, "ROOT", tree)
    file = tmp_path_factory.mktemp("report") / "structure.json"
    assert structure_report.main(["--ref", "HEAD~1", "--ref", "HEAD", "--names", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[-2:] for line in printed.splitlines() if "stand for several " in line] == [["1", "0"]]
    assert "Row: lisard_ros.bags.reader, lisard_ros.errors" in printed
    assert json.loads(file.read_text(encoding="utf-8"))["HEAD"]["class names that stand for several"] == 0


def test_an_unknown_commit_is_a_usage_error(capsys):
    assert structure_report.main(["--ref", "no-such-commit"]) == 2
    assert "no-such-commit" in capsys.readouterr().err
