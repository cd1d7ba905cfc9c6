"""The table of `lisard replay`, and the lines below it."""

from __future__ import annotations

from collections.abc import Sequence

from lisard_ros.bags import live
from lisard_ros.bags.blocks import FRAME, TIME
from lisard_ros.bags.report import NO_EFFECT, NOT_APPLIED, CameraResult, Replay
from lisard_ros.commands.output import table
from lisard_ros.reporting import pages
from lisard_ros.tracking import NONE


def text(report: Replay) -> str:
    """Lay the report out for people, a table for each backend."""
    header = (
        "topic",
        "injection",
        "knowledge",
        "frames",
        "answered",
        "failed",
        "n/a",
        "no boxes",
        "judged by",
        "score",
        "blocks",
        "clean there",
        "false",
        "infer p50",
        "total p50",
        "p95",
        "p99 ms",
    )
    parts = []
    for number, model in enumerate(report.models):
        rows = [_cells(row) for row in report.rows if row.model == number]
        of = f"{report.bag}: {model.bundle} ({model.bundle_sha256[:12]}) on {model.description}"
        parts.append(f"{of}\n\n{table(header, rows)}")
    parts += filter(
        None,
        [
            "\n".join(lines)
            for lines in (
                _precision_lines(report),
                _flip_lines(report),
                _track_lines(report),
                _label_lines(report),
                notes(report.rows),
                list(live.lines(report.live)) if report.live is not None else [],
                list(map(str, report.verdicts)),
            )
        ],
    )
    return "\n\n".join(parts)


def _precision_lines(report: Replay) -> list[str]:
    """Return the table of AP, where detectors met labels."""
    found = [(row, row.precision) for row in report.rows if row.precision is not None]
    if not found:
        return []
    header = ("topic", "model", "injection", "AP50", "AP")
    rows = [
        (row.topic, report.titles[row.model], row.injection, pages.estimate(one.ap50), pages.estimate(one.ap))
        for row, one in found
    ]
    return [table(header, rows)]


def _flip_lines(report: Replay) -> list[str]:
    """Return one line for each camera and model whose objects were followed: how often their answers changed."""
    lines = []
    for topic, model in dict.fromkeys((row.topic, row.model) for row in report.rows):
        rows = [row for row in report.rows if (row.topic, row.model) == (topic, model) and row.flips.n]
        if rows:
            changes = ", ".join(f"{row.injection} {row.flips}" for row in rows)
            lines.append(f"answers that changed along a track on {topic}, {report.titles[model]}: {changes}")
    return lines


def _track_lines(report: Replay) -> list[str]:
    """Return one line for each camera and model: how many tracks, how long, how many boxes they add."""
    lines = []
    cameras = dict.fromkeys((row.topic, row.bundle, row.backend, row.model) for row in report.rows)
    for topic, bundle, backend, model in cameras if report.tracking != NONE else ():
        key = (topic, bundle, backend)
        tracks = [track for track in report.tracks if (track.topic, track.bundle, track.backend) == key]
        boxes, recovered = sum(len(track.boxes) for track in tracks), sum(track.recovered for track in tracks)
        lines.append(
            f"tracks ({report.tracking}) on {topic}, {report.titles[model]}: {len(tracks)} with {boxes} boxes, "
            f"{recovered} of these below the score of a reported box"
        )
    return lines


def _label_lines(report: Replay) -> list[str]:
    """Return how labels met frames, what was not looked at, and what an interval rests on."""
    lines = [str(one) for one in report.damaged]
    lines += report.failure_lines
    lines += [str(join) for join in report.labels]
    if report.unseen:
        lines.append("boxes not looked at: " + ", ".join(f"{name} {count}" for name, count in report.unseen.items()))
    if report.reference:
        lines.append(f"without labels: compared with the clean answers of {report.reference}")
    lines += [
        f"{camera.copies} of {len(camera.stamps_ns)} images on {camera.topic} are copies of earlier ones "
        "and count with these"
        for camera in report.cameras
        if camera.copies
    ]
    what = {TIME: f"stretches of {report.block_s:g} s", FRAME: "frames"}.get(report.by, f"{report.by}s")
    return [*lines, f"intervals: 95 %, blocks are {what}"]


def notes(rows: Sequence[CameraResult]) -> list[str]:
    """Return one line for injections that applied to no frame, and one for those without measurable effect."""
    meaning = {
        NOT_APPLIED: "a stored attack applies to the images that it was made for; noise, universal perturbations and "
        "corruptions apply to any image",
        NO_EFFECT: "the answers are not worse than the clean ones; the model may resist, or the attack may be too weak",
    }
    many = len({row.topic for row in rows}) > 1
    by_effect: dict[str, list[str]] = {}
    for row in rows:
        if row.effect:
            by_effect.setdefault(row.effect, []).append(f"{row.injection} on {row.topic}" if many else row.injection)
    return [f"{effect}: {', '.join(dict.fromkeys(names))} ({meaning[effect]})" for effect, names in by_effect.items()]


def _cells(row: CameraResult) -> tuple[object, ...]:
    failed = ", ".join(f"{cause} {n}" for cause, n in row.failed.items()) or "0"
    total = row.latency["total"]
    times = (row.latency["infer"].p50_ms, total.p50_ms, total.p95_ms, total.p99_ms)
    false: object = "-" if row.false_boxes is None else row.false_boxes
    return (
        row.topic,
        row.injection,
        row.knowledge,
        row.frames,
        row.answered,
        failed,
        row.not_applicable,
        row.no_regions,
        row.judged,
        str(row.score),
        row.blocks,
        pages.percent(row.clean),
        false,
        *(f"{value:.2f}" for value in times),
    )
