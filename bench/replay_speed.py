"""How fast a replay of the road drive is beside its parts alone, with one inference thread.

Run: python bench/replay_speed.py [--rounds 3] [--save], on a quiet machine; some two minutes. In each round take
turns, over the same frames:

decode       rosbags and OpenCV read and decode the recording
network      ONNX Runtime runs the model on images that lie ready
inference    OpenCV scales each decoded image, ONNX Runtime runs the model, NumPy takes the best class or box
replay       what `lisard replay` does, clean
conditions   the same under six conditions: clean, noise, universal, and three corruptions

The first three share no code with this package. Prints milliseconds a frame (medians of the rounds) and two ratios,
each the median of those of the rounds: the slower of decode and inference by the replay (to reach: 0.9), and the six
conditions by inference (to reach: at most 6.3). The same ratios to the network alone stand beside them: it is no
way to answer an image, because images must be scaled. `--save` writes docs/results/replay_speed.json;
bench/replay_figures.py then fills docs/replay.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from rosbags.highlevel import AnyReader

from lisard_ros.bags.evaluation import evaluate
from lisard_ros.bags.matrix import MatrixSpec, open_matrix
from lisard_ros.bags.reader import open_bag
from lisard_ros.provenance import made

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results/replay_speed.json"
DRIVE = ROOT / "data/road_drive"
BUNDLES = {"classifier": ROOT / "models/traffic_signs", "detector": ROOT / "models/road_signs"}
INJECTIONS = "noise,universal,corruption/fog/3,corruption/motion_blur/3,corruption/brightness/3"
CONDITIONS = 1 + len(INJECTIONS.split(","))
LEAST_REPLAY, MOST_CONDITIONS = 0.9, 6.3


def decoded() -> list[np.ndarray[Any, Any]]:
    """Read and decode every image of the drive."""
    with AnyReader([DRIVE]) as reader:
        connections = [one for one in reader.connections if one.msgtype == "sensor_msgs/msg/CompressedImage"]
        return [
            cv2.imdecode(reader.deserialize(raw, one.msgtype).data, cv2.IMREAD_COLOR)
            for one, _, raw in reader.messages(connections=connections)
        ]


class Plain:
    """The model as a short script would run it."""

    def __init__(self, bundle: Path) -> None:
        """Open its fp32 file with one thread."""
        about = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        self.size = about["input"]["width"], about["input"]["height"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(str(bundle / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name

    def scaled(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return [1, 3, H, W] in [0, 1]; a letterbox costs no more than this."""
        small = cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)[:, :, ::-1]
        return np.ascontiguousarray(small.transpose(2, 0, 1)[None], np.float32) / np.float32(255)

    def network(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Run the model."""
        return np.asarray(self.session.run(None, {self.name: x})[0])

    def infer(self, image: np.ndarray[Any, Any]) -> int:
        """Return the best class, or the place of the best box."""
        return int(self.network(self.scaled(image)).reshape(-1).argmax())


def timed(work: Callable[[], object], frames: int) -> float:
    """Milliseconds a frame."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3 / frames


def measure(bundle: Path, rounds: int) -> dict[str, list[float]]:
    """Time each way in each round, after one that does not count."""
    images, plain = decoded(), Plain(bundle)
    ready = [plain.scaled(image) for image in images]
    ahead = max(0, len(os.sched_getaffinity(0)) - 1)
    with (
        open_matrix(MatrixSpec((bundle,), (("onnxruntime", "fp32"),), "none", threads=1)) as clean,
        open_matrix(MatrixSpec((bundle,), (("onnxruntime", "fp32"),), INJECTIONS, threads=1)) as attacked,
    ):

        def replay(matrix: Any) -> None:
            with open_bag(DRIVE) as bag:
                evaluate(matrix.models(labelled=False), bag.frames(), ahead=ahead)

        ways: dict[str, Callable[[], object]] = {
            "decode": decoded,
            "network": lambda: [plain.network(x) for x in ready],
            "inference": lambda: [plain.infer(image) for image in images],
            "replay": lambda: replay(clean),
            "conditions": lambda: replay(attacked),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, work in ways.items():
                value = timed(work, len(images))
                if number:
                    found[name].append(value)
    return found


def summary(found: dict[str, list[float]]) -> dict[str, float]:
    """Medians and ratios; those to the network alone leave out that an image must be scaled."""
    per_round = list(
        zip(*(found[name] for name in ("decode", "network", "inference", "replay", "conditions")), strict=True)
    )
    return {
        **{f"{name}_ms": round(median(values), 3) for name, values in found.items()},
        "replay_share": round(median(max(d, i) / r for d, _, i, r, _ in per_round), 3),
        "replay_share_of_network": round(median(max(d, n) / r for d, n, _, r, _ in per_round), 3),
        "conditions_by_inference": round(median(c / i for _, _, i, _, c in per_round), 2),
        "conditions_by_network": round(median(c / n for _, n, _, _, c in per_round), 2),
    }


def main() -> int:
    """Measure both models, print, write; 1 where a figure is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    results = {name: summary(measure(bundle, options.rounds)) for name, bundle in BUNDLES.items()}
    about = made()
    content = {"cpu": about.cpu, "cpus": about.cpus, "commit": about.commit, "made_at": about.made_at, **results}
    print(json.dumps(content, indent=2))
    if options.save:
        RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    reached = all(
        one["replay_share"] >= LEAST_REPLAY and one["conditions_by_inference"] <= MOST_CONDITIONS
        for one in results.values()
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
