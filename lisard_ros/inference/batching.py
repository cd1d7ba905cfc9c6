"""How frames of several cameras use the cores: in shared batches, side by side, or one after the other.

Cameras share a batch only where a batch is faster for each image than one image after the other. On most CPUs it is
not, and every camera of a batch would wait for the whole of it; on a GPU it mostly is. On a CPU two frames that wait
are answered side by side, each on half of the threads, where that is no slower than one after the other on all of
them. Measured once for each model, backend and machine, and kept in the cache.

A frame that comes alone finds the network's threads asleep. Where they wake up late, as in some virtual machines, half
of them may be faster than all; so both are timed after a rest as well.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

import msgspec
import numpy as np

from lisard_ros import host_cpu
from lisard_ros.backends import Backend, engine_cache
from lisard_ros.inference.pipeline import Pipeline

Way: TypeAlias = Callable[[], object]

REPEATS, MOST_REPEATS, ENOUGH_S = 3, 20, 0.2  # small networks are timed more often: their times scatter more
MOST_IMAGES = 8  # of a shared batch; more cameras take turns
FASTER = 0.9  # a batch must take less than this share of the time of its images one by one
# Two frames side by side may take so much longer than one after the other: they make up for it by keeping no core
# waiting, as threads that share one layer do, and they are used only while frames wait.
NO_SLOWER = 1.1
RESTED_REPEATS = 8
REST_S = 0.012  # long enough for the runtime's threads to fall asleep


class BatchTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Measured milliseconds: shortest times of one image alone, of a batch of `images`, and of two images side by side.

    pair_ms: 0 where the backend cannot infer side by side. rested_ms, rested_half_ms: root mean square of one image
    after a rest, on all threads and on half of them; 0 like `pair_ms`.
    """

    images: int
    alone_ms: float
    batch_ms: float
    pair_ms: float
    rested_ms: float
    rested_half_ms: float


@dataclass(frozen=True, slots=True)
class BatchChoice:
    """How many images, of different cameras, are answered together at most, and why.

    side_by_side: two batches are inferred at the same time while frames wait. rested_ms, rested_half_ms: then what one
    image takes after a rest, on all threads and on half of them.
    """

    images: int
    reason: str
    side_by_side: bool = False
    rested_ms: float = 0.0
    rested_half_ms: float = 0.0


def choose(pipeline: Pipeline, cameras: int) -> BatchChoice:
    """Decide how `cameras` use the network that sees whole frames.

    The model for frames side by side is loaded only where it is measured or chosen. The cache is a help, never a need:
    where it cannot be read or written, the times are measured again.
    """
    batch = _choose(pipeline, cameras)
    choice = pipeline.choice
    pipeline.choice = choice.with_halved() if batch.side_by_side else choice.without_halved()
    return batch


def _choose(pipeline: Pipeline, cameras: int) -> BatchChoice:
    images = min(cameras, MOST_IMAGES)
    first = pipeline.detector or pipeline
    halves = pipeline.detector is None and pipeline.choice.can_halve
    if images <= 1 and not halves:
        return BatchChoice(1, "one camera")
    file = _file(first, images, halves)
    try:
        times = msgspec.json.decode(file.read_bytes(), type=BatchTimes)
    except (OSError, msgspec.DecodeError):
        if halves:
            pipeline.choice = pipeline.choice.with_halved()
        times = _measured(first, images)
        engine_cache.keep(file, msgspec.json.encode(times))
    each_ms = {"in a batch of " + str(times.images): times.batch_ms / times.images, "side by side": times.pair_ms / 2}
    measured = ", ".join(f"{ms:.1f} ms each {way}" for way, ms in each_ms.items() if ms)
    measured = f"{times.alone_ms:.1f} ms alone, {measured}"
    batch_ms, pair_ms = each_ms.values()
    if images > 1 and batch_ms < FASTER * times.alone_ms and not 0 < pair_ms < batch_ms:
        return BatchChoice(times.images, f"cameras share a batch: {measured}")
    if 0 < pair_ms < NO_SLOWER * times.alone_ms:
        rested = f"after a rest {times.rested_ms:.1f} ms on all threads, {times.rested_half_ms:.1f} ms on half of them"
        return BatchChoice(
            1,
            f"two frames side by side while more wait: {measured}; {rested}",
            side_by_side=True,
            rested_ms=times.rested_ms,
            rested_half_ms=times.rested_half_ms,
        )
    return BatchChoice(1, f"one frame after the other: {measured}")


def _measured(pipeline: Pipeline, images: int) -> BatchTimes:
    """Measure each way, in turns."""
    spec, choice = pipeline.bundle.manifest.input, pipeline.choice
    # Random images: zeros would let an operator with a short cut look fast.
    x = np.random.default_rng(0).random((images, 3, spec.height, spec.width), np.float32)
    backend, halved = choice.backend, choice.halved
    ways: list[Way] = [lambda: backend.infer(x[:1]), lambda: backend.infer(x)]
    if halved is None:
        alone, batch = _took_ms(ways)
        return BatchTimes(
            images=images, alone_ms=min(alone), batch_ms=min(batch), pair_ms=0.0, rested_ms=0.0, rested_half_ms=0.0
        )
    alone, batch, pair = _took_ms([*ways, lambda: _pair(halved, x[:1])])
    rested, rested_half = _rested_ms([ways[0], lambda: halved.infer(x[:1])])
    return BatchTimes(
        images=images,
        alone_ms=min(alone),
        batch_ms=min(batch),
        pair_ms=min(pair),
        rested_ms=root_mean_square(rested),
        rested_half_ms=root_mean_square(rested_half),
    )


def _took_ms(ways: Sequence[Way]) -> list[list[float]]:
    """Time each way, in turns, one right after the other; returns the milliseconds of each.

    The shortest of them is what this machine can do: others may want it while the node starts.
    """
    for way in ways:
        way()  # the first of each allocates
    took_ms: list[list[float]] = [[] for _ in ways]
    end_s = time.perf_counter() + ENOUGH_S
    while len(took_ms[0]) < REPEATS or (len(took_ms[0]) < MOST_REPEATS and time.perf_counter() < end_s):
        for way, values in zip(ways, took_ms, strict=True):
            values.append(_once_ms(way))
    return took_ms


def _rested_ms(ways: Sequence[Way]) -> list[list[float]]:
    """Time each way after a rest, in turns; returns the milliseconds of each."""
    took_ms: list[list[float]] = [[] for _ in ways]
    for _ in range(RESTED_REPEATS):
        for way, values in zip(ways, took_ms, strict=True):
            time.sleep(REST_S)
            values.append(_once_ms(way))
    return took_ms


def _once_ms(way: Way) -> float:
    begin_s = time.perf_counter()
    way()
    return (time.perf_counter() - begin_s) * 1e3


def root_mean_square(values: Sequence[float]) -> float:
    """Return a mean in which a late answer counts for more than an early one makes up for."""
    return math.sqrt(fmean(value * value for value in values))


def _pair(backend: Backend, x: np.ndarray) -> None:
    """Infer the same images twice at the same time."""
    other = threading.Thread(target=backend.infer, args=(x,))
    other.start()
    backend.infer(x)
    other.join()


def _file(pipeline: Pipeline, images: int, halves: bool) -> Path:
    """Name the file of these times after everything that decides them."""
    choice = pipeline.choice
    key = (pipeline.bundle.sha256, choice.backend.description, halves, images, *host_cpu.identity())
    return engine_cache.cache_root() / "batches" / (hashlib.sha256(repr(key).encode()).hexdigest() + ".json")
