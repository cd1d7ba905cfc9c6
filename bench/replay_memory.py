"""How the memory of a replay grows with the frames: megabytes for an hour of 30 images a second, at full speed.

Run: python bench/replay_memory.py [--frames 18000] [--injections NAMES] [--bundle models/traffic_signs] [--save]

Writes a recording of small images with labels, each image another one, into a temporary folder, and replays it with one
thread as `lisard replay` does, report and JSON included. The resident memory is read every so many frames. The slope is
that of a straight line through the values after the first tenth, in which models, readers and allocators settle. Growth
is measured twice: while frames are answered, and with the report and its JSON, which are made at the end (the peak). To
reach, with a classifier: a slope of at most 10 MB an hour over 18,000 frames (ten minutes), and at most 50 MB of growth
over 108,000 frames (an hour), report and JSON included. The exit status judges these two. `--save` puts the run into
docs/results/replay_memory.json, in the place of one of as many frames and the same injections; bench/replay_figures.py
then fills docs/replay.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lisard_ros.bags.evaluation import evaluate
from lisard_ros.bags.matrix import MatrixSpec, open_matrix
from lisard_ros.bags.messages import typestore
from lisard_ros.bags.reader import open_bag
from lisard_ros.bags.results import replay_of
from lisard_ros.bags.writer import LabelledImage, write_labelled_bag
from lisard_ros.commands.output import to_json
from lisard_ros.provenance import made

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results/replay_memory.json"
RATE_HZ, HOUR_FRAMES, SIDE_PX = 30, 108_000, 32
MOST_MB_AN_HOUR, MOST_GROWTH_MB = 10.0, 50.0
CONDITIONS = "noise,universal,corruption/brightness/3,corruption/contrast/3,corruption/pixelate/3"
PAGE = os.sysconf("SC_PAGESIZE")


def resident_mb() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def peak_mb() -> float:
    """The most that was resident since the start."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024 / 1e6


def write(path: Path, frames: int, labels: tuple[str, ...]) -> None:
    """Write the recording: images of noise that differ, with a label each."""
    random = np.random.default_rng(0)
    images = (
        LabelledImage(
            number * 1_000_000_000 // RATE_HZ,
            "camera",
            random.integers(0, 255, (SIDE_PX, SIDE_PX, 3), np.uint8),
            labels[number // 90 % len(labels)],
        )
        for number in range(frames)
    )
    write_labelled_bag(path, typestore(), images, "/camera/image_raw", "/camera/label")


def replayed(path: Path, spec: MatrixSpec, every: int) -> tuple[list[tuple[int, float]], float]:
    """Replay the recording; returns (frames, resident memory in MB) now and then, and the memory before."""
    samples: list[tuple[int, float]] = []
    with open_matrix(spec) as matrix:
        before = resident_mb()
        numbers = count(1)

        def look() -> None:
            number = next(numbers)
            if number % every == 0:
                samples.append((number, resident_mb()))

        with open_bag(path) as bag:
            models = matrix.models(labelled=bool(bag.label_names()))
            state = evaluate(models, bag.frames(), progress=look, ahead=max(0, len(os.sched_getaffinity(0)) - 1))
            to_json(replay_of(state, bag.name))
    return samples, before


def save(content: dict[str, Any]) -> None:
    """Put a run into the stored ones."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))["runs"] if RESULTS.is_file() else []
    case = ("frames", "injections")
    kept = [one for one in kept if any(one[key] != content[key] for key in case)]
    runs = sorted([*kept, content], key=lambda one: one["frames"])
    RESULTS.write_text(json.dumps({"runs": runs}, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    """Measure, print, write; 1 where a figure is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=18_000)
    parser.add_argument("--injections", default=CONDITIONS)
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/traffic_signs")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    labels = tuple(json.loads((options.bundle / "bundle.json").read_text(encoding="utf-8"))["labels"])
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drive"
        write(path, options.frames, labels)
        spec = MatrixSpec((options.bundle,), (("onnxruntime", "fp32"),), options.injections, threads=1)
        samples, before = replayed(path, spec, max(1, options.frames // 100))
    frames, memory = np.array(samples[len(samples) // 10 :]).T
    slope = float(np.polyfit(frames, memory, 1)[0]) * HOUR_FRAMES
    about = made()
    content = {
        "cpu": about.cpu,
        "commit": about.commit,
        "made_at": about.made_at,
        "frames": options.frames,
        "injections": options.injections,
        "before_mb": round(before, 1),
        "slope_mb_an_hour": round(slope, 2),
        "growth_in_the_pass_mb": round(samples[-1][1] - before, 1),
        "growth_with_report_mb": round(peak_mb() - before, 1),
    }
    print(json.dumps(content, indent=2))
    if options.save:
        save(content)
    return 0 if slope <= MOST_MB_AN_HOUR and content["growth_with_report_mb"] <= MOST_GROWTH_MB else 1


if __name__ == "__main__":
    sys.exit(main())
