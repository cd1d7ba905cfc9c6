"""Write what the demonstration found: report.json for machines and report.html, one file with everything in it."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from markupsafe import Markup

from lisard_demo import images, score, table
from lisard_demo.parts import Outcome, Setting, fine_labels
from lisard_ros.bundle import Bundle
from lisard_ros.reporting import charts, pages
from lisard_ros.reporting.display import FrameImage, Tile
from lisard_ros.reporting.pages import percent

SCHEMA = 1
TEMPLATE = "report.html.j2"
FRAMES_SHOWN = 6
SCENES_SHOWN = 4
COLUMNS = 3
SIGNS_SHOWN = 2
SHORT_HASH = 12


@dataclass(frozen=True, slots=True)
class Facts:
    """What was run, on what."""

    bundle: str
    bundle_sha256: str
    model: str
    backend: str
    detector: str
    machine: str
    commit: str
    made: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Section:
    """One part as the report shows it."""

    key: str
    title: str
    about: str
    frames: tuple[FrameImage, ...]
    attacks: tuple[images.AttackImage, ...]
    outcome: Outcome
    plot: Markup
    bars: Markup
    columns: int = COLUMNS


def write(setting: Setting, outcomes: Sequence[Outcome], seconds: float) -> Path:
    """Write both files into the folder for results; return the path of report.html."""
    facts = _facts(setting, outcomes, seconds)
    (setting.out / "report.json").write_text(json.dumps(_as_json(facts, outcomes), indent=1), encoding="utf-8")
    html = setting.out / "report.html"
    html.write_text(render(facts, setting, outcomes), encoding="utf-8")
    return html


def render(facts: Facts, setting: Setting, outcomes: Sequence[Outcome]) -> str:
    """Fill the template."""
    return pages.render(
        Path(__file__).parent,
        TEMPLATE,
        facts=facts,
        tiles=_tiles(outcomes),
        sections=[_section(setting, outcome) for outcome in outcomes],
        frames_head=table.FRAMES_HEAD,
        frames_rows=[table.frames_row(outcome) for outcome in outcomes],
        failed=[check for outcome in outcomes for check in outcome.checks if not check.passed],
        checks=sum(len(outcome.checks) for outcome in outcomes),
        amplification=images.AMPLIFICATION,
        short=SHORT_HASH,
    )


def _section(setting: Setting, outcome: Outcome) -> Section:
    part = outcome.part
    return Section(
        part.key,
        part.title,
        part.about,
        _frames(setting, outcome),
        _attacks(setting, outcome),
        outcome,
        Markup(charts.latency_plot(outcome.latency.end_to_end_ms, outcome.latency.stages[0])),
        Markup(charts.stage_bars(outcome.latency.stages[1:])),
        1 + len(part.attacked_topics) if part.own_boxes else COLUMNS,
    )


def _frames(setting: Setting, outcome: Outcome) -> tuple[FrameImage, ...]:
    part, labels = outcome.part, outcome.part.labels.partition("=")[0]
    if not part.answer_topic.endswith("/detections"):
        return ()
    if part.own_boxes:
        return _scenes(setting, outcome, labels)
    moments = images.choose_frames(outcome.recording.moments, part.answer_topic, labels, FRAMES_SHOWN)
    scored = {coarse: fine_labels(setting.bundle, coarse) for coarse in ("stop", "speedlimit")}
    return images.frame_images(part.bag, part.image_topic, moments, part.answer_topic, labels, scored)


def _scenes(setting: Setting, outcome: Outcome, labels: str) -> tuple[FrameImage, ...]:
    part = outcome.part
    assert setting.detector is not None  # nobody else finds boxes
    moments = images.choose_frames(outcome.recording.moments, part.answer_topic, labels, SCENES_SHOWN)
    topics = (("clean", part.answer_topic), *part.attacked_topics)
    right = {coarse: fine_labels(setting.bundle, coarse) for coarse in setting.roi_classes}
    return images.scene_images(part.bag, part.image_topic, moments, topics, labels, right, setting.detector)


def _attacks(setting: Setting, outcome: Outcome) -> tuple[images.AttackImage, ...]:
    part, labels = outcome.part, outcome.part.labels.partition("=")[0]
    if not part.attacked_topics or part.own_boxes:
        return ()
    moments = outcome.recording.moments
    chosen = images.choose_attacked(moments, part.attacked_topics, part.answer_topic, labels, SIGNS_SHOWN)
    return images.attack_images(part.bag, setting.bundle, part.image_topic, chosen, part.answer_topic, labels)


def _tiles(outcomes: Sequence[Outcome]) -> list[Tile]:
    """Choose the key figures that the parts at hand give."""
    published = sum(o.books.published for o in outcomes)
    lost = sum(o.books.lost_in_transport for o in outcomes)
    answered = sum(o.books.answered for o in outcomes)
    tiles = [Tile("Frames answered", f"{answered} of {published}", f"{lost} lost in transport")]
    for outcome in outcomes:
        shown = [a for a in outcome.accuracies if a.share.n and a.tile and outcome.part.attacked_topics]
        tiles += [Tile(f"{a.tile}, {a.condition}", percent(a.share), a.knowledge or "no attack") for a in shown]
    last = outcomes[-1]
    whole = last.latency.stages[0]
    tiles.append(
        Tile("End-to-end latency", f"{whole.p50_ms:.1f} ms", f"median of ({last.part.key}); p95 {whole.p95_ms:.1f} ms")
    )
    return tiles


def _facts(setting: Setting, outcomes: Sequence[Outcome], seconds: float) -> Facts:
    manifest = setting.bundle.manifest
    architecture = manifest.architecture.name if manifest.architecture else "own ONNX"
    model = f"{architecture}, {len(manifest.labels)} classes, input {manifest.input.width} x {manifest.input.height}"
    return Facts(
        bundle=manifest.name,
        bundle_sha256=setting.bundle.sha256,
        model=model,
        backend=outcomes[0].recording.status("model").values.get("backend", ""),
        detector=_named(setting.detector),
        machine=f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}",
        commit=_commit(setting.root),
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        seconds=round(seconds, 1),
    )


def _named(detector: Bundle | None) -> str:
    """Name and hash of the detector, '' without one."""
    return f"{detector.manifest.name}, sha256 {detector.sha256[:SHORT_HASH]}…" if detector is not None else ""


def _commit(root: Path) -> str:
    """Return the commit of the checkout, 'unknown' outside of one."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _as_json(facts: Facts, outcomes: Sequence[Outcome]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        **asdict(facts),
        "passed": all(check.passed for outcome in outcomes for check in outcome.checks),
        "parts": [_part_as_json(outcome) for outcome in outcomes],
    }


def _part_as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "key": outcome.part.key,
        "title": outcome.part.title,
        "frames": asdict(outcome.books),
        "accuracy": [_accuracy_as_json(accuracy) for accuracy in outcome.accuracies],
        "latency_ms": [asdict(stage) for stage in outcome.latency.stages],
        "checks": [asdict(check) for check in outcome.checks],
        "self_test": asdict(outcome.self_test) if outcome.self_test else None,
        "warnings": dict(outcome.recording.warnings),
        "profile": Path(outcome.played.profile).name,
        "late_max_ms": outcome.played.late_max_ms,
    }


def _accuracy_as_json(accuracy: score.Accuracy) -> dict[str, object]:
    """Write an accuracy; one without any image has no share."""
    content = asdict(accuracy)
    content["share"] = {name: None if _is_nan(value) else value for name, value in content["share"].items()}
    return content


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
