"""Published reports are read by today's types, key by key, and rendered."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lisard_trainer.evaluation.page import ReportPage, html, markdown
from lisard_trainer.tasks.classification.evaluation import page as classification_page
from lisard_trainer.tasks.classification.evaluation.report import ClassificationReport
from lisard_trainer.tasks.detection.evaluation import page as detection_page
from lisard_trainer.tasks.detection.evaluation.report import DetectionReport

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "bench"))
import evaluation_json  # noqa: E402

RESULTS = ROOT / "docs" / "results"
ADDED = {".int8", ".title"}  # older reports have no comparison with int8, those of detectors no title
FIELDS = {"lines", "differences"}  # of every report of `lisard evaluate`; other results have some of them
REPORTS = [path.stem for path in sorted(RESULTS.glob("*.json")) if set(json.loads(path.read_text("utf-8"))) >= FIELDS]


def keys(content: Any, prefix: str = "") -> Iterator[str]:
    """Every key with the keys that lead to it."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield f"{prefix}.{key}"
            yield from keys(value, f"{prefix}.{key}")
    elif isinstance(content, list | tuple):
        for value in content:
            yield from keys(value, prefix)


def read(name: str) -> tuple[Any, ClassificationReport | DetectionReport, ReportPage]:
    """A published report: its JSON, its values and its page."""
    published = evaluation_json.read(RESULTS / f"{name}.json")
    if published.get("task") == "detection":
        detection = msgspec.convert(published, DetectionReport, strict=False)
        return published, detection, detection_page.page_of(detection)
    classification = msgspec.convert(published, ClassificationReport, strict=False)
    return published, classification, classification_page.page_of(classification)


@pytest.mark.parametrize("name", REPORTS)
def test_keys_are_those_of_today_and_tables_can_be_made(name: str) -> None:
    published, found, page = read(name)
    assert set(keys(published)) | ADDED == set(keys(dataclasses.asdict(found))) | ADDED
    assert markdown(page).count("\n## ") >= 4 and page.title in html(page)


def test_the_pages_pass_the_rules_of_axe_core(accessibility: Any, tmp_path: Path) -> None:
    """One page of each task, of those that are short."""
    for name in ("white_box", "detector_white"):
        (tmp_path / f"{name}.html").write_text(html(read(name)[2]), encoding="utf-8")
    assert accessibility.findings_of_files(*tmp_path.iterdir()) == {}
