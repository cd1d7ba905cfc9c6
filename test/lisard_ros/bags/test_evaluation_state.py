"""A state adds up: parts give what the whole gives, and a matrix what each model gives alone."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros import injection
from lisard_ros.bags.blocks import TIME, TRACK, BlockRule
from lisard_ros.bags.evaluation import MatrixModel, evaluate
from lisard_ros.bags.evaluation_state import EvaluationState
from lisard_ros.bags.reader import BagFrame
from lisard_ros.bags.report import Replay
from lisard_ros.bags.results import replay_of
from lisard_ros.errors import DataError, ImageError, UsageError
from lisard_ros.frames import Frame, Region
from lisard_ros.tracking import BYTETRACK

S = 1_000_000_000
LABELS = ("red", "green", "blue")
ROWS = np.array([[0, 0, 8, 16, 1, 0.9, 0, 0], [8, 0, 16, 16, 1, 0, 0, 0.8], [2, 2, 9, 9, 1, 0, 0.1, 0]], np.float32)
SWAPPED = np.eye(3, dtype=np.float32)[[1, 0, 2]] * 20


def drive(boxes: bool = False) -> list[BagFrame]:
    """Two cameras in two recordings: copies, a damaged image, a white one, tracks, and frames without labels."""
    rng, items = np.random.default_rng(3), []
    for n in range(24):
        image = rng.integers(0, 60, (20, 40, 3), dtype=np.uint8)
        image[..., n % 3] += 120
        if n % 11 == 5:
            image = np.full((20, 40, 3), 255, np.uint8)  # the tiny network answers NaN
        if n in (9, 20):
            image = items[4].frame.image.copy()  # type: ignore[union-attr]
        frame = None if n % 13 == 7 else Frame(image, "rgb", n * S, "", "front")
        label, regions = LABELS[n // 2 % 3], None
        if boxes:
            regions = (Region((0, 0, 20, 20), label, id=f"{n // 5}"), Region((20, 0, 40, 20), "blue"))
            regions = regions[: n % 3]
        known = label if n % 7 else None
        items.append(
            BagFrame(
                f"/{'front' if n % 3 else 'rear'}",
                n * S,
                frame,
                None if frame is not None else ImageError("short"),
                0.1,
                None if boxes else known,
                regions if n % 7 else None,
                "" if boxes else f"{n // 5}",
                n // 12,
            )
        )
    return items


def without_times(report: Replay) -> Replay:
    """The report with no times, and arrays as lists."""
    rows = tuple(
        replace(
            row,
            latency={stage: times.n for stage, times in row.latency.items()},  # type: ignore[misc]
            scores=tuple(list(part) for part in (row.scores.right, row.scores.judged, row.scores.false)),  # type: ignore[arg-type]
            classes=tuple((one.name, one.score, repr(one.ap50)) for one in row.classes),  # type: ignore[misc]
            score=repr(row.score),  # type: ignore[arg-type]
            clean=repr(row.clean),  # type: ignore[arg-type]
            flips=repr(row.flips),  # type: ignore[arg-type]
        )
        for row in report.rows
    )
    cameras = tuple(
        replace(one, stamps_ns=list(one.stamps_ns), recordings=list(one.recordings), blocks=list(one.blocks))
        for one in report.cameras
    )
    return replace(report, rows=rows, cameras=cameras)


def in_parts(models: Any, items: list[BagFrame], cuts: Sequence[int], **options: Any) -> EvaluationState:
    """The states of consecutive parts, each computed alone, sent through pickle, and added."""
    borders = [0, *cuts, len(items)]
    parts = [evaluate(models(), items[a:b], **options) for a, b in itertools.pairwise(borders)]
    states = [pickle.loads(pickle.dumps(part)) for part in parts]
    for state in states[1:]:
        states[0].append(state)
    return states[0]


@pytest.fixture
def classifiers(tiny: Any) -> Any:
    """Makes two classifiers with attacks that draw, that are stored, and that ask the engine."""
    bundles = tiny.armed(), tiny.armed("swapped", SWAPPED)
    pipelines = [tiny.pipeline(bundle) for bundle in bundles]
    names = ("noise", "fgsm", "corruption/fog/3")

    def made(place: slice = slice(None), names: Sequence[str] = names) -> list[MatrixModel]:
        chosen = list(zip(bundles, pipelines, strict=True))[place]
        return [
            MatrixModel(
                pipeline,
                [
                    injection.make(bundle, name, sources=injection.AttackSources(engine=pipeline.choice.backend))
                    for name in names
                ],
                None if n + (place.start or 0) == 0 else pipelines[0],
            )
            for n, (bundle, pipeline) in enumerate(chosen)
        ]

    return made


@pytest.fixture
def detectors(tiny: Any) -> Any:
    """Makes two detectors of other boxes."""
    pipelines = [tiny.pipeline(tiny.detector(ROWS[:n], name=f"boxes{n}")) for n in (2, 3)]

    def made(place: slice = slice(None)) -> list[MatrixModel]:
        return [MatrixModel(one, [injection.NoiseInjection(16, 0)]) for one in pipelines[place]]

    return made


@pytest.mark.parametrize("labelled", [True, False])
def test_a_matrix_gives_what_each_model_gives_alone(classifiers: Any, labelled: bool) -> None:
    items = drive() if labelled else [replace(item, label=None) for item in drive()]
    whole = without_times(replay_of(evaluate(classifiers(), items), "bag"))
    rows: list[Any] = []
    for place in (slice(0, 1), slice(1, 2)):
        alone = without_times(replay_of(evaluate(classifiers(place), items), "bag"))
        bundle = "tiny" if place.start == 0 else ""
        assert bundle in alone.bundle and alone.cameras == whole.cameras
        rows += [replace(row, model=place.start, bundle="") for row in alone.rows]
    assert [replace(row, bundle="") for row in whole.rows] == rows
    assert len(whole.rows) == 2 * 2 * 4 and len({row.bundle for row in whole.rows}) == 2, "one name, other hashes"


def test_parts_give_the_whole(classifiers: Any, detectors: Any) -> None:
    for models, boxes, rule in (
        (classifiers, False, BlockRule(TIME, 5.0)),
        (classifiers, False, BlockRule(TRACK)),
        (detectors, True, BlockRule(TIME, 5.0)),
        (detectors, True, BlockRule(TRACK)),
    ):
        items = drive(boxes)
        whole = without_times(replay_of(evaluate(models(), items, rule), "bag"))
        for cuts in ((1, 4, 17), (12,)):
            assert without_times(replay_of(in_parts(models, items, cuts, rule=rule), "bag")) == whole


def test_parts_give_the_whole_without_labels(classifiers: Any, detectors: Any) -> None:
    for models in (classifiers, detectors):
        items = [replace(item, label=None, regions=None, track="") for item in drive()]
        whole = without_times(replay_of(evaluate(models(), items), "bag"))
        assert without_times(replay_of(in_parts(models, items, (5, 15)), "bag")) == whole


def test_an_attack_by_queries_draws_by_the_image(classifiers: Any) -> None:
    items = [item for item in drive()[:6] if item.frame is not None]

    def models() -> Any:
        return classifiers(slice(0, 1), ("attack/square100/8", "noise"))

    whole = without_times(replay_of(evaluate(models(), items), "bag"))
    assert without_times(replay_of(in_parts(models, items, (2,)), "bag")) == whole


def test_tracked_parts_begin_where_recordings_do(detectors: Any) -> None:
    items = drive(boxes=True)
    whole = without_times(replay_of(evaluate(detectors(), items, tracking=BYTETRACK), "bag"))
    cut = without_times(replay_of(in_parts(detectors, items, (12,), tracking=BYTETRACK), "bag"))
    key = lambda track: (track.bundle, track.recording, track.topic, int(track.id))  # noqa: E731
    assert sorted(cut.tracks, key=key) == sorted(whole.tracks, key=key) and whole.tracks
    assert replace(cut, tracks=()) == replace(whole, tracks=())
    with pytest.raises(DataError, match="a tracked recording is in two parts"):
        in_parts(detectors, items, (10,), tracking=BYTETRACK)


def test_parts_of_other_replays_are_refused(classifiers: Any, detectors: Any) -> None:
    items = drive()[:3]
    state = evaluate(classifiers(), items)
    for other, what in (
        (evaluate(detectors(), items), "models"),
        (evaluate(classifiers(), items, BlockRule(TRACK)), "blocks"),
        (evaluate(classifiers(), items, tracking=BYTETRACK), "tracking"),
    ):
        with pytest.raises(DataError, match=f"other {what}"):
            state.append(other)


def test_models_of_two_tasks_are_refused(classifiers: Any, detectors: Any) -> None:
    with pytest.raises(UsageError, match="different tasks"):
        evaluate([*classifiers(), *detectors()], [])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.integers(0, 60))
def test_histograms_add_up_and_stay_within_their_error(values: list[float], cut: int) -> None:
    from lisard_ros.evaluation.latency_histogram import RELATIVE_ERROR, SHORTEST_MS, LatencyHistogram

    whole, first, second = LatencyHistogram(), LatencyHistogram(), LatencyHistogram()
    for n, value in enumerate(values):
        whole.add(value)
        (first if n < cut else second).add(value)
    first.merge(second)
    assert first.counts == whole.counts and first.percentiles() == whole.percentiles()
    found, ordered = whole.percentiles(), sorted(values)
    assert (found.n, found.max_ms) == (len(values), ordered[-1])
    for percent, value in ((50, found.p50_ms), (95, found.p95_ms), (99, found.p99_ms)):
        exact = ordered[int(percent / 100 * (len(values) - 1))]
        assert value == pytest.approx(exact, rel=1.01 * RELATIVE_ERROR, abs=1.1 * SHORTEST_MS)
