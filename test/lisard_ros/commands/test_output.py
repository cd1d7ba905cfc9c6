"""JSON for machines and tables for people."""

from __future__ import annotations

import json
import math
import resource
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.commands.output import Kind, OutputPath, table, to_json, try_outputs, write_text
from lisard_ros.errors import UsageError
from lisard_ros.evaluation.statistics import proportion


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


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("file", "new.json"),
        ("file", "link.json"),
        ("file", "/dev/null"),
        ("deep file", "a/b/new.json"),
        ("folder", "."),
        ("folder", "a/b"),
        ("bundle", "a/b"),
    ],
)
def test_trying_a_path_leaves_nothing_behind(kind: Kind, path: str, tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("target.json")
    try_outputs(OutputPath("--out", tmp_path / path, kind), None)
    assert [p.name for p in tmp_path.rglob("*")] == ["link.json"] and (tmp_path / "link.json").is_symlink()


def test_trying_a_path_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    try_outputs(OutputPath("--json", tmp_path / "old.json"))
    assert (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("file", "none/new.json", "cannot write the result to --out.*No such file or directory.*; choose another path"),
        ("file", ".", "Is a directory"),
        ("deep file", "file/new.json", "Not a directory"),
        ("folder", "file", "cannot write to --out.*Not a directory"),
        ("folder", "file/a", "Not a directory"),
        ("bundle", "file/a", "cannot write the bundle to --out.*Not a directory"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused(kind: Kind, path: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=message):
        try_outputs(OutputPath("--out", tmp_path / path, kind))


def test_a_result_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """Regression: a full disk left half a report in the place of the last one."""
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "old.json").chmod(0o640)
    (tmp_path / "link.json").symlink_to("old.json")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for name in ("old.json", "link.json", "new.json"):
            with pytest.raises(UsageError, match=f"cannot write the result: .*{name}: File too large.*; make room"):
                write_text(tmp_path / name, "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link.json", "old.json"]
    assert (tmp_path / "old.json").read_text() == "old"
    write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "old.json").read_text() == "new" and (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "old.json").stat().st_mode & 0o777 == 0o640
    write_text(Path("/dev/null"), "x")
    assert Path("/dev/null").is_char_device()
