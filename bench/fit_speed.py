"""Images a second of our training step against the published loop's way, in one run, on one net, batch and machine.

    python bench/fit_speed.py                          # CPU, about a minute on a free core
    python bench/fit_speed.py --network resnet18 --batch 256 --device cuda \\
        --json docs/results/fit_speed_gpu.json

Published way: each image augmented alone in Python, float32, NCHW, two forward passes, plain torch. The ways take
turns step by step, so that other work on the machine slows all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lisard_ros import host_cpu
from lisard_trainer import backbones, data, provenance, recipes
from lisard_trainer.losses import augment, lisard
from lisard_trainer.training import distributed, loop, state

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs" / "results" / "fit_speed.json"
IMAGES = ROOT / "data" / "gtsrb_tracks"
PADDING_PX = 4
WARM_UP = 2
PUBLISHED, READY = "published way", "published way, images ready"
READY_16 = "published way, 16 bit, images ready"  # of a GPU, where the published code trains so
SAME_LOSS, OURS = "ours, float32, separate", "ours, default"
BFLOAT16, SMALL = "ours, bfloat16", "ours, 24 px"
APART, LINEAR = "ours, separate", "ours, linear term"
WORDS = {
    PUBLISHED: "per-image Python augmentation, float32, NCHW, two forward passes",
    READY: "its step alone, as if loader processes kept up: images augmented once, on the device",
    READY_16: "the same under autocast to float16 with a scaled loss",
    SAME_LOSS: "batch augmentation, float32, channels last, two forward passes (the faithful recipe's step)",
    OURS: "batch augmentation, fastest arithmetic, channels last, both views in one pass",
    BFLOAT16: "the same in bfloat16",
    APART: "default with two forward passes, as the shipped first stage",
    LINEAR: "that with the linear term on half of the images, as own_images and the shipped second stage",
    SMALL: "default at 24 x 24, as recipes with early_px: 24 do for part of a run: other images, so no like for like",
}
# What each of our ways has otherwise than the default.
CHANGES: dict[str, dict[str, Any]] = {
    SAME_LOSS: {"forward": "separate", "precision": "float32", "similarity": {"form": "official"}},
    OURS: {},
    BFLOAT16: {"precision": "bfloat16"},
    APART: {"forward": "separate"},
    LINEAR: {
        "forward": "separate",
        "gradient": {"form": "logit_extrapolation", "weight": 0.5, "share": 0.5, "distance_255": 0.5},
    },
    SMALL: {"augment": {**asdict(augment.PUBLISHED), "early_px": 24, "early_share": 1.0}},
}
Step = Callable[[], None]


@dataclass(frozen=True)
class Speed:
    """Medians over the steps of one way; CPU seconds are those of this process's threads."""

    way: str
    words: str
    precision: str
    wall_s: float
    cpu_s: float
    images_per_s: float
    images_per_cpu_s: float


def main() -> None:
    """Measures, prints and writes the result files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet14n")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = measure(args)
    report = {
        "schema_version": 1,
        "command": f"python bench/fit_speed.py --network {args.network} --batch {args.batch} "
        f"--steps {args.steps} --device {args.device} --threads {args.threads}",
        "commit": provenance.commit(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(args.device),
        "torch": torch.__version__,
        "niceness": os.nice(0),
        "network": args.network,
        "batch": args.batch,
        "steps": args.steps,
        "device": args.device,
        "threads": args.threads,
        "ways": [asdict(speed) for speed in found],
    }
    args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    text = markdown(report)
    args.json.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def machine(device: str) -> dict[str, object]:
    """Where it was measured."""
    gpu = {"gpu": torch.cuda.get_device_name()} if device != "cpu" else {}
    return {"cpu": host_cpu.cpu_name(), "cores": os.cpu_count(), "load_1min": round(os.getloadavg()[0], 1), **gpu}


def measure(args: argparse.Namespace) -> list[Speed]:
    """Every way, in turns."""
    dataset = data.read(IMAGES, 32)
    runs = {name: ours(dataset, args, name) for name in CHANGES}
    ways: dict[str, Step] = {PUBLISHED: published(dataset, args), READY: published(dataset, args, ready=True)}
    if args.device != "cpu":
        ways[READY_16] = published(dataset, args, ready=True, half=True)
    ways |= {name: stepper(run, args.batch) for name, run in runs.items()}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(args.steps + WARM_UP):
        for name, step in ways.items():
            begun, spent = time.perf_counter(), time.process_time()
            step()
            if args.device != "cpu":
                torch.cuda.synchronize()
            if turn >= WARM_UP:
                wall[name].append(time.perf_counter() - begun)
                cpu[name].append(time.process_time() - spent)
    precisions = {PUBLISHED: "float32", READY: "float32", READY_16: "float16"}
    precisions |= {name: run.precision for name, run in runs.items()}
    return [_speed(name, precisions[name], wall[name], cpu[name], args.batch) for name in ways]


def _speed(name: str, precision: str, wall: list[float], cpu: list[float], batch: int) -> Speed:
    wall_s, cpu_s = statistics.median(wall), statistics.median(cpu)
    return Speed(name, WORDS[name], precision, wall_s, cpu_s, batch / wall_s, batch / cpu_s)


def ours(dataset: data.ImageDataset, args: argparse.Namespace, name: str) -> loop.Run:
    """A run of the trainer, ready to step."""
    settings = {
        "name": "speed",
        "network": args.network,
        "augment": asdict(augment.PUBLISHED),
        "similarity": {"form": "normalised"},
        "optimizer": {"batch_size": args.batch, "epochs": 20},
    }
    recipe = recipes.from_mapping(settings | CHANGES[name])
    split = data.Split(dataset, dataset.take(np.arange(2)))
    run = state.begin(recipe, split, torch.device(args.device), distributed.Team())
    state.settle(run, loop.choose_precision(run))
    run.network.train()
    return run


def stepper(run: loop.Run, batch: int) -> Step:
    """One step of the trainer on the next batch."""
    parts = _endless(run, batch)

    def step() -> None:
        loop.step(run, next(parts))

    return step


def _endless(run: loop.Run, batch: int) -> Iterator[Tensor]:
    while True:
        yield from data.batches(len(run.split.train), batch, run.generator)


def published(dataset: data.ImageDataset, args: argparse.Namespace, ready: bool = False, half: bool = False) -> Step:
    """The published loop, written plainly: NumPy stands in for Pillow, and no loader processes run beside.

    ready: every step takes the same batch, augmented beforehand. half: float16 where autocast has it.
    """
    network = backbones.create(args.network, len(dataset.classes)).to(args.device).train()
    rates = lisard.rates_official(1000, 25, args.batch)
    groups = [
        {"params": [p for p in network.parameters() if p.ndim != 1], "lr": rates.weights},
        {"params": [p for p in network.parameters() if p.ndim == 1], "lr": rates.one_dim},
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=5e-4)
    stored = dataset.images.permute(0, 2, 3, 1).contiguous().numpy()
    random = np.random.default_rng(0)
    place = [0]

    def batch() -> tuple[Tensor, Tensor]:
        positions = (place[0] + np.arange(args.batch)) % len(stored)
        place[0] += args.batch
        x = torch.stack([_augmented(stored[position], random) for position in positions]).to(args.device)
        return x, dataset.labels[torch.from_numpy(positions)].to(args.device)

    kept, scaler = batch(), torch.amp.GradScaler(args.device, enabled=half)

    def step() -> None:
        x, labels = kept if ready else batch()
        noisy = x + lisard.OFFICIAL_NOISE_VARIANCE**0.5 * torch.randn(x.shape).to(args.device)
        with torch.autocast(x.device.type, torch.float16, enabled=half):
            (z_clean, clean), (z_noisy, noised) = network(x), network(noisy)
            term = lisard.compare(z_clean, z_noisy).barlow() / lisard.OFFICIAL_TEMPERATURE
            both = lisard.cross_entropy(clean, labels), lisard.cross_entropy(noised, labels)
        optimizer.zero_grad()
        scaler.scale(lisard.combine(0.5, *both, term)).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


def _augmented(image: np.ndarray, random: np.random.Generator) -> Tensor:
    """Crop out of zero padding, flip, to float: one image uint8 [H,W,3] -> float32 [3,H,W]."""
    size = len(image)
    top, left = random.integers(0, 2 * PADDING_PX + 1, 2)
    padded = np.pad(image, ((PADDING_PX, PADDING_PX), (PADDING_PX, PADDING_PX), (0, 0)))
    cut = padded[top : top + size, left : left + size]
    cut = cut[:, ::-1] if random.random() < 0.5 else cut
    return torch.from_numpy(np.ascontiguousarray(cut.transpose(2, 0, 1))).float().div(255)


def markdown(report: dict) -> str:
    """The table of the docs."""
    base = report["ways"][0]
    on_cpu = report["device"] == "cpu"
    key = "images_per_cpu_s" if on_cpu else "images_per_s"
    rows = [
        f"| {way['way']} | {way['precision']} | {way['images_per_cpu_s']:.0f} | {way['images_per_s']:.0f} "
        f"| {way[key] / base[key]:.2f} | {way['words']} |"
        for way in report["ways"]
    ]
    compared = "images a CPU second, which other work on the shared machine touches least" if on_cpu else "images/s"
    about = report["machine"]
    intro = (
        f"Generated by bench/fit_speed.py. {report['network']}, batch {report['batch']}, 32 x 32, "
        f"{about.get('gpu', report['device'])}, "
        f"threads: {report['threads']}; medians of {report['steps']} steps, the ways in turns. The factor compares "
        f"{compared}. Both views of an image count as one image."
    )
    origin = (
        f"`{report['command']}` · {report['date']} · commit {provenance.short(report['commit'])} · {about['cpu']}, "
        f"{about['cores']} cores, load {about['load_1min']} · torch {report['torch']} · nice {report['niceness']}"
    )
    head = "| way | arithmetic | images per CPU s | images/s | factor | what it does |\n|---|---|---|---|---|---|"
    return "\n".join(["# Speed of the training step", "", intro, "", head, *rows, "", origin, ""])


if __name__ == "__main__":
    main()
