"""The report of a self test: three files that agree, each whole or as it was before, and images."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lisard_ros.errors import UsageError
from lisard_ros.evaluation import self_test
from lisard_ros.evaluation.self_test_report import SelfTestReport
from lisard_ros.provenance import made
from lisard_ros.reporting import self_test_files
from lisard_ros.reporting.album import Example
from lisard_ros.reporting.self_test_album import SelfTestAlbum
from lisard_ros.reporting.self_test_files import AnswerFigures

# What a safety case asks of each claim.
COLUMNS = {
    *("claim", "objective", "capability", "knowledge", "access", "atlas", "surrogate", "n", "low_95", "high_95"),
    *("bundle_sha256", "engine_sha256", "gradient_sha256", "surrogate_sha256", "device", "limit", "verdict"),
}


def report(tiny: Any) -> SelfTestReport:
    """One case of each verdict; the last is of an attack that does not exist, so its share is NaN."""
    return self_test.run(tiny.pipeline(tiny.armed()), suite=["clean", "noise=0", "corruption/<q>/3=0.5"])


def attacked(tiny: Any) -> tuple[SelfTestReport, tuple[Example, ...]]:
    """Queries with the whole budget, which take every answer, and a stored perturbation, which takes none."""
    album = SelfTestAlbum()
    suite = ["clean", "attack/square100/255", "fgsm"]
    return self_test.run(tiny.pipeline(tiny.armed()), suite=suite, count=4, watch=album.watch), album.examples()


def test_the_three_files_say_the_same(tiny: Any, tmp_path: Path) -> None:
    found = report(tiny)
    folder = tmp_path / "deep" / "report"
    page = self_test_files.write(found, folder, made(), (AnswerFigures("without injection", 600, 10.04, 20.0, 30.0),))
    assert sorted(file.name for file in folder.iterdir()) == ["self_test.csv", "self_test.html", "self_test.json"]
    content = json.loads((folder / "self_test.json").read_text())
    assert [case["verdict"] for case in content["cases"]] == ["passed", "measured", "failed"]
    assert content["cases"][2]["accuracy"]["share"] is None and content["passed"] is False
    rows = list(csv.DictReader((folder / "self_test.csv").open(newline="")))
    assert [row["verdict"] for row in rows] == ["passed", "measured", "failed"]
    assert rows[0]["claim"] == "images that are answered right under clean" and rows[0]["limit"] == "0.9"
    assert rows[0]["bundle_sha256"] == found.bundle_sha256 and rows[1]["limit"] == ""
    assert rows[1]["objective"] == rows[1]["access"] == "none" and rows[1]["atlas"] == "", "noise is nobody's"
    html = page.read_text()
    assert "<q>" not in html and "10.0</td>" in html and "FAILED: 1 of 2 limits hold" in html
    assert "http://" not in html and "https://" not in html and "<script" not in html


def test_each_claim_states_attacker_hashes_and_device(tiny: Any, tmp_path: Path) -> None:
    found, examples = attacked(tiny)
    self_test_files.write(found, tmp_path, made(), examples=examples)
    clean, square, stored = csv.DictReader((tmp_path / "self_test.csv").open(newline=""))
    assert set(clean) >= COLUMNS
    assert square["objective"] == "integrity violation: any other class" and square["knowledge"] == "query"
    assert "255 of 255 grey levels; query access" in square["capability"]
    assert square["atlas"] == "AML.T0040 AML.T0043.001 AML.T0015" and 0 < float(square["queries_per_image"]) <= 100
    assert square["surrogate"] == "" and stored["surrogate"] == "surrogate" and stored["seed"] == "0"
    assert (square["share"], square["success"], clean["success"]) == ("0.0000", "1.0000", "0.0000")
    (model,) = tiny.armed("again").manifest.models
    assert square["engine_sha256"] == model.sha256 and square["device"]
    case = json.loads((tmp_path / "self_test.json").read_text())["cases"][1]
    assert case["success"]["hits"] == 4 and case["making"]["settings"]["eps_255"] == 255 and case["cost"]["images"] == 4


def test_the_page_shows_what_an_attack_changed(tiny: Any) -> None:
    found, examples = attacked(tiny)
    assert [(one.injection, one.harm > 0) for one in examples] == [
        ("attack/square100/255", True),
        ("attack/square100/255", True),
        ("fgsm", False),
    ]
    for one in examples:
        assert one.change is not None and one.clean.overlays[0].right, "clean answers are right"
        assert one.attacked.overlays[0].right is (one.harm <= 0)
    html = self_test_files.as_html(found, made(), examples=examples)
    assert html.count("data:image/") == 9 and html.count("what was added,") == 1, "fgsm is amplified, 255 cannot be"


def test_results_cross_a_process_border(tiny: Any) -> None:
    found, examples = attacked(tiny)
    assert pickle.loads(pickle.dumps((found, examples))) == (found, examples)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=SelfTestReport) == found
    sent = msgspec.msgpack.encode(examples)
    assert msgspec.msgpack.decode(sent, type=tuple[Example, ...]) == examples and len(sent) < 100_000


def test_a_full_disk_leaves_the_report_of_before(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "report"
    self_test_files.write(report(tiny), folder, made())
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    written = []

    def full(fd: int) -> None:
        written.append(fd)
        if len(written) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(self_test_files.os, "fsync", full)
    with pytest.raises(UsageError, match="cannot write the report of the self test: .*No space left"):
        self_test_files.write(report(tiny), folder, made())
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_path_that_is_a_file_is_refused(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write the report"):
        self_test_files.write(report(tiny), tmp_path / "file", made())
