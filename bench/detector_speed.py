"""The detector against a plain FCOS of 3 GFLOP, both as ONNX files in ONNX Runtime, in turns, in one run.

    python bench/detector_speed.py [models/road_signs]

The peer: a ResNet-14 (widths 32, 64, 128; two blocks per stage) behind a stem of stride 4, one more stage of stride 2,
a pyramid of 72 channels at strides 8, 16 and 32, towers of three 3x3 convolutions shared by all levels (Tian et al.
2019, arXiv 1904.01355), decoded boxes and eight classes: 3.0 GFLOP at 320x320 (a multiplication and an addition count
as two). Without a bundle the untrained network of trainer/recipes/road_signs.yaml is measured: time does not depend on
weights.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lisard_ros import bundle as bundles
from lisard_ros import host_cpu
from lisard_ros.evaluation.statistics import percentiles
from lisard_trainer import provenance, recipes
from lisard_trainer.backbones.activations import ACTIVATIONS
from lisard_trainer.backbones.layers import conv_norm
from lisard_trainer.backbones.resnet import resnet
from lisard_trainer.tasks.classification.export import INPUT, to_onnx
from lisard_trainer.tasks.detection import network as networks
from lisard_trainer.tasks.detection.network import spec_of

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "trainer" / "recipes" / "road_signs.yaml"
RESULTS = ROOT / "docs" / "results" / "detector_speed.json"
SIDE_PX, CLASSES, WIDTH, TOWER = 320, 8, 72, 3
WIDTHS, COUNTS = (32, 64, 128, 256), (2, 2, 2, 1)
ASKED = 1.2
WARM_UP = 10


@dataclass(frozen=True)
class Contender:
    """One network. Times of one image in ms; gflop as two per multiplication and addition."""

    name: str
    gflop: float
    parameters: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Result:
    """Median of the ratios of every round (detector by peer), and the ratio of the medians."""

    schema: int
    commit: str
    date: str
    device: str
    threads: int
    rounds: int
    detector: Contender
    peer: Contender
    ratio_of_rounds: float
    ratio: float
    asked: float


class Fcos(nn.Module):
    """The peer. RGB [N,3,320,320] in [0,1] -> [N,2100,4+1+8]: corners in pixels, centreness, classes."""

    def __init__(self) -> None:
        super().__init__()
        act = ACTIVATIONS["relu"]
        self.backbone = resnet(1, act, widths=WIDTHS, counts=COUNTS, quarter=True)
        self.backbone.head = self.backbone.last = nn.Identity()
        self.lateral = nn.ModuleList(nn.Conv2d(width, WIDTH, 1) for width in WIDTHS[1:])
        self.smooth = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in WIDTHS[1:])
        self.towers = nn.ModuleList(
            nn.Sequential(*(conv_norm(WIDTH, WIDTH, 3, act=act) for _ in range(TOWER))) for _ in range(2)
        )
        self.classes = nn.Conv2d(WIDTH, CLASSES, 3, padding=1)
        self.boxes = nn.Conv2d(WIDTH, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        _, *maps = self.backbone.features(x)
        sides = [lateral(found) for lateral, found in zip(self.lateral, maps, strict=True)]
        for level in (1, 0):
            sides[level] = sides[level] + nn.functional.interpolate(sides[level + 1], scale_factor=2.0)
        rows = []
        for stride, smooth, side in zip(networks.STRIDES, self.smooth, sides, strict=True):
            level = smooth(side)
            boxes, classes = self.boxes(self.towers[0](level)), self.classes(self.towers[1](level))
            rows.append(torch.cat([_corners(boxes[:, :4], stride), boxes[:, 4:], classes], 1).flatten(2))
        return torch.cat(rows, 2).transpose(1, 2)


def _corners(raw: Tensor, stride: int) -> Tensor:
    """Logarithms of the distances to the four sides, in strides -> corners in pixels."""
    places = (torch.arange(raw.shape[2]) + 0.5) * stride
    y, x = torch.meshgrid(places, places, indexing="ij")
    left, top, right, bottom = (raw.clamp(max=5).exp() * stride).unbind(1)
    return torch.stack([x - left, y - top, x + right, y + bottom], 1)


def contenders(bundle: str | None) -> tuple[tuple[str, nn.Module, bytes], tuple[str, nn.Module, bytes]]:
    """Name, network and ONNX file of the detector and of the peer."""
    torch.manual_seed(0)
    peer = Fcos().eval()
    if bundle:
        loaded = bundles.read(bundle)
        assert loaded.manifest.architecture is not None
        own = networks.build(loaded.manifest.architecture)
        model = loaded.data(loaded.manifest.models[0].file)
        return (bundle, own, model), ("FCOS", peer, to_onnx(peer, SIDE_PX))
    recipe = recipes.read(RECIPE)
    own = networks.create(spec_of(recipe, 4)).eval()
    return (f"{recipe.network}, untrained", own, to_onnx(own, SIDE_PX)), ("FCOS", peer, to_onnx(peer, SIDE_PX))


def gflop(network: nn.Module) -> float:
    """Of one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, SIDE_PX, SIDE_PX))
    return counter.get_total_flops() / 1e9


def race(models: Sequence[bytes], threads: int, rounds: int) -> list[list[float]]:
    """Milliseconds of every round, one list per model; each round asks every model once, in turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    sessions = [onnxruntime.InferenceSession(m, options, providers=["CPUExecutionProvider"]) for m in models]
    x = np.random.default_rng(0).random((1, 3, SIDE_PX, SIDE_PX), np.float32)
    times: list[list[float]] = [[] for _ in models]
    for number in range(WARM_UP + rounds):
        for session, own in zip(sessions, times, strict=True):
            begun = time.perf_counter()
            session.run(None, {INPUT: x})
            if number >= WARM_UP:
                own.append((time.perf_counter() - begun) * 1e3)
    return times


def contender(name: str, network: nn.Module, times_ms: Sequence[float]) -> Contender:
    """Size and speed of one network."""
    count = sum(p.numel() for p in network.parameters())
    times = percentiles(times_ms)
    return Contender(name, round(gflop(network), 3), count, round(times.p50_ms, 2), round(times.p95_ms, 2))


def main() -> int:
    """Measures, writes the result and prints it; exit status 1 if the detector is slower than asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", help="a detection bundle for 320x320 (default: the recipe's network)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    both = contenders(args.bundle)
    times = race([model for _, _, model in both], args.threads, args.rounds)
    own, peer = (contender(name, network, t) for (name, network, _), t in zip(both, times, strict=True))
    rounds = statistics.median(mine / other for mine, other in zip(*times, strict=True))
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    result = Result(
        1,
        provenance.commit(),
        today,
        host_cpu.cpu_name(),
        args.threads,
        args.rounds,
        own,
        peer,
        round(rounds, 3),
        round(own.p50_ms / peer.p50_ms, 3),
        ASKED,
    )
    args.out.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    print(json.dumps(asdict(result), indent=1))
    return int(result.ratio > ASKED)


if __name__ == "__main__":
    sys.exit(main())
