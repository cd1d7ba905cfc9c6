"""Inference backends: one protocol, one visible table of makers, and a choice that is always announced.

ONNX Runtime is the default. The torch twin answers through the entry-point group `lisard_ros.twin`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lisard_ros.backends import onnx_runtime, torch_twin
from lisard_ros.bundle import Bundle
from lisard_ros.errors import UsageError, unknown_name

AUTO = "auto"
MAX_THREADS = 256


class Backend(Protocol):
    """Runs the network. `infer` takes float32 [N, 3, H, W] and gives float32 [N, ...]; any N >= 1."""

    name: str
    description: str

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on a batch; BackendError when the runtime refuses."""

    def close(self) -> None:
        """Free the model; `infer` must not be called afterwards."""


MAKERS: dict[str, Callable[[Bundle, int], Backend]] = {
    "onnxruntime": onnx_runtime.OnnxRuntime,
    "torch": torch_twin.TorchTwin,
}
POLICIES = (AUTO, *MAKERS)


@dataclass(frozen=True, slots=True)
class Choice:
    """A ready backend and the reason why it was taken, for logs and diagnostics."""

    backend: Backend
    reason: str


def default_threads() -> int:
    """Threads when nobody says: all cores but one, which DDS and the driver need; at most 4."""
    return max(1, min(4, len(os.sched_getaffinity(0)) - 1))


def choose(bundle: Bundle, policy: str = AUTO, threads: int = 0) -> Choice:
    """Make the backend that `policy` names, or for `auto` the best one that this machine can run.

    threads: 0 means `default_threads()`. A backend asked for by name is never replaced by another.
    """
    if not 0 <= threads <= MAX_THREADS:
        raise UsageError("number of threads out of range", found=threads, expected=f"0 (automatic) to {MAX_THREADS}")
    count = threads or default_threads()
    if policy == AUTO:
        reason = "auto: ONNX Runtime on the CPU runs every bundle; TensorRT plans are not part of this release"
        return Choice(MAKERS["onnxruntime"](bundle, count), reason)
    if policy not in MAKERS:
        raise unknown_name("backend", policy, POLICIES)
    return Choice(MAKERS[policy](bundle, count), f"{policy}: asked for by name")
