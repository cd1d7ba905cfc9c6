"""Write the results of the demonstration: report.json for machines and report.html, one file with everything in it."""

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
from lisard_demo.scenarios import DemoConfig, Outcome, fine_labels
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
    """One scenario as the report shows it."""

    key: str
    title: str
    about: str
    frames: tuple[FrameImage, ...]
    attacks: tuple[images.AttackImage, ...]
    outcome: Outcome
    plot: Markup
    bars: Markup
    columns: int = COLUMNS


def write(config: DemoConfig, outcomes: Sequence[Outcome], seconds: float) -> Path:
    """Write both files into the folder for results; return the path of report.html."""
    facts = _facts(config, outcomes, seconds)
    (config.out / "report.json").write_text(json.dumps(_as_json(facts, outcomes), indent=1), encoding="utf-8")
    html = config.out / "report.html"
    html.write_text(render(facts, config, outcomes), encoding="utf-8")
    return html


def render(facts: Facts, config: DemoConfig, outcomes: Sequence[Outcome]) -> str:
    """Fill the template."""
    return pages.render(
        Path(__file__).parent,
        TEMPLATE,
        facts=facts,
        tiles=_tiles(outcomes),
        sections=[_section(config, outcome) for outcome in outcomes],
        frames_head=table.FRAMES_HEAD,
        frames_rows=[table.frames_row(outcome) for outcome in outcomes],
        failed=[check for outcome in outcomes for check in outcome.checks if not check.passed],
        checks=sum(len(outcome.checks) for outcome in outcomes),
        short=SHORT_HASH,
    )


def _section(config: DemoConfig, outcome: Outcome) -> Section:
    scenario = outcome.scenario
    return Section(
        scenario.key,
        scenario.title,
        scenario.about,
        _frames(config, outcome),
        _attacks(config, outcome),
        outcome,
        Markup(charts.latency_plot(outcome.latency.end_to_end_ms, outcome.latency.stages[0])),
        Markup(charts.stage_bars(outcome.latency.stages[1:])),
        1 + len(scenario.attacked_topics) if scenario.finds_boxes else COLUMNS,
    )


def _frames(config: DemoConfig, outcome: Outcome) -> tuple[FrameImage, ...]:
    scenario, labels = outcome.scenario, outcome.scenario.labels.partition("=")[0]
    if not scenario.answer_topic.endswith("/detections"):
        return ()
    if scenario.finds_boxes:
        assert config.detector is not None  # it is what finds boxes
        moments = images.choose_frames(outcome.recording.moments, scenario.answer_topic, labels, SCENES_SHOWN)
        topics = (("clean", scenario.answer_topic), *scenario.attacked_topics)
        right = {coarse: fine_labels(config.bundle, coarse) for coarse in config.roi_classes}
        return images.scene_images(scenario.bag, scenario.image_topic, moments, topics, labels, right, config.detector)
    moments = images.choose_frames(outcome.recording.moments, scenario.answer_topic, labels, FRAMES_SHOWN)
    scored = {coarse: fine_labels(config.bundle, coarse) for coarse in ("stop", "speedlimit")}
    return images.frame_images(scenario.bag, scenario.image_topic, moments, scenario.answer_topic, labels, scored)


def _attacks(config: DemoConfig, outcome: Outcome) -> tuple[images.AttackImage, ...]:
    scenario, labels = outcome.scenario, outcome.scenario.labels.partition("=")[0]
    if not scenario.attacked_topics or scenario.finds_boxes:
        return ()
    moments = outcome.recording.moments
    chosen = images.choose_attacked(moments, scenario.attacked_topics, scenario.answer_topic, labels, SIGNS_SHOWN)
    return images.attack_images(
        scenario.bag, config.bundle, scenario.image_topic, chosen, scenario.answer_topic, labels
    )


def _tiles(outcomes: Sequence[Outcome]) -> list[Tile]:
    """Choose the key figures that the scenarios at hand give."""
    published = sum(o.counts.published for o in outcomes)
    lost = sum(o.counts.lost_in_transport for o in outcomes)
    answered = sum(o.counts.answered for o in outcomes)
    tiles = [Tile("Frames answered", f"{answered} of {published}", f"{lost} lost in transport")]
    for outcome in outcomes:
        shown = [a for a in outcome.accuracies if a.share.n and a.tile and outcome.scenario.attacked_topics]
        tiles += [Tile(f"{a.tile}, {a.condition}", percent(a.share), a.knowledge or "no attack") for a in shown]
    last = outcomes[-1]
    whole = last.latency.stages[0]
    tiles.append(
        Tile(
            "End-to-end latency",
            f"{whole.p50_ms:.1f} ms",
            f"median of ({last.scenario.key}); p95 {whole.p95_ms:.1f} ms",
        )
    )
    return tiles


def _facts(config: DemoConfig, outcomes: Sequence[Outcome], seconds: float) -> Facts:
    manifest, first = config.bundle.manifest, config.detector
    architecture = manifest.architecture.name if manifest.architecture else "own ONNX"
    model = f"{architecture}, {len(manifest.labels)} classes, input {manifest.input.width} x {manifest.input.height}"
    return Facts(
        bundle=manifest.name,
        bundle_sha256=config.bundle.sha256,
        model=model,
        backend=outcomes[0].recording.status("model").values.get("backend", ""),
        detector=f"{first.manifest.name}, sha256 {first.sha256[:SHORT_HASH]}…" if first is not None else "",
        machine=f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}",
        commit=_commit(config.root),
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        seconds=round(seconds, 1),
    )


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
        "scenarios": [_scenario_as_json(outcome) for outcome in outcomes],
    }


def _scenario_as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "key": outcome.scenario.key,
        "title": outcome.scenario.title,
        "frames": asdict(outcome.counts),
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
    share = content["share"]
    content["share"] = {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in share.items()}
    return content
