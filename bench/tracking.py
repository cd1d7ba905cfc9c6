"""Measures the tracker on sequences with known ids: IDF1, id switches, milliseconds for each frame.

    python bench/tracking.py          (docs/results/tracking.json and tracking.md; about five minutes)
    python bench/tracking.py --seeds 2 --only plain,occlusion --json out.json

Beside it: ids by place in the answer, which is what a message without ids amounts to, and a plain tracker that joins
boxes greedily by overlap. `boxes`: bench/moving_boxes.py. `images`: signs drawn into images, seen by models/road_signs.
IDF1: Ristani et al. 2016; switches: Bernardin and Stiefelhagen 2008 (CLEAR MOT); both at an IoU of 0.5. Times are
processor time of the one thread, so that other work on the machine does not decide.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from moving_boxes import SCENARIOS, BoxFrame, Scenario, TrueObject, frames

from lisard_ros.bags.reader import open_bag
from lisard_ros.evaluation.scoring import MATCH_IOU
from lisard_ros.evaluation.statistics import percentiles
from lisard_ros.frames import BoxXyxyPx, Frame, Pixels, Result
from lisard_ros.inference.pipeline import Pipeline, open_pipeline
from lisard_ros.inference.postprocess import iou_matrix, iou_with
from lisard_ros.tracking.assignment import assign
from lisard_ros.tracking.bytetrack import ByteTrack
from lisard_ros.tracking.stage import FAINT_SHARE

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
DETECTOR = ROOT / "models" / "road_signs"
SCHEMA = 1
RENDERED = Scenario("images", "4 signs that hide each other", objects=4, seconds=10.0, heights_px=(50, 120), hides=True)
RENDERED_SEEDS = 3
Update = Callable[[BoxFrame], list["Followed"]]


@dataclass(frozen=True)
class Followed:
    """A box of an answer under the id of its track."""

    id: str
    box_xyxy_px: BoxXyxyPx


@dataclass(frozen=True)
class Score:
    """One tracker on one sequence. idf1, recall: shares; boxes: true ones."""

    idf1: float
    recall: float
    switches: int
    boxes: int
    update_ms: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One tracker on all sequences of a scenario. idf1: of each seed; the others are over all of them."""

    part: str
    scenario: str
    about: str
    tracker: str
    idf1: list[float]
    recall: float
    switches: int
    boxes: int
    p50_ms: float
    p95_ms: float


# --- trackers to compare -------------------------------------------------------------------------------------------


def by_index() -> Update:
    """The place in the answer as the id."""
    return lambda frame: [Followed(str(n), item.box_xyxy_px) for n, item in enumerate(frame.reported)]


def greedy() -> Update:
    """Join each box, best scores first, with the free track whose last box it overlaps most (IoU of at least 0.3)."""
    tracks: dict[str, tuple[BoxXyxyPx, int]] = {}
    ids = iter(range(1, 10**9))

    def update(frame: BoxFrame) -> list[Followed]:
        for name in [name for name, (_, seen_ns) in tracks.items() if frame.stamp_ns - seen_ns > 1e9]:
            del tracks[name]
        free, followed = dict(tracks), []
        for item in frame.reported:
            names = list(free)
            corners = np.array([free[name][0] for name in names]).reshape(-1, 4)
            overlap = iou_with(np.array(item.box_xyxy_px), corners)
            best = int(overlap.argmax()) if names else 0
            name = names[best] if names and overlap[best] >= 0.3 else str(next(ids))
            free.pop(name, None)
            tracks[name] = (item.box_xyxy_px, frame.stamp_ns)
            followed.append(Followed(name, item.box_xyxy_px))
        return followed

    return update


def bytetrack(faint: bool = True) -> Update:
    """The tracker of the node; faint False: without the boxes that are too weak to be reported."""
    tracker = ByteTrack()

    def update(frame: BoxFrame) -> list[Followed]:
        answer = tracker.update(frame.reported, frame.faint if faint else (), frame.stamp_ns)
        return [Followed(item.id, item.box_xyxy_px) for item in (*answer.reported, *answer.recovered) if item.id]

    return update


TRACKERS: dict[str, Callable[[], Update]] = {
    "place in the answer": by_index,
    "greedy overlap": greedy,
    "bytetrack without faint boxes": lambda: bytetrack(faint=False),
    "bytetrack": bytetrack,
}


# --- measures ------------------------------------------------------------------------------------------------------


def measure(sequence: Iterable[BoxFrame], update: Update) -> Score:
    """Run a tracker over a sequence and compare its ids with the true ones."""
    together: dict[tuple[int, str], int] = defaultdict(int)
    last: dict[int, str] = {}
    truths = answers = found = switches = 0
    times: list[float] = []
    for frame in sequence:
        begin_s = time.thread_time()
        followed = update(frame)
        times.append((time.thread_time() - begin_s) * 1e3)
        truths, answers = truths + len(frame.truth), answers + len(followed)
        overlap = _overlap(frame.truth, followed)
        for row, column in zip(*np.nonzero(overlap >= MATCH_IOU), strict=True):
            together[frame.truth[row].id, followed[column].id] += 1
        kept = np.array([[last.get(item.id) == one.id for one in followed] for item in frame.truth], bool)
        benefit = np.where(overlap >= MATCH_IOU, overlap + 1000 * kept.reshape(overlap.shape), 0.0)
        for row, column in assign(benefit):
            found += 1
            number, name = frame.truth[row].id, followed[column].id
            switches += last.get(number, name) != name
            last[number] = name
    return Score(_idf1(together, truths, answers), found / truths, switches, truths, tuple(times))


def _overlap(truth: Sequence[TrueObject], followed: Sequence[Followed]) -> NDArray[np.float64]:
    of_truth = np.array([item.box_xyxy_px for item in truth]).reshape(-1, 4)
    return iou_matrix(of_truth, np.array([item.box_xyxy_px for item in followed]).reshape(-1, 4))


def _idf1(together: dict[tuple[int, str], int], truths: int, answers: int) -> float:
    """Twice the boxes under the right id by all boxes, true and answered, for the best one-to-one choice of ids."""
    objects, names = sorted({pair[0] for pair in together}), sorted({pair[1] for pair in together})
    counts = np.zeros((len(objects), len(names)))
    for (number, name), count in together.items():
        counts[objects.index(number), names.index(name)] = count
    right = sum(counts[pair] for pair in assign(counts)) if together else 0.0
    return float(2 * right / (truths + answers))


# --- images --------------------------------------------------------------------------------------------------------


class Renderer:
    """Draws the true objects of a frame as signs of real images, the nearest last, and lets a detector look."""

    def __init__(self, pipeline: Pipeline) -> None:
        """Take background and signs from the demonstration's images."""
        self._pipeline = pipeline
        with open_bag(ROOT / "data" / "road_signs") as bag:
            items = [item for item in islice(bag.frames(), 60) if item.frame is not None and item.regions]
        self._signs = [
            sign for item in items for sign in _signs(item.frame, [r.box_xyxy_px for r in item.regions or ()])
        ]
        first = items[0].frame
        assert first is not None
        self._background = cv2.GaussianBlur(cv2.resize(first.rgb(), (640, 480)), (0, 0), 12)

    def seen(self, frame: BoxFrame) -> BoxFrame:
        """Return the frame with the boxes that the detector finds in the drawn image."""
        image = self._background.copy()
        for item in sorted(frame.truth, key=lambda one: one.box_xyxy_px[3] - one.box_xyxy_px[1]):
            left, top, right, bottom = (round(value) for value in item.box_xyxy_px)
            sign = self._signs[item.id % len(self._signs)]
            image[top:bottom, left:right] = cv2.resize(sign, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        prepared = self._pipeline.prepare([Frame(image, "rgb", frame.stamp_ns, "", "front")])
        outcome = self._pipeline.decode(self._pipeline.infer(prepared), FAINT_SHARE)[0]
        assert isinstance(outcome, Result) and outcome.detections is not None
        return BoxFrame(frame.stamp_ns, frame.truth, outcome.detections.items, outcome.faint)


def _signs(frame: Frame | None, boxes: Sequence[BoxXyxyPx | None]) -> Iterator[Pixels]:
    """Cut out the boxes that are large enough to be drawn larger."""
    for box in boxes:
        if frame is not None and box is not None:
            left, top, right, bottom = (round(value) for value in box)
            if min(right - left, bottom - top) >= 50:
                yield frame.rgb()[top:bottom, left:right]


# --- report --------------------------------------------------------------------------------------------------------


def rows_of(part: str, scenario: Scenario, sequences: Sequence[Sequence[BoxFrame]]) -> list[Row]:
    """Measure every tracker on the sequences of a scenario."""
    rows = []
    for name, make in TRACKERS.items():
        scores = [measure(sequence, make()) for sequence in sequences]
        boxes = sum(score.boxes for score in scores)
        times = percentiles([ms for score in scores for ms in score.update_ms])
        rows.append(
            Row(
                part,
                scenario.name,
                scenario.about,
                name,
                [round(score.idf1, 4) for score in scores],
                round(sum(score.recall * score.boxes for score in scores) / boxes, 4),
                sum(score.switches for score in scores),
                boxes,
                round(times.p50_ms, 3),
                round(times.p95_ms, 3),
            )
        )
    return rows


def table(results: dict[str, Any]) -> str:
    """Lay the results out as docs/results/tracking.md."""
    rows = [Row(**row) for row in results["rows"]]
    lines = [
        "# Tracks",
        "",
        f"`python bench/tracking.py` · {results['date']} · commit {str(results['commit'])[:10]} · {results['machine']}",
        "",
        f"Boxes with known ids, {len(results['seeds'])} sequences of each scenario (seeds from {results['seeds'][0]}).",
        "IDF1: mean over the sequences, lowest and highest. Found: share of true boxes that a box with an id meets",
        "(IoU of at least 0.5). Switches: per 1000 true boxes. ms: processor time of a frame, median and 95th",
        "percentile.",
        "",
        "`place in the answer` is what answers without ids amount to. `greedy overlap` is a plain tracker: each box",
        "goes to the track whose last box it overlaps most. `bytetrack` gives an id with the second box of an object,",
        "which costs it one box of each. The sequences are drawn, not recorded: they compare trackers, and promise no",
        "figure for a road.",
        "",
    ]
    for part, title in (("boxes", "## Drawn boxes"), ("images", "## Drawn images, boxes of models/road_signs")):
        chosen = [row for row in rows if row.part == part]
        if chosen:
            lines += [title, ""]
            if part == "images":
                lines += [
                    f"{RENDERED_SEEDS} sequences: signs cut out of data/road_signs move over a blurred background.",
                    "",
                ]
            lines += ["| scenario | tracker | IDF1 | found | switches | ms |", "|---|---|---|---|---|---|"]
            lines += [_line(row, first=row.tracker == next(iter(TRACKERS))) for row in chosen]
            lines.append("")
    return "\n".join(lines)


def _line(row: Row, first: bool) -> str:
    name = f"{row.scenario}: {row.about}" if first else ""
    idf1 = f"{statistics.mean(row.idf1):.3f} [{min(row.idf1):.3f}, {max(row.idf1):.3f}]"
    switches = 1000 * row.switches / row.boxes
    return (
        f"| {name} | {row.tracker} | {idf1} | {100 * row.recall:.1f} % | {switches:.1f} | "
        f"{row.p50_ms:.2f} / {row.p95_ms:.2f} |"
    )


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main() -> int:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="sequences of each scenario (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first (default: %(default)s)")
    parser.add_argument("--only", default="", help="scenarios, comma-separated (default: all, and the drawn images)")
    parser.add_argument("--json", type=Path, default=RESULTS / "tracking.json", help="(default: %(default)s)")
    args = parser.parse_args()
    wanted = [name.strip() for name in args.only.split(",") if name.strip()]
    rows: list[Row] = []
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    for scenario in SCENARIOS:
        if not wanted or scenario.name in wanted:
            rows += rows_of("boxes", scenario, [list(frames(scenario, seed)) for seed in seeds])
            print(*(_line(row, True) for row in rows[-len(TRACKERS) :]), sep="\n", flush=True)
    if not wanted or RENDERED.name in wanted:
        pipeline = open_pipeline(DETECTOR, backend="onnxruntime", precision="fp32", threads=1)
        renderer = Renderer(pipeline)
        drawn = [[renderer.seen(frame) for frame in frames(RENDERED, seed)] for seed in seeds[:RENDERED_SEEDS]]
        pipeline.close()
        rows += rows_of("images", RENDERED, drawn)
        print(*(_line(row, True) for row in rows[-len(TRACKERS) :]), sep="\n", flush=True)
    results = {
        "schema_version": SCHEMA,
        "commit": _commit(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"NumPy {np.__version__}",
        "seeds": list(seeds),
        "scenarios": [asdict(scenario) for scenario in (*SCENARIOS, RENDERED)],
        "rows": [asdict(row) for row in rows],
    }
    args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    args.json.with_suffix(".md").write_text(table(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
