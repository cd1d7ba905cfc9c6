"""Images a second of our batch pipeline against a per-image Python loop, and what reading a data set costs.

    python bench/data.py [--data FOLDER ...] [--device cuda]

Both pipelines crop out of zero padding, flip, scale to [0,1] and add the noise of the second view, as published. The
loop does the first three image by image, as PIL transforms do; both draw the noise for the whole batch. They take
turns batch by batch, so that other work on the machine slows both. On a CPU one thread is used and its own CPU time
counts, on a GPU wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lisard_ros import host_cpu
from lisard_trainer import data, provenance
from lisard_trainer.losses import augment

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs" / "results" / "data.json"
IMAGES = ROOT / "data" / "gtsrb_tracks"
SIZE_PX, PADDING_PX = 32, augment.PUBLISHED.crop_padding_px
WARM_UP = 2
LOOP_FIRST, LOOP_BOTH = "per-image loop, clean view", "per-image loop, both views"
OURS_FIRST, OURS_BOTH = "batch pipeline, clean view", "batch pipeline, both views"
Views = Callable[[], Tensor]


@dataclass(frozen=True)
class Speed:
    """Median over the batches of one pipeline."""

    way: str
    seconds_per_batch: float
    images_per_s: float


@dataclass(frozen=True)
class Reading:
    """CPU seconds of reading a data set, against storing and loading its decoded pixels."""

    data: str
    pictures: int
    read_cpu_s: float
    store_cpu_s: float
    stored_read_cpu_s: float


def main() -> None:
    """Measures, prints and writes the result files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", action="append", default=[], help="also measure reading this folder (repeatable)")
    parser.add_argument("--result", type=Path, default=RESULT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    speeds = measure(args.batch, args.rounds, torch.device(args.device))
    result = {
        "schema_version": 1,
        "command": f"bench/data.py --batch {args.batch} --rounds {args.rounds} --device {args.device}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": provenance.commit(),
        "machine": machine(args.device),
        "batch": args.batch,
        "rounds": args.rounds,
        "speeds": [asdict(speed) for speed in speeds],
        "ratios": ratios(speeds),
        "reading": [asdict(reading(folder)) for folder in args.data],
    }
    args.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = report(result)
    args.result.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def measure(batch: int, rounds: int, device: torch.device) -> list[Speed]:
    """All pipelines in turn, so many rounds."""
    ways = pipelines(batch, device)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(WARM_UP + rounds):
        for name, views in ways.items():
            taken = timed(views, device)
            if number >= WARM_UP:
                seconds[name].append(taken)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return [Speed(name, median, batch / median) for name, median in medians.items()]


def timed(views: Views, device: torch.device) -> float:
    """Seconds of one batch: of this process's CPU time, or of wall time until the GPU is done."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    begun = clock()
    views()
    if device.type != "cpu":
        torch.cuda.synchronize(device)
    return clock() - begun


def pipelines(batch: int, device: torch.device) -> dict[str, Views]:
    """Each pipeline as a function that makes one batch of views on the device."""
    dataset = data.read(IMAGES, SIZE_PX)
    kept = dataset.to(device)
    rows = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in dataset.images]
    dice, generator = np.random.default_rng(0), torch.Generator(device).manual_seed(0)

    def loop() -> Tensor:
        chosen = dice.integers(len(rows), size=batch)
        return torch.stack([one_by_hand(rows[number], dice) for number in chosen]).to(device)

    def ours() -> Tensor:
        chosen = torch.randint(len(kept), (batch,), generator=generator, device=device)
        return augment.clean_view(kept.images[chosen.to(kept.images.device)], augment.PUBLISHED, generator, SIZE_PX)

    def with_noise(first: Views) -> Tensor:
        return augment.noisy_view(first(), augment.Noise(), generator)

    return {
        LOOP_FIRST: loop,
        LOOP_BOTH: lambda: with_noise(loop),
        OURS_FIRST: ours,
        OURS_BOTH: lambda: with_noise(ours),
    }


def one_by_hand(image: np.ndarray, dice: np.random.Generator) -> Tensor:
    """uint8 [H,W,3] -> float32 [3,H,W]: a random crop out of zero padding, a flip, and the change to a tensor."""
    height, width = image.shape[:2]
    padded = np.zeros((height + 2 * PADDING_PX, width + 2 * PADDING_PX, 3), np.uint8)
    padded[PADDING_PX : PADDING_PX + height, PADDING_PX : PADDING_PX + width] = image
    top, left = dice.integers(2 * PADDING_PX + 1, size=2)
    piece = padded[top : top + height, left : left + width]
    if dice.random() < 0.5:
        piece = piece[:, ::-1]
    return torch.from_numpy(np.ascontiguousarray(piece.transpose(2, 0, 1))).float().div(255)


def ratios(speeds: Sequence[Speed]) -> dict[str, float]:
    """How many times as fast the batch pipeline is."""
    found = {speed.way: speed.images_per_s for speed in speeds}
    return {"clean view": found[OURS_FIRST] / found[LOOP_FIRST], "both views": found[OURS_BOTH] / found[LOOP_BOTH]}


def reading(folder: str) -> Reading:
    """Reads a data set as a training does, then stores its pixels and reads them back."""
    begun = time.process_time()
    split = data.load(data.Data(), folder)
    read = time.process_time() - begun
    pixels = torch.cat([split.train.images, split.validation.images]).numpy()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "pixels.npz"
        begun = time.process_time()
        np.savez(path, pixels=pixels)
        stored = time.process_time() - begun
        begun = time.process_time()
        with np.load(path) as content:
            assert content["pixels"].shape == pixels.shape
        return Reading(Path(folder).name, len(pixels), read, stored, time.process_time() - begun)


def machine(device: str) -> dict[str, object]:
    """What it ran on."""
    name = torch.cuda.get_device_name(device) if device != "cpu" else host_cpu.cpu_name()
    load = round(os.getloadavg()[0], 1)
    return {
        "device": name,
        "cores": os.cpu_count(),
        "load_1min": load,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def report(result: dict) -> str:
    """The result as Markdown."""
    m, clock = result["machine"], "a second" if "--device cpu" not in result["command"] else "a CPU second"
    rows = [f"| {s['way']} | {s['images_per_s']:,.0f} |" for s in result["speeds"]]
    lines = [
        "# Figures of the data pipeline\n",
        "Generated by bench/data.py. Views as published: crop out of zero padding, flip, [0,1]; then the noisy view.\n",
        f"| pipeline | images {clock} |\n|---|---|",
        *rows,
        "\nThe batch pipeline makes "
        + " and ".join(f"{ratio:.1f} times as many ({what})" for what, ratio in result["ratios"].items())
        + f". Batches of {result['batch']}, medians of {result['rounds']}, in turn; "
        + "the noise is the same work in both.\n",
    ]
    if result["reading"]:
        lines += [
            "| reading | images | CPU s | to store the pixels, CPU s | to read them back, CPU s |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {r['data']} | {r['pictures']:,} | {r['read_cpu_s']:.1f} | {r['store_cpu_s']:.1f} | "
            f"{r['stored_read_cpu_s']:.1f} |"
            for r in result["reading"]
        ]
        lines += [
            "\nDecoded pixels are not cached: seconds saved once a run do not pay for files that can be out of date.\n"
        ]
    origin = f"`{result['command']}` · {result['date']} · commit {result['commit'][:10]} · {m['device']}, one thread, "
    return "\n".join(lines) + f"\n{origin}load {m['load_1min']} · torch {m['torch']} · Python {m['python']}\n"


if __name__ == "__main__":
    main()
