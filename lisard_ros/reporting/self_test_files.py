"""A self test as files: JSON for machines, CSV with a line for each claim, and an HTML page with images.

Each file takes its place when it is complete, the JSON last: whoever finds it finds the other two beside it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lisard_ros.attacks.threat_model import TECHNIQUES
from lisard_ros.bundle.manifest import DETECTOR_PREFIX
from lisard_ros.errors import UsageError
from lisard_ros.evaluation.self_test_report import JUDGED_WORDS, CaseResult, SelfTestReport
from lisard_ros.evaluation.statistics import Proportion
from lisard_ros.injection import CLEAN
from lisard_ros.provenance import Made
from lisard_ros.reporting import pages
from lisard_ros.reporting.album import Example
from lisard_ros.reporting.display import Tile

TEMPLATE = "self_test.html.j2"
JSON_NAME, CSV_NAME, HTML_NAME = "self_test.json", "self_test.csv", "self_test.html"
SOURCES = {
    "references": "the bundle's reference images",
    "live": "live frames",
    "images": "image files",
    "recording": "recorded frames",
}


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """Operational answers of a node at some time. name: of that time; frames: how many the figures rest on."""

    name: str
    frames: int
    rate_hz: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class ShownCase:
    """The examples of one case."""

    case: CaseResult
    examples: tuple[Example, ...]


def write(
    report: SelfTestReport,
    folder: Path,
    made: Made,
    load: Sequence[AnswerFigures] = (),
    examples: Sequence[Example] = (),
) -> Path:
    """Write the three files into a folder, which is made, and return the path of the page.

    Args:
        report: What was found.
        folder: Where the files go.
        made: When and where the test ran.
        load: The operational answers of the node that ran it.
        examples: Images for the page.

    Raises:
        UsageError: The folder or a file cannot be written, as on a full disk; files of before stay as they are.
    """
    contents = {
        CSV_NAME: as_csv(report, made),
        HTML_NAME: as_html(report, made, load, examples),
        JSON_NAME: as_json(report, made, load),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace_all(folder, contents)
    except OSError as error:
        raise UsageError(
            "cannot write the report of the self test",
            found=f"{folder}: {error.strerror}",
            expected="a folder that exists or can be made, with room",
            cure="choose another folder, or make room",
        ) from error
    return folder / HTML_NAME


def as_json(report: SelfTestReport, made: Made, load: Sequence[AnswerFigures] = ()) -> str:
    """Return the report as JSON."""
    content = {**asdict(report), "summary": report.summary, "made": asdict(made), "load": [asdict(one) for one in load]}
    return json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n"


def as_csv(report: SelfTestReport, made: Made) -> str:
    """Return one line for each case, with all that its claim rests on."""
    lines = io.StringIO(newline="")
    rows = [_row(report, made, case) for case in report.cases]
    writer = csv.DictWriter(lines, list(rows[0]) if rows else ["claim"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return lines.getvalue()


def as_html(
    report: SelfTestReport, made: Made, load: Sequence[AnswerFigures] = (), examples: Sequence[Example] = ()
) -> str:
    """Return the page; everything is inside it."""
    chosen = ((case, tuple(one for one in examples if one.injection == case.injection)) for case in report.cases)
    shown = [ShownCase(case, of_case) for case, of_case in chosen if of_case]
    return pages.render(
        Path(__file__).parent,
        TEMPLATE,
        report=report,
        made=made,
        load=load,
        shown=shown,
        tiles=_tiles(report),
        source=SOURCES[report.source],
        techniques=TECHNIQUES,
        finds_boxes=any(case.counted == "boxes" for case in report.cases),
        judged=[(JUDGED_WORDS[kind], kind) for kind in dict.fromkeys(case.judged for case in report.cases)],
    )


def _tiles(report: SelfTestReport) -> list[Tile]:
    attacked = [c for c in report.cases if c.injection.removeprefix(DETECTOR_PREFIX) != CLEAN and c.accuracy.n]
    clean = [c for c in report.cases if c.injection.removeprefix(DETECTOR_PREFIX) == CLEAN and c.accuracy.n]
    tiles = [Tile("Outcome", report.summary.partition(":")[0], report.summary.partition(": ")[2])]
    if clean:
        lowest = min(clean, key=lambda case: case.accuracy.share)
        tiles.append(Tile("Clean", pages.percent(lowest.accuracy), JUDGED_WORDS[lowest.judged]))
    if attacked:
        worst = min(attacked, key=lambda case: case.accuracy.share)
        tiles.append(Tile("Worst attack", pages.percent(worst.accuracy), worst.injection))
    counts = [case.cost.images for case in report.cases if case.cost.images]
    if counts:
        images = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} – {max(counts)}"
        tiles.append(Tile("Images for each attack", images, SOURCES[report.source]))
    return tiles


def _row(report: SelfTestReport, made: Made, case: CaseResult) -> dict[str, object]:
    what = "keep their clean answer" if case.judged == "agreement" else "are answered right"
    making, cost, of_detector = case.making, case.cost, case.injection.startswith(DETECTOR_PREFIX)
    settings = making.settings
    return {
        "claim": f"{case.counted} that {what} under {case.injection}",
        "attack": case.injection,
        "objective": making.attacker.objective,
        "capability": making.attacker.capability,
        "knowledge": case.knowledge,
        "access": making.attacker.access,
        "atlas": " ".join(making.attacker.atlas),
        "surrogate": making.surrogate,
        "source": report.source,
        "origin": report.origin,
        "judged": case.judged,
        "n": case.accuracy.n,
        "hits": case.accuracy.hits,
        **_shares(("share", "low_95", "high_95"), case.accuracy),
        **_shares(("success", "success_low_95", "success_high_95"), case.success),
        "false_boxes": case.false_boxes if case.counted == "boxes" else "",
        "not_applicable": case.not_applicable,
        "failed": case.failed,
        "gradients_per_image": _number(cost.of_an_image(cost.gradients)),
        "queries_per_image": _number(cost.of_an_image(cost.queries)),
        "attack_ms": _number(cost.attack_ms),
        "answer_ms": _number(cost.answer_ms),
        "limit": case.min_accuracy or "",
        "verdict": case.verdict,
        "reason": case.reason,
        "seed": report.seed if settings is None or settings.seed is None else settings.seed,
        "bundle": report.detector if of_detector else report.bundle,
        "bundle_sha256": report.detector_sha256 if of_detector else report.bundle_sha256,
        "engine_sha256": report.detector_engine_sha256 if of_detector else report.engine_sha256,
        "gradient_sha256": making.gradient_sha256,
        "surrogate_sha256": making.surrogate_sha256,
        "detector_sha256": report.detector_sha256,
        "engine": report.backend,
        "device": report.device,
        "commit": made.commit,
        "time_utc": made.made_at,
    }


def _shares(names: tuple[str, str, str], share: Proportion) -> dict[str, str]:
    values = (share.share, share.low, share.high)
    return dict(zip(names, (f"{value:.4f}" if share.n else "" for value in values), strict=True))


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"


def _replace_all(folder: Path, contents: dict[str, str]) -> None:
    """Write all files beside their targets before the first takes its place, so that nobody reads half a report."""
    written: list[tuple[Path, Path]] = []
    try:
        for name, text in contents.items():
            handle, path = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
            written.append((Path(path), folder / name))
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(path).chmod(0o644)
        for passing, target in written:
            os.replace(passing, target)
    finally:
        for passing, _ in written:
            passing.unlink(missing_ok=True)


def _without_nan(value: object) -> object:
    """Replace NaN, which JSON does not know, in what `asdict` gives."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
