"""Reads the JSON reports of `lisard evaluate`; those of older schemas get the names that reports have today.

Published reports stay as they were written. Classifiers before schema 3 and detectors before schema 2 called the model
under test `lisard`, whatever its bundle was called, and some fields otherwise than now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMER_MODEL = "lisard"  # in reports that do not name their model under test
# Former name of a field -> name of today. All are replaced at once: `conditions` was the name of something else.
FIELDS = {
    "columns": "conditions", "column": "condition", "conditions": "requirements",
    "control": "baseline", "controls": "baselines", "contrasts": "comparisons",
    "pictures": "images", "pictures_sha256": "images_sha256",
}  # fmt: skip
DETECTOR_FIELDS = FIELDS | {"pictures": "origin"}  # which says in words what the images are
# Field -> former value -> value of today.
VALUES = {
    "role": {"shipped": "bundle", "control": "baseline"},
    "code": {"trained_on_other_pictures": "trained_on_other_images"},
}


def read(path: Path) -> dict[str, Any]:
    """A report from its file; field `model` is the name of the model under test."""
    return current(json.loads(path.read_text(encoding="utf-8")))


def current(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report with the names of today: itself where it names its model under test."""
    if "model" in report:
        return dict(report)
    fields = DETECTOR_FIELDS if report.get("task") == "detection" else FIELDS
    found: dict[str, Any] = {"model": FORMER_MODEL, **_renamed(report, fields)}
    if "origin" in found:
        found["origin"] = found["origin"].replace("pictures", "images")
    return found


def _renamed(content: Any, fields: Mapping[str, str]) -> Any:
    if isinstance(content, list):
        return [_renamed(one, fields) for one in content]
    if not isinstance(content, Mapping):
        return content
    return {
        fields.get(key, key): VALUES[key].get(value, value) if key in VALUES else _renamed(value, fields)
        for key, value in content.items()
    }
