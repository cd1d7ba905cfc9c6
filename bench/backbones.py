"""What each backbone costs: training images per second, peak memory and inference time, one network after the other.

Run: python bench/backbones.py [--device cuda --batch 256]
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional

from lisard_ros import host_cpu
from lisard_trainer import backbones, provenance

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results/backbones.json"
MB = 2**20
NOISE = 0.177123  # deviation of the second view; its size does not change the cost
BIG = 30_000_000  # networks with more parameters get half the batch


@dataclass(frozen=True)
class Settings:
    """What all networks have in common. least_s: timed steps go on until they took so long (at least one)."""

    device: str
    batch: int
    size_px: int
    threads: int
    classes: int
    least_s: float


@dataclass(frozen=True)
class Row:
    """One network. An image is trained in two views; memory is in MiB, beyond what the process held without it."""

    network: str
    activation: str
    parameters: int
    width: int
    batch: int
    steps: int
    pictures_per_s: float
    peak_mb: float
    kept_mb_per_picture: float
    inference_ms: float


def chosen() -> list[str]:
    """Networks whose cost differs from all others': published variants of the same layers are left out."""
    same = {"wrn28_10_published", "vgg19_bn_published", "mobilenet_v2_published"}
    return [name for name in backbones.BACKBONES if name not in same]


def measure(name: str, settings: Settings) -> Row:
    """Trains and asks one fresh network; meant for a process of its own, whose peak memory is then the network's."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    held_mb = _held_mb(settings)
    network = backbones.create(name, settings.classes, settings.size_px).to(settings.device)
    network = network.to(memory_format=torch.channels_last)
    count = sum(p.numel() for p in network.parameters())
    batch = settings.batch // 2 if count > BIG else settings.batch
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    kept = Kept(network)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        step(network, optimizer, batch, settings)
    durations = list(_repeat(partial(step, network, optimizer, batch, settings), settings))
    return Row(
        network=name,
        activation=network.spec.activation,
        parameters=count,
        width=network.width,
        batch=batch,
        steps=len(durations),
        pictures_per_s=batch * len(durations) / sum(durations),
        peak_mb=_peak_mb(settings.device) - held_mb,
        kept_mb_per_picture=kept.total / MB / batch,
        inference_ms=1000 * inference_s(network, settings),
    )


def step(network: nn.Module, optimizer: torch.optim.Optimizer, batch: int, settings: Settings) -> None:
    """One training step on random images: both views in one batch, cross entropy, backward, SGD."""
    clean = torch.rand(batch, 3, settings.size_px, settings.size_px, device=settings.device)
    views = torch.cat([clean, clean + NOISE * torch.randn_like(clean)]).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(settings.classes, (batch,), device=settings.device).repeat(2)
    optimizer.zero_grad(set_to_none=True)
    functional.cross_entropy(network(views)[1], labels).backward()
    optimizer.step()


def inference_s(network: nn.Module, settings: Settings) -> float:
    """Median time of one image in eval mode, after one call to warm up."""
    network.eval()
    x = torch.rand(1, 3, settings.size_px, settings.size_px, device=settings.device)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(x)
        return statistics.median(_repeat(lambda: network(x), settings, least=5))


class Kept:
    """Counts the bytes that autograd keeps for the backward pass, each memory block once, weights left out."""

    def __init__(self, network: nn.Module) -> None:
        self._weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
        self._blocks: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        block = tensor.untyped_storage()
        if block.data_ptr() not in self._weights:
            self._blocks[block.data_ptr()] = block.nbytes()
        return tensor

    @property
    def total(self) -> int:
        return sum(self._blocks.values())


def _repeat(call: Callable[[], object], settings: Settings, least: int = 1, most: int = 50) -> Iterator[float]:
    """Seconds of each call."""
    total, count = 0.0, 0
    while count < least or (total < settings.least_s and count < most):
        begin = _now_s(settings.device)
        call()
        spent = _now_s(settings.device) - begin
        total, count = total + spent, count + 1
        yield spent


def _now_s(device: str) -> float:
    """Processor time of this process (others on the machine don't change it), or wall time once the GPU is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _held_mb(settings: Settings) -> float:
    """Memory of the process once torch has loaded what any training step needs."""
    if settings.device != "cpu":
        return 0.0
    network = backbones.create("resnet8", settings.classes)
    step(network, torch.optim.SGD(network.parameters(), lr=0.01), 1, settings)
    return psutil.Process().memory_info().rss / MB


def _peak_mb(device: str) -> float:
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return torch.cuda.max_memory_allocated() / MB


def machine(device: str) -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else host_cpu.cpu_name(),
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


HEAD = """# Cost of the backbones

Generated from backbones.json by bench/backbones.py. One training step: both views of each image in one batch, cross
entropy, backward, SGD with momentum; {size} px, {classes} classes, float32, channels_last, random images, no loading.
{clock}

- *images/s*: images trained per second; each passes twice, clean and noisy.
- *peak*: largest memory of the process while training at the stated batch, beyond what it held before; MiB.
- *kept*: what autograd keeps per image (two views) for the backward pass, whatever the device; MiB. With 12 bytes a
  parameter for weights, gradients and momentum it tells how large a batch fits.
- *inference*: one image, torch in eval mode, median; what a vehicle runs is the ONNX file.

| network | activation | parameters, M | d | batch | images/s | peak, MiB | kept, MiB | inference, ms |
|---|---|---|---|---|---|---|---|---|
"""
CPU_CLOCK = """Seconds are processor time of {threads} thread(s): the machine was shared with other work, which wall
time would measure too. Caches and memory were shared as well, so an idle core may be faster."""
GPU_CLOCK = "Seconds are wall time, the GPU's work included."


def table(result: dict[str, Any]) -> str:
    """The Markdown page."""
    common, where = result["settings"], result["machine"]
    clock = (CPU_CLOCK if common["device"] == "cpu" else GPU_CLOCK).format(threads=common["threads"])
    lines = [HEAD.format(size=common["size_px"], classes=common["classes"], clock=clock)]
    lines += [_line(Row(**row)) + "\n" for row in result["rows"]]
    lines.append(
        f"\n`{result['command']}` · {result['date']} · commit {result['commit'][:10]} · {where['device']}, "
        f"{where['cores']} cores, load {where['load_1min']} at the end · torch {where['torch']} · whole run "
        f"{result['wall_s']:.0f} s\n"
    )
    return "".join(lines)


def _line(row: Row) -> str:
    cells = [
        row.network,
        row.activation,
        f"{row.parameters / 1e6:.2f}",
        str(row.width),
        str(row.batch),
        f"{row.pictures_per_s:.3g}",
        f"{row.peak_mb:.0f}",
        f"{row.kept_mb_per_picture:.2f}",
        f"{row.inference_ms:.3g}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    """Measure every network in a process of its own and write JSON and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=chosen(), help="names (default: all that differ in cost)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=8, help="images a step; half of it above 30 M parameters")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--least-s", type=float, default=0.3, help="time at least so long (at least one step)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    settings = Settings(given.device, given.batch, given.size, given.threads, 10, given.least_s)
    begin, rows = time.monotonic(), []
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for row in pool.imap(partial(measure, settings=settings), given.networks):
            print(_line(row), flush=True)
            rows.append(asdict(row))
    result = {
        "schema_version": 1,
        "command": " ".join(["python bench/backbones.py", *sys.argv[1:]]),
        "commit": provenance.commit(),
        "date": datetime.date.today().isoformat(),
        "machine": machine(given.device),
        "settings": asdict(settings),
        "wall_s": time.monotonic() - begin,
        "rows": rows,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    given.out.with_suffix(".md").write_text(table(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
