"""Whether cameras share a batch: only where a batch is faster for each image than one image after the other.

On most CPUs it is not, and every camera of a batch would wait for the whole of it; on a GPU it mostly is. Measured once
for each model, backend and machine, and kept in the cache.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from lisard_ros import host_cpu
from lisard_ros.backends import engine_cache
from lisard_ros.inference.pipeline import Pipeline

REPEATS = 3
MOST_IMAGES = 8  # of a shared batch; more cameras take turns
FASTER = 0.9  # a batch must take less than this share of the time of its images one by one


class BatchTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Measured medians in milliseconds: one image alone, and a batch of `images`."""

    images: int
    alone_ms: float
    batch_ms: float


@dataclass(frozen=True, slots=True)
class BatchChoice:
    """How many images, of different cameras, are answered together at most, and why."""

    images: int
    reason: str


def choose(pipeline: Pipeline, cameras: int) -> BatchChoice:
    """Decide whether `cameras` share batches of the network that sees whole frames.

    The cache is a help, never a need: where it cannot be read or written, the times are measured again.
    """
    images = min(cameras, MOST_IMAGES)
    if images <= 1:
        return BatchChoice(1, "one camera")
    first = pipeline.detector or pipeline
    file = _file(first, images)
    try:
        times = msgspec.json.decode(file.read_bytes(), type=BatchTimes)
    except (OSError, msgspec.DecodeError):
        times = _measured(first, images)
        engine_cache.keep(file, msgspec.json.encode(times))
    each_ms = times.batch_ms / times.images
    measured = f"{times.alone_ms:.1f} ms alone, {each_ms:.1f} ms each in a batch of {times.images}"
    if each_ms < FASTER * times.alone_ms:
        return BatchChoice(times.images, f"cameras share a batch: {measured}")
    return BatchChoice(1, f"cameras take turns: {measured}")


def _measured(pipeline: Pipeline, images: int) -> BatchTimes:
    spec = pipeline.bundle.manifest.input
    # Random images: zeros would let an operator with a short cut look fast.
    x = np.random.default_rng(0).random((images, 3, spec.height, spec.width), np.float32)
    took_ms: dict[int, list[float]] = {1: [], images: []}
    for turn in range(REPEATS + 1):
        for size, values in took_ms.items():
            begin_s = time.perf_counter()
            pipeline.choice.backend.infer(x[:size])
            if turn:  # the first of each size allocates
                values.append((time.perf_counter() - begin_s) * 1e3)
    return BatchTimes(images=images, alone_ms=median(took_ms[1]), batch_ms=median(took_ms[images]))


def _file(pipeline: Pipeline, images: int) -> Path:
    """Name the file of these times after everything that decides them."""
    key = (pipeline.bundle.sha256, pipeline.choice.backend.description, images, *host_cpu.identity())
    return engine_cache.cache_root() / "batches" / (hashlib.sha256(repr(key).encode()).hexdigest() + ".json")
