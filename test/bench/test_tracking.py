"""docs/results/tracking.md is what bench/tracking.py makes of tracking.json, and its measures are what they say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lisard_ros.frames import Detection, Hypothesis

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tracking() -> Any:
    """The module of the bench."""
    spec = importlib.util.spec_from_file_location("bench_tracking", ROOT / "bench/tracking.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_table_is_generated_from_the_json(tracking: Any) -> None:
    results = json.loads((tracking.RESULTS / "tracking.json").read_text(encoding="utf-8"))
    assert (tracking.RESULTS / "tracking.md").read_text(encoding="utf-8") == tracking.table(results)
    assert {row["tracker"] for row in results["rows"]} == set(tracking.TRACKERS)
    asked = {scenario.name for scenario in (*tracking.SCENARIOS, tracking.RENDERED)}
    assert {row["scenario"] for row in results["rows"]} == asked
    assert all(len(row["idf1"]) == len(results["seeds"]) for row in results["rows"] if row["part"] == "boxes")


def sequence(tracking: Any, frames: int) -> list[Any]:
    """Two objects that stand still."""
    boxes = [(0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)]
    truth = tuple(tracking.TrueObject(n, box) for n, box in enumerate(boxes))
    items = tuple(Detection(box, (Hypothesis("stop", 0, 0.9),)) for box in boxes)
    return [tracking.BoxFrame(n, truth, items, ()) for n in range(frames)]


def named(tracking: Any, *names: tuple[str, str]) -> Any:
    """A tracker that gives these names, frame by frame."""
    left = list(names)

    def update(frame: Any) -> list[Any]:
        boxes = [item.box_xyxy_px for item in frame.reported]
        return [tracking.Followed(name, box) for name, box in zip(left.pop(0), boxes, strict=True) if name]

    return update


@pytest.mark.parametrize(
    ("names", "idf1", "switches", "recall"),
    [
        ([("a", "b")] * 4, 1.0, 0, 1.0),
        ([("a", "b")] * 3 + [("b", "a")], 2 * 6 / 16, 2, 1.0),
        ([("a", "b")] * 2 + [("c", "b")] * 2, 2 * 6 / 16, 1, 1.0),
        ([("a", "")] * 4, 2 * 4 / 12, 0, 0.5),
        ([("", "")] * 4, 0.0, 0, 0.0),
    ],
)
def test_measures(tracking: Any, names: list[tuple[str, str]], idf1: float, switches: int, recall: float) -> None:
    score = tracking.measure(sequence(tracking, 4), named(tracking, *names))
    assert (score.idf1, score.switches, score.recall) == (pytest.approx(idf1), switches, recall)
    assert (score.boxes, len(score.update_ms)) == (8, 4)


def test_sequences_depend_on_their_seed_alone(tracking: Any) -> None:
    scenario = tracking.Scenario("small", "", seconds=1.0, hides=True, lost_frames=0.3)
    first, again, other = (list(tracking.frames(scenario, seed)) for seed in (3, 3, 4))
    assert first == again and first != other
    for frame in first:
        scores = [item.hypotheses[0].score for item in (*frame.reported, *frame.faint)]
        assert scores == sorted(scores, reverse=True)
