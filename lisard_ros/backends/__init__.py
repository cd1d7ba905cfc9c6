"""Inference backends: one protocol, a table of makers, and a choice that is always announced.

ONNX Runtime is the default. The torch twin answers through the entry-point group `lisard_ros.twin`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lisard_ros import variants
from lisard_ros.backends import onnx_runtime, torch_twin
from lisard_ros.bundle import Bundle
from lisard_ros.errors import UsageError, unknown_name

AUTO = "auto"
MAX_THREADS = 256


class Backend(Protocol):
    """Runs the network. `infer` takes float32 [N, 3, H, W] and gives float32 [N, ...]; any N >= 1.

    warnings: what diagnostics must say as long as it runs, such as that it was installed by force.
    """

    name: str
    description: str
    warnings: tuple[str, ...]

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on a batch; BackendError when the runtime refuses."""

    def close(self) -> None:
        """Free the model; `infer` must not be called afterwards."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a backend is asked for.

    precision: one of variants.PRECISIONS; auto is fp32, the model that was evaluated.
    """

    threads: int = 1
    precision: str = variants.AUTO


def _onnx_runtime(provider: str) -> Callable[[Bundle, Request], Backend]:
    def make(bundle: Bundle, request: Request) -> Backend:
        model = variants.pick(bundle.manifest, request.precision)
        return onnx_runtime.OnnxRuntime(bundle, request.threads, model, provider)

    return make


def _torch(bundle: Bundle, request: Request) -> Backend:
    if request.precision not in (variants.AUTO, "fp32"):
        raise UsageError("the torch twin runs in fp32", found=request.precision, expected="auto or fp32")
    return torch_twin.TorchTwin(bundle, request.threads)


MAKERS: dict[str, Callable[[Bundle, Request], Backend]] = {
    "onnxruntime": _onnx_runtime(onnx_runtime.CPU),
    "onnxruntime_cuda": _onnx_runtime(onnx_runtime.CUDA),
    "onnxruntime_tensorrt": _onnx_runtime(onnx_runtime.TENSORRT),
    "torch": _torch,
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


def choose(bundle: Bundle, policy: str = AUTO, threads: int = 0, precision: str = variants.AUTO) -> Choice:
    """Make the backend that `policy` names, or for `auto` the best one that this machine can run.

    threads: 0 means `default_threads()`. A backend asked for by name is never replaced by another.
    """
    if not 0 <= threads <= MAX_THREADS:
        raise UsageError("number of threads out of range", found=threads, expected=f"0 (automatic) to {MAX_THREADS}")
    request = Request(threads or default_threads(), precision)
    if policy == AUTO:
        reason = "auto: ONNX Runtime on the CPU runs every bundle; TensorRT plans are not part of this release"
        return Choice(MAKERS["onnxruntime"](bundle, request), reason)
    if policy not in MAKERS:
        raise unknown_name("backend", policy, POLICIES)
    return Choice(MAKERS[policy](bundle, request), f"{policy}: asked for by name")
