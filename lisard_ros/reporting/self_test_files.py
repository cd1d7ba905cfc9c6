"""A self test as files: JSON for machines, CSV with a line for each claim, and an HTML page.

Each file takes its place when it is complete, the JSON last: whoever finds it finds the other two beside it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from lisard_ros import host_cpu
from lisard_ros.errors import UsageError
from lisard_ros.evaluation.self_test import CaseResult, SelfTestReport
from lisard_ros.reporting import pages

TEMPLATE = "self_test.html.j2"
JSON_NAME, CSV_NAME, HTML_NAME = "self_test.json", "self_test.csv", "self_test.html"


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """Operational answers of a node at some time. name: of that time; frames: how many the figures rest on."""

    name: str
    frames: int
    rate_hz: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Circumstances:
    """When and where a self test ran. load: the operational answers of the node that ran it."""

    time_utc: str
    machine: str
    cpu: str
    load: tuple[AnswerFigures, ...] = ()

    @classmethod
    def now(cls, load: tuple[AnswerFigures, ...] = ()) -> Circumstances:
        """Describe this moment and machine."""
        stamp = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(stamp, platform.platform(), host_cpu.cpu_name(), load)


def write(report: SelfTestReport, folder: Path, circumstances: Circumstances) -> Path:
    """Write the three files into a folder, which is made, and return the path of the page.

    Raises:
        UsageError: The folder or a file cannot be written, as on a full disk; files of before stay as they are.
    """
    contents = {
        CSV_NAME: as_csv(report, circumstances),
        HTML_NAME: pages.render(Path(__file__).parent, TEMPLATE, report=report, circumstances=circumstances),
        JSON_NAME: as_json(report, circumstances),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            _replace(folder / name, text)
    except OSError as error:
        raise UsageError(
            "cannot write the report of the self test",
            found=f"{folder}: {error.strerror}",
            expected="a folder that exists or can be made, with room",
            cure="choose another folder, or make room",
        ) from error
    return folder / HTML_NAME


def as_json(report: SelfTestReport, circumstances: Circumstances) -> str:
    """Return the report as JSON."""
    content = {**asdict(report), "summary": report.summary, "circumstances": asdict(circumstances)}
    return json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n"


def as_csv(report: SelfTestReport, circumstances: Circumstances) -> str:
    """Return one line for each case, with all that its claim rests on."""
    lines = io.StringIO(newline="")
    rows = [_row(report, circumstances, case) for case in report.cases]
    writer = csv.DictWriter(lines, list(rows[0]) if rows else ["claim"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return lines.getvalue()


def _row(report: SelfTestReport, circumstances: Circumstances, case: CaseResult) -> dict[str, object]:
    counted = "images" if case.counted == "pictures" else "boxes"
    what = "keep their clean answer" if case.source == "live" else "are answered right"
    return {
        "claim": f"{counted} that {what} under {case.injection}",
        "attack": case.injection,
        "objective": "none" if case.injection.endswith("clean") else "any other answer",
        "knowledge": case.knowledge,
        "source": case.source,
        "n": case.accuracy.n,
        "hits": case.accuracy.hits,
        "share": f"{case.accuracy.share:.4f}" if case.accuracy.n else "",
        "low_95": f"{case.accuracy.low:.4f}" if case.accuracy.n else "",
        "high_95": f"{case.accuracy.high:.4f}" if case.accuracy.n else "",
        "not_applicable": case.not_applicable,
        "failed": case.failed,
        "limit": case.min_accuracy or "",
        "verdict": case.verdict,
        "reason": case.reason,
        "seed": report.seed,
        "bundle": report.bundle,
        "bundle_sha256": report.bundle_sha256,
        "detector_sha256": report.detector_sha256,
        "engine": report.backend,
        "device": circumstances.cpu,
        "time_utc": circumstances.time_utc,
    }


def _replace(target: Path, text: str) -> None:
    """Write beside the target and take its place, so that nobody reads half a file."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _without_nan(value: object) -> object:
    """Replace NaN, which JSON does not know, in what `asdict` gives."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
