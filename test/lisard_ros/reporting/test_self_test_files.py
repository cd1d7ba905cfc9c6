"""The report of a self test: three files that agree, each whole or as it was before."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from lisard_ros.errors import UsageError
from lisard_ros.evaluation import self_test
from lisard_ros.reporting import self_test_files
from lisard_ros.reporting.self_test_files import AnswerFigures, Circumstances


def report(tiny: Any) -> self_test.SelfTestReport:
    """One case of each verdict; the last is of an attack that does not exist, so its share is NaN."""
    return self_test.run(tiny.pipeline(tiny.armed()), suite=["clean", "noise=0", "corruption/<b>/3=0.5"])


def test_the_three_files_say_the_same(tiny: Any, tmp_path: Path) -> None:
    made = report(tiny)
    folder = tmp_path / "deep" / "report"
    page = self_test_files.write(
        made, folder, Circumstances.now((AnswerFigures("without injection", 600, 10.04, 20.0, 30.0),))
    )
    assert sorted(file.name for file in folder.iterdir()) == ["self_test.csv", "self_test.html", "self_test.json"]
    content = json.loads((folder / "self_test.json").read_text())
    assert [case["verdict"] for case in content["cases"]] == ["passed", "measured", "failed"]
    assert content["cases"][2]["accuracy"]["share"] is None and content["passed"] is False
    rows = list(csv.DictReader((folder / "self_test.csv").open(newline="")))
    assert [row["verdict"] for row in rows] == ["passed", "measured", "failed"]
    assert rows[0]["claim"] == "images that are answered right under clean" and rows[0]["limit"] == "0.9"
    assert rows[0]["bundle_sha256"] == made.bundle_sha256 and rows[1]["limit"] == ""
    html = page.read_text()
    assert "<b>" not in html.replace("<body>", "") and "10.0</td>" in html and "FAILED: 1 of 2 limits hold" in html
    assert "http://" not in html and "https://" not in html and "<script" not in html


def test_a_full_disk_leaves_the_report_of_before(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "report"
    self_test_files.write(report(tiny), folder, Circumstances.now())
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(self_test_files.os, "fsync", full)
    with pytest.raises(UsageError, match="cannot write the report of the self test: .*No space left"):
        self_test_files.write(report(tiny), folder, Circumstances.now())
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_path_that_is_a_file_is_refused(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write the report"):
        self_test_files.write(report(tiny), tmp_path / "file", Circumstances.now())
