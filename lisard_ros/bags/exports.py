"""A replay as Markdown, CSV and JUnit XML."""

from __future__ import annotations

import csv
import io
import re
from xml.etree import ElementTree

from lisard_ros.bags.report import CameraResult, DetectionPrecision, Replay
from lisard_ros.evaluation.statistics import Proportion
from lisard_ros.reporting import pages

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HEADER = ("camera", "bundle", "backend", "injection", "knowledge", "answered", "failed", "n/a", "no boxes",
           "judged by", "share", "95 %", "n", "blocks", "clean there", "false boxes", "AP50", "clean AP50 there", "AP",
           "clean AP there", "flips", "p50 ms", "p95 ms", "p99 ms", "note")  # fmt: skip
_COLUMNS = ("topic", "bundle", "backend", "injection", "knowledge", "frames", "answered", "failed", "not_applicable",
            "no_regions", "judged", "share", "low", "high", "hits", "n", "blocks", "clean_share", "false_boxes", "ap50",
            "ap50_low", "ap50_high", "ap", "ap_low", "ap_high", "clean_ap50", "clean_ap", "flips",
            "flip_pairs", "p50_ms", "p95_ms", "p99_ms", "max_ms", "effect")  # fmt: skip


def markdown(report: Replay) -> str:
    """Write the table with what it was made from, the verdicts, and the first frames without an answer."""
    facts = [
        ("bundle", f"{report.bundle} `{report.bundle_sha256[:12]}`"),
        *(("recording", f"{one} (sha256 `{one.sha256[:12]}`)") for one in report.recordings),
        *(("backend", title) for title in report.titles),
        *(("labels", str(join)) for join in report.labels),
        ("blocks", f"by {report.by}" + (f", {report.block_s:g} s" if report.block_s else "")),
    ]
    if report.made is not None:
        facts.append(("made", f"{report.made.made_at}, commit `{report.made.commit[:10]}`, {report.made.cpu}"))
    lines = [f"# Replay of {report.bag}", "", *(f"- {name}: {value}" for name, value in facts), ""]
    if report.verdicts:
        broken = sum(not verdict.passed for verdict in report.verdicts)
        lines += [f"**{broken} of {len(report.verdicts)} limits broken**" if broken else "**All limits hold**", ""]
        lines += [*(f"- {verdict}" for verdict in report.verdicts), ""]
    if report.failures:
        lines += ["**Frames without an answer**", "", *(f"- {_escaped(line)}" for line in report.failure_lines), ""]
    rows = [_HEADER, ("---",) * len(_HEADER), *(_markdown_cells(row) for row in report.rows)]
    return "\n".join([*lines, *("| " + " | ".join(map(_escaped, row)) + " |" for row in rows)]) + "\n"


def _markdown_cells(row: CameraResult) -> tuple[str, ...]:
    total, score = row.latency["total"], row.score
    return (
        row.topic,
        row.bundle,
        row.backend,
        row.injection,
        row.knowledge,
        f"{row.answered} of {row.frames}",
        ", ".join(f"{cause} {n}" for cause, n in row.failed.items()) or "0",
        str(row.not_applicable),
        str(row.no_regions),
        row.judged,
        _percent(score),
        f"{100 * score.low:.1f} to {100 * score.high:.1f}" if score.n else "",
        str(score.n),
        str(row.blocks),
        _percent(row.clean),
        "" if row.false_boxes is None else str(row.false_boxes),
        *_precisions(row.precision),
        f"{row.flips.hits} of {row.flips.n}" if row.flips.n else "",
        *(f"{value:.2f}" if total.n else "" for value in (total.p50_ms, total.p95_ms, total.p99_ms)),
        row.effect,
    )


def _precisions(of_row: DetectionPrecision | None) -> tuple[str, ...]:
    if of_row is None:
        return ("",) * 4
    return tuple(map(pages.estimate, (of_row.ap50, of_row.clean_ap50, of_row.ap, of_row.clean_ap)))


def _percent(share: Proportion) -> str:
    return f"{100 * share.share:.1f} %" if share.n else "no data"


def _escaped(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())


def csv_table(report: Replay) -> str:
    """Write one line for each camera, backend and injection; empty where nothing was measured."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in report.rows:
        score, total = row.score, row.latency["total"]
        shares = (score.share, score.low, score.high) if score.n else ("", "", "")
        times = (total.p50_ms, total.p95_ms, total.p99_ms, total.max_ms) if total.n else ("",) * 4
        counts = (row.frames, row.answered, sum(row.failed.values()), row.not_applicable, row.no_regions)
        false = "" if row.false_boxes is None else row.false_boxes
        names = (row.topic, row.bundle, row.backend, row.injection, row.knowledge)
        precision = row.precision
        aps = () if precision is None else (precision.ap50, precision.ap)
        found = tuple(value for one in aps for value in (one.value, one.low, one.high)) or ("",) * 6
        of_clean = ("", "") if precision is None else (precision.clean_ap50.value, precision.clean_ap.value)
        flips = (row.flips.hits, row.flips.n) if row.flips.n else ("", "")
        judged = (row.judged, *shares, score.hits, score.n, row.blocks, row.clean.share if row.clean.n else "", false)
        writer.writerow((*names, *counts, *judged, *found, *of_clean, *flips, *times, row.effect))
    return out.getvalue()


def junit(report: Replay) -> str:
    """Write one test case for each verdict, and for each camera whether any frame was answered."""
    suite = ElementTree.Element("testsuite", name=f"lisard replay {report.bundle}")
    if report.made is not None:
        suite.set("timestamp", report.made.made_at.removesuffix("Z"))
    cases = [
        (f"{verdict.metric}{f' on {verdict.where}' if verdict.where else ''}", "limits", verdict.reason)
        for verdict in report.verdicts
    ]
    answered = {row.topic: False for row in report.rows}
    for row in report.rows:
        answered[row.topic] |= row.answered > 0
    cases += [
        (f"{topic} is answered", "frames", "" if some else "no frame has an answer") for topic, some in answered.items()
    ]
    for name, kind, reason in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=f"lisard.replay.{kind}", name=_legal(name), time="0")
        if reason:
            ElementTree.SubElement(case, "failure", message=_legal(reason)).text = _legal(reason)
    failures = sum(bool(reason) for _, _, reason in cases)
    suite.attrib.update(tests=str(len(cases)), failures=str(failures), errors="0", skipped="0", time="0")
    properties = ElementTree.Element("properties")
    values = {"bundle_sha256": report.bundle_sha256, "backend": report.backend}
    values |= {f"recording_sha256.{n}": one.sha256 for n, one in enumerate(report.recordings)}
    for name, value in values.items():
        ElementTree.SubElement(properties, "property", name=name, value=_legal(value))
    suite.insert(0, properties)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _legal(text: str) -> str:
    """Leave out what XML 1.0 cannot hold."""
    return _ILLEGAL.sub("", text)
