"""The replay that the tests of this folder repeat in slices, and its report without times."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
DRIVE = (
    ROOT / "data/road_drive",
    "--bundle",
    ROOT / "models/road_signs",
    "--injections",
    "none",
    "--threads",
    "1",
)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "lisard_ros", "replay", *map(str, words)]


def report_of(path: Path) -> Any:
    """A report without times and host."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items() if key not in ("latency", "made")}
        return [plain(one) for one in value] if isinstance(value, list) else value

    return plain(json.loads(path.read_text()))
