"""A replay as one HTML file: the matrix of cameras and injections, frames clean and attacked, where the time goes."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from lisard_ros.bags import live_section
from lisard_ros.bags.report import NO_EFFECT, NOT_APPLIED, STAGES, CameraFrames, CameraResult, ClassResult, Replay
from lisard_ros.bags.stretches import stretches
from lisard_ros.bags.tracks import Track
from lisard_ros.bundle.manifest import DETECTOR_PREFIX
from lisard_ros.evaluation.statistics import Percentiles
from lisard_ros.injection import CLEAN
from lisard_ros.message_fields import NS_PER_S
from lisard_ros.reporting import charts, pages
from lisard_ros.reporting.album import Example
from lisard_ros.reporting.display import Tile, words
from lisard_ros.tracking import NONE

TEMPLATE = "page.html.j2"
SHORT_HASH = 12
MOST_TRACKS = 30  # drawn for each camera
MOST_CLASSES, MOST_ANSWERS = 20, 5


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the clean answers."""

    stage: str
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Shown:
    """The examples of one injection and model."""

    injection: str
    knowledge: str
    examples: tuple[Example, ...]
    backend: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """Where the time goes on one backend."""

    backend: str
    svg: Markup


@dataclass(frozen=True, slots=True)
class Tracks:
    """The tracks of one camera on one backend: how many, their boxes, how many of these a track adds, the drawing."""

    backend: str
    count: int
    boxes: int
    recovered: int
    svg: Markup


@dataclass(frozen=True, slots=True)
class Mixup:
    """What was answered for one recorded class under one condition: the commonest answers with their counts."""

    recorded: str
    total: int
    answers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Mixups:
    """The confusion of one condition. more: how many classes are not listed."""

    condition: str
    backend: str
    classes: tuple[Mixup, ...]
    more: int


@dataclass(frozen=True, slots=True)
class ClassShares:
    """One class under each condition; None where it was not judged. share: in [0, 1]; ap50: NaN where there is none."""

    name: str
    n: int
    cells: tuple[ClassResult | None, ...]


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The classes of one model, those with most things first. more: how many are not listed."""

    backend: str
    conditions: tuple[str, ...]
    classes: tuple[ClassShares, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Camera:
    """One topic of the recording."""

    topic: str
    rows: tuple[CameraResult, ...]
    shown: tuple[Shown, ...]
    bars: tuple[Bars, ...]
    tracks: tuple[Tracks, ...]
    timelines: tuple[Bars, ...]
    curves: tuple[Bars, ...]
    mixups: tuple[Mixups, ...]
    classes: tuple[ClassTable, ...]
    titles: tuple[str, ...]

    @property
    def backends(self) -> int:
        """How many models there are, each on its backend."""
        return len({row.model for row in self.rows})

    @property
    def labelled(self) -> bool:
        """Whether the recording has labels."""
        return any(row.judged == "accuracy" for row in self.rows)

    @property
    def ranked(self) -> bool:
        """Whether there is an AP."""
        return any(row.precision is not None for row in self.rows)

    @property
    def followed(self) -> bool:
        """Whether objects are followed from frame to frame."""
        return any(row.flips.n for row in self.rows)

    @property
    def finds_boxes(self) -> bool:
        """Whether false boxes are counted."""
        return any(row.false_boxes is not None for row in self.rows)


def render(replay: Replay, examples: Sequence[Example]) -> str:
    """Lay out the page; everything is inside it."""
    topics = dict.fromkeys(row.topic for row in replay.rows)
    return pages.render(
        Path(__file__).parent,
        TEMPLATE,
        replay=replay,
        tiles=_tiles(replay.rows, replay.titles),
        short=SHORT_HASH,
        cameras=[_camera(topic, replay, examples) for topic in topics],
        live=[live_section.section(camera) for camera in replay.live.cameras] if replay.live is not None else [],
        most_tracks=MOST_TRACKS,
        bag=Path(replay.bag).name,
    )


def _camera(topic: str, replay: Replay, examples: Sequence[Example]) -> Camera:
    of_topic = tuple(row for row in replay.rows if row.topic == topic)
    titles = replay.titles
    shown = tuple(
        Shown(row.injection, row.knowledge, chosen, titles[row.model])
        for row in of_topic
        if (
            chosen := tuple(
                e for e in examples if (e.source, e.injection, e.model) == (topic, row.injection, row.model)
            )
        )
    )
    bars = tuple(
        Bars(titles[row.model], Markup(charts.stage_bars(_stages(row)))) for row in of_topic if row.injection == CLEAN
    )
    by_model = {number: [row for row in of_topic if row.model == number] for number in range(len(titles))}
    tracks = tuple(
        _tracks(titles[number], [t for t in replay.tracks if (t.topic, t.bundle, t.backend) == _model_key(rows[0])])
        for number, rows in by_model.items()
        if rows and replay.tracking != NONE
    )
    frames = next((camera for camera in replay.cameras if camera.topic == topic), None)
    timelines = [Bars(titles[number], _timeline(rows, frames)) for number, rows in by_model.items()]
    curves = [Bars(titles[number], _curves(rows, replay)) for number, rows in by_model.items()]
    return Camera(
        topic,
        of_topic,
        shown,
        tuple(drawing for drawing in bars if drawing.svg),
        tracks,
        tuple(drawing for drawing in timelines if drawing.svg),
        tuple(drawing for drawing in curves if drawing.svg),
        tuple(_mixups(row, titles[row.model]) for row in of_topic if row.confusion),
        tuple(table for number, rows in by_model.items() if (table := _class_table(rows, titles[number])).classes),
        titles,
    )


def _model_key(row: CameraResult) -> tuple[str, str, str]:
    return row.topic, row.bundle, row.backend


def _timeline(rows: Sequence[CameraResult], frames: CameraFrames | None) -> Markup:
    """Draw how right each condition was over time, in as many stretches as there is room for."""
    if frames is None or not len(frames.stamps_ns):
        return Markup("")
    time = stretches(frames.stamps_ns)
    drawn = [
        charts.ShareTimes(words(row.injection), shares)
        for row in rows
        if (shares := time.shares(row.scores.right, row.scores.judged))
    ]
    return Markup(charts.share_timeline(drawn, time.length_s))


def _curves(rows: Sequence[CameraResult], replay: Replay) -> Markup:
    """Draw the attacks made at two strengths or more; at strength 0 stand the clean answers over the same frames."""
    settings = {one.name: one for one in replay.injections if one.bundle in ("", *(row.bundle for row in rows))}
    points: dict[str, dict[float, CameraResult]] = defaultdict(dict)
    for row in rows:
        one = settings.get(row.injection)
        if one is None or not row.score.n:
            continue
        strengths = (one.strength, one.eps_255, one.sigma_255)
        strength = next((float(value) for value in strengths if value is not None), None)
        if strength is not None:
            prefix = DETECTOR_PREFIX if row.injection.startswith(DETECTOR_PREFIX) else ""
            points[prefix + one.attack][strength] = row
    curves = []
    for name, of_name in points.items():
        if len(of_name) > 1:
            first = next(iter(of_name.values())).clean
            start = [(0.0, first.share, first.low, first.high)] if first.n else []
            rest = [(s, r.score.share, r.score.low, r.score.high) for s, r in sorted(of_name.items())]
            curves.append(charts.StrengthCurve(words(name), (*start, *rest)))
    return Markup(charts.strength_curves(curves))


def _class_table(rows: Sequence[CameraResult], title: str) -> ClassTable:
    """Put the classes of one model under its conditions beside each other."""
    judged = [row for row in rows if row.classes]
    found = [{one.name: one for one in row.classes} for row in judged]
    most = {name: max(of[name].score.n for of in found if name in of) for name in {n for of in found for n in of}}
    names = sorted(most, key=lambda name: (-most[name], name))
    classes = tuple(ClassShares(name, most[name], tuple(of.get(name) for of in found)) for name in names[:MOST_CLASSES])
    return ClassTable(title, tuple(row.injection for row in judged), classes, max(0, len(names) - MOST_CLASSES))


def _mixups(row: CameraResult, title: str) -> Mixups:
    by_class: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for one in row.confusion:
        by_class[one.recorded].append((one.answered, one.count))
    totals = {name: sum(count for _, count in answers) for name, answers in by_class.items()}
    listed = sorted(by_class, key=lambda name: (name == "", -totals[name], name))
    classes = tuple(Mixup(name, totals[name], tuple(by_class[name][:MOST_ANSWERS])) for name in listed[:MOST_CLASSES])
    return Mixups(row.injection, title, classes, max(0, len(listed) - MOST_CLASSES))


def _tracks(backend: str, tracks: Sequence[Track]) -> Tracks:
    """Draw the longest tracks, in the order in which they begin."""
    stamps = sorted({box.stamp_ns for track in tracks for box in track.boxes})
    gaps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    frame_s = statistics.median(gaps) / NS_PER_S if gaps else 1.0
    longest = sorted(tracks, key=lambda track: -len(track.boxes))[:MOST_TRACKS]
    drawn = [
        charts.TrackTimes(f"{track.id} {words(track.label)}", _spans(track, stamps[0], frame_s))
        for track in sorted(longest, key=lambda track: (track.boxes[0].stamp_ns, int(track.id)))
    ]
    boxes, recovered = sum(len(track.boxes) for track in tracks), sum(track.recovered for track in tracks)
    return Tracks(backend, len(tracks), boxes, recovered, Markup(charts.track_timeline(drawn)))


def _spans(track: Track, begin_ns: int, frame_s: float) -> tuple[charts.TrackSpan, ...]:
    """Join boxes of one kind that follow each other without a gap."""
    spans: list[charts.TrackSpan] = []
    for box in track.boxes:
        begin_s = (box.stamp_ns - begin_ns) / NS_PER_S
        if spans and spans[-1].recovered == box.recovered and begin_s <= spans[-1].end_s + 0.5 * frame_s:
            spans[-1] = charts.TrackSpan(spans[-1].begin_s, begin_s + frame_s, box.recovered)
        else:
            spans.append(charts.TrackSpan(begin_s, begin_s + frame_s, box.recovered))
    return tuple(spans)


def _stages(row: CameraResult) -> list[Stage]:
    measured = ((stage, row.latency[stage]) for stage in STAGES if row.latency[stage].n)
    return [Stage(name, p.p50_ms, p.p95_ms, p.p99_ms) for name, p in measured if p.max_ms > 0]


def _tiles(rows: Sequence[CameraResult], titles: Sequence[str]) -> list[Tile]:
    """Key figures; of several cameras or models the lowest, and the range of the latency."""
    clean = [row for row in rows if row.injection == CLEAN]
    attacked = [row for row in rows if row.injection != CLEAN and row.score.n]
    tiles = [Tile("Frames answered", f"{sum(r.answered for r in clean)} of {sum(r.frames for r in clean)}", "clean")]
    judged = [row for row in clean if row.score.n]
    if judged:
        lowest = min(judged, key=lambda row: row.score.share)
        tiles.append(Tile("Clean", pages.percent(lowest.score), _of(lowest, judged)))
    if attacked:
        worst = min(attacked, key=lambda row: row.score.share)
        note = f"{worst.injection}: {worst.effect}" if worst.effect else worst.injection
        tiles.append(Tile("Worst injection", pages.percent(worst.score), note))
    tiles += [tile for effect in (NOT_APPLIED, NO_EFFECT) if (tile := _without_effect(rows, effect, titles))]
    return [*tiles, *_latency([row.latency["total"] for row in clean if row.latency["total"].n])]


def _without_effect(rows: Sequence[CameraResult], effect: str, titles: Sequence[str]) -> Tile | None:
    """Name the injections whose rows are no evidence of robustness, on whatever camera; the model if not of all."""
    attacked = dict.fromkeys((row.injection, row.model) for row in rows if row.injection != CLEAN)
    found = dict.fromkeys((row.injection, row.model) for row in rows if row.effect == effect)
    models = {name: {model for other, model in attacked if other == name} for name, _ in found}
    names = dict.fromkeys(
        name if all((name, one) in found for one in models[name]) else f"{name} on {titles[model]}"
        for name, model in found
    )
    return Tile(effect.capitalize(), f"{len(found)} of {len(attacked)}", ", ".join(names)) if found else None


def _of(row: CameraResult, rows: Sequence[CameraResult]) -> str:
    return row.topic if len(rows) == 1 else f"lowest of {len(rows)} cameras and models"


def _latency(totals: Sequence[Percentiles]) -> list[Tile]:
    if not totals:
        return []
    name, medians = "Latency, whole pipeline", sorted(total.p50_ms for total in totals)
    if len(totals) == 1:
        return [Tile(name, f"{medians[0]:.1f} ms", f"median; p95 {totals[0].p95_ms:.1f} ms")]
    return [Tile(name, f"{medians[0]:.1f} – {medians[-1]:.1f} ms", "medians of cameras and models")]
