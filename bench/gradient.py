"""Compares the gradient file of the shipped classifier with torch's autograd: speed, signs, and who wins with PGD-10.

    lisard build models/traffic_signs --variants none --gradient
    python bench/gradient.py --threads 2

Both compute in float32 with the same threads on the same images and random starts. They take turns on each batch, so
that other work on the machine meets both. The images are the shipped tracks and the bundle's reference images, each
once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from lisard_engines import image_sets
from lisard_ros import bundle as bundles
from lisard_ros import host_cpu
from lisard_ros.attacks import PGD, Untargeted, from_bundle, from_torch
from lisard_ros.attacks.model import AttackModel
from lisard_ros.attacks.objective import fooled
from lisard_ros.backends.pytorch import load_network
from lisard_ros.bundle import Bundle
from lisard_ros.evaluation.statistics import paired_difference
from lisard_ros.inference.preprocess import prepare

ROOT = Path(__file__).resolve().parent.parent
BUNDLE, TRACKS = ROOT / "models" / "traffic_signs", ROOT / "data" / "gtsrb_tracks"


@dataclass(frozen=True)
class Outcomes:
    """PGD-10 with each. difference: of the shares that are fooled, ours minus torch's, with its 95 % interval."""

    same_outcomes: float
    fooled_ours: float
    fooled_torch: float
    difference: tuple[float, float, float]


@dataclass(frozen=True)
class Speed:
    """Images differentiated in a second. ratio: ours over torch's, median, lowest and highest of the rounds.

    processor_ratio: the same for seconds of the processor, which other work on the machine changes less.
    """

    batch: int
    rounds: int
    ours_per_s: float
    torch_per_s: float
    ratio: tuple[float, float, float]
    processor_ratio: tuple[float, float, float]


def main() -> None:
    """Compare and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="of each (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="images at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="timed batches of each (default: %(default)s)")
    parser.add_argument("--part", choices=("all", "speed", "outcomes"), default="all", help="(default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bundle = bundles.read(BUNDLE)
    ours, theirs = from_bundle(bundle, threads=args.threads), from_torch(load_network(bundle))
    x, labels, groups = images(bundle)
    figures: dict[str, object] = {
        "images": len(x),
        "threads": args.threads,
        "processor": host_cpu.cpu_name(),
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
    }
    if args.part != "speed":
        figures |= {"same_signs": same_signs(ours, theirs, x, labels)}
        figures |= asdict(compare_outcomes(ours, theirs, x, labels, groups))
    if args.part != "outcomes":
        figures |= asdict(speed(ours, theirs, x, labels, args.batch, args.rounds))
    print(json.dumps(figures, indent=1))


def images(bundle: Bundle) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images as the network meets them, their classes, and the track of each."""
    shown = image_sets.joined((image_sets.of_bundle(bundle), image_sets.read(TRACKS, bundle.manifest.labels)))
    x = prepare([frame.rgb() for frame in shown.frames], bundle.manifest.input)
    return x, shown.labels.astype(np.int64), shown.groups


def same_signs(ours: AttackModel, theirs: AttackModel, x: np.ndarray, labels: np.ndarray) -> float:
    """Share of all input values whose gradients have the same sign."""
    slopes = [model.evaluate(x, Untargeted(labels)).gradient for model in (ours, theirs)]
    return float((np.sign(slopes[0]) == np.sign(slopes[1])).mean())


def compare_outcomes(
    ours: AttackModel, theirs: AttackModel, x: np.ndarray, labels: np.ndarray, groups: tuple[str, ...]
) -> Outcomes:
    """PGD-10 with each; both attacked sets are judged by torch."""
    criterion = Untargeted(labels)
    won = []
    for model in (ours, theirs):
        attacked = PGD()(model, x, criterion, np.random.default_rng(0))
        won.append(fooled(theirs.evaluate(attacked, criterion, gradient=False).scores, criterion))
    between = paired_difference(won[0], won[1], groups, seed=0)
    same, mine, other = (float(share.mean()) for share in (won[0] == won[1], *won))
    return Outcomes(same, mine, other, (between.value, between.low, between.high))


def speed(ours: AttackModel, theirs: AttackModel, x: np.ndarray, labels: np.ndarray, size: int, rounds: int) -> Speed:
    """Images a second of each in turn, after one batch that does not count. Torch takes tensors, as it would."""
    batch, criterion = x[:size], Untargeted(labels[:size])
    tensors, rates, ratios = torch.from_numpy(batch), [], []
    for round_number in range(rounds + 1):
        seconds, spent = [], []
        for model, given in ((ours, batch), (theirs, tensors)):
            start, started = time.perf_counter(), time.process_time()
            model.evaluate(given, criterion)
            seconds.append(time.perf_counter() - start)
            spent.append(time.process_time() - started)
        if round_number:
            rates.append((len(batch) / seconds[0], len(batch) / seconds[1]))
            ratios.append((seconds[1] / seconds[0], spent[1] / spent[0]))
    mine, other = (statistics.median(column) for column in zip(*rates, strict=True))
    clock, processor = ((statistics.median(c), min(c), max(c)) for c in zip(*ratios, strict=True))
    return Speed(len(batch), rounds, mine, other, clock, processor)


if __name__ == "__main__":
    main()
