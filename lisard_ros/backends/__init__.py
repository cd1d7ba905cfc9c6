"""Inference backends: one protocol, a table of makers, and a choice that is always announced.

ONNX Runtime is the default. The PyTorch model comes from the entry-point group `lisard_ros.twin`; engines are built by
that of `lisard_ros.plan_builder` where the policy asks for it. Only ONNX Runtime is imported before it is chosen.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lisard_ros import cuda_driver, host_cpu
from lisard_ros.backends import engine_cache, onnx_runtime, pytorch
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.errors import BackendError, LisardError, UsageError, unknown_name

AUTO = "auto"
MAX_THREADS = 256
MOST_DEFAULT_THREADS = 8
TENSORRT = ("tensorrt", "tensorrt_rtx")
ENGINE_BUILDER_GROUP = "lisard_ros.plan_builder"


class Backend(Protocol):
    """Runs the network. `infer` takes float32 [N, 3, H, W] and gives float32 [N, ...]; any N >= 1.

    model_sha256: of the file that runs: an ONNX file, an engine, or the weights of the PyTorch model.
    warnings: what diagnostics must say as long as it runs, such as that it was installed by force.
    """

    name: str
    description: str
    model_sha256: str
    warnings: tuple[str, ...]

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on a batch; BackendError when the runtime refuses."""

    def close(self) -> None:
        """Free the model; `infer` must not be called afterwards."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a backend is asked for.

    precision: one of model_choice.PRECISIONS; auto is fp32, the model that was evaluated.
    plan_policy: one of engine_cache.POLICIES: only use TensorRT engines of the cache, build them, or go on without.
    """

    threads: int = 1
    precision: str = model_choice.AUTO
    plan_policy: str = "require"


def _onnx_runtime(provider: str) -> Callable[[Bundle, Request], Backend]:
    def make(bundle: Bundle, request: Request) -> Backend:
        model = model_choice.pick(bundle.manifest, request.precision)
        return onnx_runtime.OnnxRuntime(bundle, request.threads, model, provider)

    return make


def _torch(bundle: Bundle, request: Request) -> Backend:
    if request.precision not in (model_choice.AUTO, "fp32"):
        raise UsageError("the PyTorch model runs in fp32", found=request.precision, expected="auto or fp32")
    return pytorch.PyTorchModel(bundle, request.threads)


def _tensorrt(product: str) -> Callable[[Bundle, Request], Backend]:
    def make(bundle: Bundle, request: Request) -> Backend:
        from lisard_ros.backends import tensorrt_engine

        if request.plan_policy in ("build", "rebuild"):
            tensorrt_engine.host_of(product)  # no use building where it cannot run
            engine_builder()(bundle, request.precision, product, request.plan_policy)
        return tensorrt_engine.open_fitting(bundle, request.precision, product)

    return make


def _openvino(bundle: Bundle, request: Request) -> Backend:
    from lisard_ros.backends.openvino_cpu import OpenVino

    return OpenVino(bundle, request.threads, model_choice.pick(bundle.manifest, request.precision))


def engine_builder() -> Callable[[Bundle, str, str, str], object]:
    """Find what builds engines, through its entry point."""
    try:
        for entry in entry_points(group=ENGINE_BUILDER_GROUP):
            build: Callable[[Bundle, str, str, str], object] = entry.load()
            return build
        obstacle = "no such entry point"
    except (ImportError, AttributeError) as error:
        obstacle = str(error)
    raise BackendError(
        "no package to build engines",
        found=obstacle,
        expected=f"the entry-point group {ENGINE_BUILDER_GROUP}",
        cure="pip install 'lisard_ros[engines]', or `make setup` in a checkout",
    )


MAKERS: dict[str, Callable[[Bundle, Request], Backend]] = {
    "onnxruntime": _onnx_runtime(onnx_runtime.CPU),
    "onnxruntime_cuda": _onnx_runtime(onnx_runtime.CUDA),
    "onnxruntime_tensorrt": _onnx_runtime(onnx_runtime.TENSORRT),
    "openvino": _openvino,
    "tensorrt": _tensorrt("tensorrt"),
    "tensorrt_rtx": _tensorrt("tensorrt_rtx"),
    "torch": _torch,
}
POLICIES = (AUTO, *MAKERS)
# Those whose work is done by the processor.
CPU_MAKERS = ("onnxruntime", "openvino", "torch")


@dataclass(frozen=True, slots=True)
class Choice:
    """A ready backend and the reason why it was taken, for logs and diagnostics.

    halved: the same model on half of the threads, where two batches may be inferred side by side.
    maker, precision: what to give `choose` as policy and precision for another instance of the same engine.
    """

    backend: Backend
    reason: str
    maker: str = "onnxruntime"
    precision: str = model_choice.AUTO
    halved: Backend | None = None

    @property
    def can_halve(self) -> bool:
        """Whether `with_halved` gives a choice that can infer two batches side by side."""
        return self.halved is not None or (
            isinstance(self.backend, onnx_runtime.OnnxRuntime) and self.backend.can_halve
        )

    def with_halved(self) -> Choice:
        """Return a choice that can infer two batches side by side, where its backend can."""
        if self.halved is not None or not isinstance(self.backend, onnx_runtime.OnnxRuntime) or not self.can_halve:
            return self
        return replace(self, halved=self.backend.halved())

    def without_halved(self) -> Choice:
        """Free the second model."""
        if self.halved is not None:
            self.halved.close()
        return replace(self, halved=None)

    def close(self) -> None:
        """Free the model."""
        self.without_halved()
        self.backend.close()


def device_of(choice: Choice) -> str:
    """Name the device that runs the model: the CPU, or the GPU."""
    if choice.maker in CPU_MAKERS:
        return host_cpu.cpu_name()
    return cuda_driver.find().name


def default_threads() -> int:
    """Threads when nobody says: every core that this process may use, at most 8.

    They sleep between frames, so DDS and drivers find a core then. To compare: bench/node_load.py --set threads=N.
    """
    return min(MOST_DEFAULT_THREADS, len(os.sched_getaffinity(0)))


def choose(
    bundle: Bundle,
    policy: str = AUTO,
    threads: int = 0,
    precision: str = model_choice.AUTO,
    plan_policy: str = "require",
) -> Choice:
    """Make the backend that `policy` names, or for `auto` the best one that this machine can run.

    threads: 0 means `default_threads()`. A backend asked for by name is never replaced by another, except a TensorRT
    one under the policy `fallback`; the backend's warnings then say so for as long as it runs.
    """
    if not 0 <= threads <= MAX_THREADS:
        raise UsageError("number of threads out of range", found=threads, expected=f"0 (automatic) to {MAX_THREADS}")
    if plan_policy not in engine_cache.POLICIES:
        raise unknown_name("plan_policy", plan_policy, engine_cache.POLICIES)
    request = Request(threads or default_threads(), precision, plan_policy)
    if policy == AUTO:
        return _automatic(bundle, request)
    if policy not in MAKERS:
        raise unknown_name("backend", policy, POLICIES)
    try:
        return Choice(
            MAKERS[policy](bundle, request), f"{policy}: asked for by name", maker=policy, precision=precision
        )
    except BackendError as error:
        if plan_policy != "fallback" or policy not in TENSORRT:
            raise
        backend = MAKERS["onnxruntime"](bundle, request)
        backend.warnings = (f"running on the CPU instead of {policy}: {error}", *backend.warnings)
        reason = f"onnxruntime: {policy} is not usable and plan_policy is fallback"
        return Choice(backend, reason, maker="onnxruntime", precision=precision)


def _automatic(bundle: Bundle, request: Request) -> Choice:
    """Take an engine of this bundle that was verified on this machine; else ONNX Runtime, with the reason."""
    reasons = []
    for product in TENSORRT if engine_cache.has_any(bundle) else ():
        try:
            backend = MAKERS[product](bundle, replace(request, plan_policy="require"))
        except LisardError as error:
            reasons.append(str(error))
            continue
        if not backend.warnings:
            reason = f"auto: a verified {product} engine for this device"
            return Choice(backend, reason, maker=product, precision=request.precision)
        reasons.append(backend.warnings[0])
        backend.close()
    why = "; ".join(reasons) or "no TensorRT engine of this bundle in the cache"
    reason = f"auto: ONNX Runtime on the CPU runs every bundle; {why}"
    backend = MAKERS["onnxruntime"](bundle, request)
    return Choice(backend, reason, maker="onnxruntime", precision=request.precision)
