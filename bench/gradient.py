"""Compares the gradient file of a shipped bundle with torch's autograd: speed, signs, and who wins with PGD-10.

    lisard build models/traffic_signs --variants none --gradient
    python bench/gradient.py --threads 2
    python bench/gradient.py --bundle road_signs --threads 2 --batch 8

Both compute in float32 with the same threads on the same images and random starts. They take turns on each batch, so
that other work on the machine meets both. A classifier's images are the shipped tracks and the bundle's reference
images, each once; a detector's the frames of data/road_signs, with their true boxes and the loss of `attack/pgd10`.
An image counts as fooled when its class is another, of a detector when a true box is not found any more.
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
from lisard_ros.attacks.model import AttackModel, Criterion, pick
from lisard_ros.attacks.objective import fooled
from lisard_ros.backends.pytorch import load_network
from lisard_ros.bags.reader import open_bag
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import TrueBox
from lisard_ros.evaluation.statistics import paired_difference
from lisard_ros.inference.preprocess import prepare
from lisard_trainer.tasks.detection.attack_model import DetectorAttackModel
from lisard_trainer.tasks.detection.attack_targets import criterion_of

ROOT = Path(__file__).resolve().parent.parent
TRACKS, SCENES = ROOT / "data" / "gtsrb_tracks", ROOT / "data" / "road_signs"


@dataclass(frozen=True, eq=False)
class Images:
    """Images x [N, 3, H, W] as the network meets them, what is wanted of them, and the track or scene of each."""

    x: np.ndarray
    criterion: Criterion
    groups: tuple[str, ...]


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
    parser.add_argument("--bundle", choices=("traffic_signs", "road_signs"), default="traffic_signs")
    parser.add_argument("--threads", type=int, default=2, help="of each (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="images at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="timed batches of each (default: %(default)s)")
    parser.add_argument("--part", choices=("all", "speed", "outcomes"), default="all", help="(default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bundle = bundles.read(ROOT / "models" / args.bundle)
    ours, network = from_bundle(bundle, threads=args.threads), load_network(bundle)
    theirs: AttackModel = from_torch(network) if bundle.manifest.decode is None else DetectorAttackModel(network)
    images = signs(bundle) if bundle.manifest.decode is None else scenes(bundle)
    figures: dict[str, object] = {
        "bundle": args.bundle,
        "images": len(images.x),
        "threads": args.threads,
        "processor": host_cpu.cpu_name(),
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
    }
    if args.part != "speed":
        figures |= {"same_signs": same_signs(ours, theirs, images)}
        figures |= asdict(compare_outcomes(ours, theirs, images))
    if args.part != "outcomes":
        figures |= asdict(speed(ours, theirs, images, args.batch, args.rounds))
    print(json.dumps(figures, indent=1))


def signs(bundle: Bundle) -> Images:
    """Traffic signs with their classes."""
    shown = image_sets.joined((image_sets.of_bundle(bundle), image_sets.read(TRACKS, bundle.manifest.labels)))
    x = prepare([frame.rgb() for frame in shown.frames], bundle.manifest.input)
    return Images(x, Untargeted(shown.labels.astype(np.int64)), shown.groups)


def scenes(bundle: Bundle) -> Images:
    """Road images with their true boxes, each a scene of its own."""
    labels, frames, truths = bundle.manifest.labels, [], []
    with open_bag(SCENES) as bag:
        for recorded in bag.frames():
            assert recorded.frame is not None and recorded.regions
            frames.append(recorded.frame)
            boxes = ((labels.index(one.label), one.box_xyxy_px) for one in recorded.regions)
            truths.append(tuple(TrueBox(label=label, box_xyxy_px=corners) for label, corners in boxes))
    x = prepare([frame.rgb() for frame in frames], bundle.manifest.input)
    return Images(x, criterion_of(frames, truths, bundle.manifest.input), tuple(map(str, range(len(frames)))))


def same_signs(ours: AttackModel, theirs: AttackModel, images: Images) -> float:
    """Share of all input values whose gradients have the same sign."""
    given = (ours, images.x), (theirs, torch.from_numpy(images.x))
    slopes = [np.asarray(model.evaluate(x, images.criterion).gradient) for model, x in given]
    return float((np.sign(slopes[0]) == np.sign(slopes[1])).mean())


def compare_outcomes(ours: AttackModel, theirs: AttackModel, images: Images) -> Outcomes:
    """PGD-10 with each; both attacked sets are judged by torch."""
    tensors, won = torch.from_numpy(images.x), []
    for model, x in ((ours, images.x), (theirs, tensors)):
        attacked = torch.as_tensor(PGD()(model, x, images.criterion, np.random.default_rng(0)))
        won.append(fooled(theirs.evaluate(attacked, images.criterion, gradient=False).scores, images.criterion))
    between = paired_difference(won[0], won[1], images.groups, seed=0)
    same, mine, other = (float(share.mean()) for share in (won[0] == won[1], *won))
    return Outcomes(same, mine, other, (between.value, between.low, between.high))


def speed(ours: AttackModel, theirs: AttackModel, images: Images, size: int, rounds: int) -> Speed:
    """Images a second of each in turn, after one batch that does not count. Torch takes tensors, as it would."""
    batch, criterion = images.x[:size], pick(images.criterion, slice(size))
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
