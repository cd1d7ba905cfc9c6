"""Writes a detection bundle of the road-sign detector's network, untrained, to measure times before one is trained.

    python bench/untrained_detector.py /tmp/untrained

Its last layers are scaled and shifted so that its scores lie as those of a trained detector do: on the frames of
data/road_signs most of the 2100 positions are far below the threshold, and 5 a frame, on average and very unevenly, are
above it. What it finds means nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lisard_ros import bundle as bundles
from lisard_ros.bags.reader import open_bag
from lisard_ros.bundle.manifest import Decode, Manifest, ModelFile, OutputSpec
from lisard_ros.inference.preprocess import prepare
from lisard_trainer.data.detection.scenes import input_spec
from lisard_trainer.tasks.classification.export import MODEL_FILE, to_onnx
from lisard_trainer.tasks.detection import network as networks
from lisard_trainer.tasks.detection.evaluation.metrics import ACTIVATION, LAYOUT
from lisard_trainer.tasks.detection.export import MOST_DETECTIONS, NMS_IOU, OUTPUT, SCORE_THRESHOLD
from lisard_trainer.tasks.detection.geometry import OBJECTNESS
from lisard_trainer.tasks.detection.network import Detector, DetectorSpec

ROOT = Path(__file__).resolve().parent.parent
LABELS = ("trafficlight", "stop", "speedlimit", "crosswalk")
SIDE_PX, FRAMES, SEED = 320, 16, 0
BOXES_PER_FRAME = 5
SPREAD = 2.0  # standard deviation of the logits


def main() -> int:
    """Write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    torch.manual_seed(SEED)
    network = networks.create(DetectorSpec("resnet18q", len(LABELS), SIDE_PX, SIDE_PX)).eval().requires_grad_(False)
    settle(network, images())
    manifest = Manifest(
        name="untrained",
        task="detection",
        labels=LABELS,
        input=input_spec(SIDE_PX, SIDE_PX),
        output=OutputSpec(name=OUTPUT, activation=ACTIVATION),
        models=(ModelFile(file=MODEL_FILE),),
        decode=Decode(layout=LAYOUT, score_threshold=SCORE_THRESHOLD, nms_iou=NMS_IOU, max_detections=MOST_DETECTIONS),
    )
    bundles.write(out, manifest, {MODEL_FILE: to_onnx(network, SIDE_PX, SIDE_PX, OUTPUT)}, overwrite=True)
    return 0


def images() -> Tensor:
    """Frames of data/road_signs as the network sees them."""
    with open_bag(ROOT / "data/road_signs") as bag:
        frames = [item.frame for item, _ in zip(bag.frames(), range(FRAMES), strict=False) if item.frame is not None]
    return torch.from_numpy(prepare([frame.rgb() for frame in frames], input_spec(SIDE_PX, SIDE_PX)))


def settle(network: Detector, x: Tensor) -> None:
    """Bring the logits to one spread, and objectness to a level at which `BOXES_PER_FRAME` scores a frame pass."""
    logits = network(x)[..., OBJECTNESS:].flatten(0, 1)
    gains = SPREAD / logits.std(0)
    shifts = -gains * logits.median(0).values
    centred = logits * gains + shifts
    share = 1 - BOXES_PER_FRAME * len(x) / len(centred)
    # Objectness alone decides how many boxes there are; the search is over its level.
    low, high = -20.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        moved = centred + torch.tensor([middle, *[0.0] * len(LABELS)])
        too_many = float(np.quantile(_best(moved).numpy(), share)) > SCORE_THRESHOLD
        low, high = (low, middle) if too_many else (middle, high)
    shifts[0] += low
    for head in network.heads:
        for layer, part in ((head.objectness, slice(0, 1)), (head.classes, slice(1, None))):
            layer.weight.mul_(gains[part, None, None, None])
            layer.bias.mul_(gains[part]).add_(shifts[part])


def _best(logits: Tensor) -> Tensor:
    chances = logits.sigmoid()
    return chances[:, 0] * chances[:, 1:].max(1).values


if __name__ == "__main__":
    sys.exit(main())
