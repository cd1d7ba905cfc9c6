"""Published reports are read by today's types, key by key, and rendered."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lisard_trainer.evaluation.page import html, markdown
from lisard_trainer.tasks.classification.evaluation import page as classification_page
from lisard_trainer.tasks.classification.evaluation.report import ClassificationReport
from lisard_trainer.tasks.detection.evaluation import page as detection_page
from lisard_trainer.tasks.detection.evaluation.report import DetectionReport

RESULTS = Path(__file__).parents[3] / "docs" / "results"
ADDED = {".int8", ".title"}  # older reports have no comparison with int8, those of detectors no title
REPORTS = [path.stem for path in sorted(RESULTS.glob("*.json")) if "lines" in json.loads(path.read_text("utf-8"))]


def keys(content: Any, prefix: str = "") -> Iterator[str]:
    """Every key with the keys that lead to it."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield f"{prefix}.{key}"
            yield from keys(value, f"{prefix}.{key}")
    elif isinstance(content, list | tuple):
        for value in content:
            yield from keys(value, prefix)


@pytest.mark.parametrize("name", REPORTS)
def test_keys_are_those_of_today_and_tables_can_be_made(name: str) -> None:
    published = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    found: ClassificationReport | DetectionReport
    if published.get("task") == "detection":
        found = msgspec.convert(published, DetectionReport, strict=False)
        page = detection_page.page_of(found)
    else:
        found = msgspec.convert(published, ClassificationReport, strict=False)
        page = classification_page.page_of(found)
    assert set(keys(published)) | ADDED == set(keys(dataclasses.asdict(found))) | ADDED
    assert markdown(page).count("\n## ") >= 4 and page.title in html(page)
