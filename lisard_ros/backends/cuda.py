"""The only door to CUDA for the TensorRT backend: memory, one stream, copies and graphs, through one of two packages.

`cuda-bindings` has wheels; `pycuda` is built on the machine (usual on Jetson). Neither is imported before `open_cuda`.
Pointers and handles are plain integers. Not run on any GPU so far: names are checked against the real cuda-bindings,
the order of calls with a recording fake.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lisard_ros.errors import BackendError, one_line

Bytes = NDArray[np.uint8]
_CURE = "pip install cuda-bindings, or build pycuda (docs/engines.md)"
# What is used of each package; tests hold it against cuda-bindings.
CUDA_BINDINGS_NAMES = (
    "cudaError_t",
    "cudaSetDevice",
    "cudaMalloc",
    "cudaFree",
    "cudaHostAlloc",
    "cudaFreeHost",
    "cudaHostAllocDefault",
    "cudaStreamCreate",
    "cudaStreamDestroy",
    "cudaStreamSynchronize",
    "cudaMemcpyAsync",
    "cudaMemcpyKind",
    "cudaStreamBeginCapture",
    "cudaStreamEndCapture",
    "cudaStreamCaptureMode",
    "cudaGraphInstantiate",
    "cudaGraphLaunch",
    "cudaGraphExecDestroy",
    "cudaGraphDestroy",
    "cudaGetErrorString",
)


class CudaGraph(Protocol):
    """Recorded work that is replayed with one call."""

    def launch(self) -> None:
        """Put the work into the stream."""

    def close(self) -> None:
        """Free it."""


class Cuda(Protocol):
    """One GPU, one stream."""

    name: str
    stream: int

    def active(self) -> Any:
        """Return a context manager that makes the GPU usable in the calling thread."""

    def allocate(self, size: int) -> int:
        """Return a pointer to device memory; BackendError when there is too little."""

    def free(self, pointer: int) -> None:
        """Free device memory."""

    def pinned(self, size: int) -> Bytes:
        """Return page-locked host memory, uint8 [size]."""

    def free_pinned(self, array: Bytes) -> None:
        """Free page-locked memory; the array must not be used afterwards."""

    def to_device(self, pointer: int, array: Bytes) -> None:
        """Copy the array's bytes to the device, in the stream."""

    def to_host(self, array: Bytes, pointer: int) -> None:
        """Copy from the device into the array, in the stream."""

    def wait(self) -> None:
        """Wait until the stream is done."""

    def record(self, work: Callable[[], None]) -> CudaGraph | None:
        """Record what `work` puts into the stream; None where this package cannot."""

    def close(self) -> None:
        """Free stream and context."""


def open_cuda() -> Cuda:
    """Return the first package that works; BackendError names what is missing in each (stage: CUDA for Python)."""
    reasons = []
    for adapter in (CudaBindings, PyCuda):
        try:
            return adapter()
        except (ImportError, OSError, AttributeError) as error:
            reasons.append(f"{adapter.name}: {one_line(error, 120)}")
    raise BackendError(
        "no CUDA package for Python works (stage: bindings)",
        found="; ".join(reasons),
        expected="cuda-bindings or pycuda",
        cure=_CURE,
    )


class CudaBindings:
    """The CUDA runtime through NVIDIA's own wheels."""

    name = "cuda-bindings"

    def __init__(self) -> None:
        """Import the package and make the stream."""
        self._rt = importlib.import_module("cuda.bindings.runtime")
        missing = [name for name in CUDA_BINDINGS_NAMES if not hasattr(self._rt, name)]
        if missing:
            raise ImportError("no " + ", ".join(missing))
        self._pinned: dict[int, int] = {}
        self._do(self._rt.cudaSetDevice(0))
        self._stream = self._do(self._rt.cudaStreamCreate())
        self.stream = int(self._stream)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Choose the GPU; the runtime keeps the choice per thread."""
        self._do(self._rt.cudaSetDevice(0))
        yield

    def allocate(self, size: int) -> int:
        """See Cuda."""
        return int(self._do(self._rt.cudaMalloc(size), f"{size} bytes on the GPU"))

    def free(self, pointer: int) -> None:
        """See Cuda."""
        self._do(self._rt.cudaFree(pointer))

    def pinned(self, size: int) -> Bytes:
        """See Cuda."""
        import ctypes

        address = int(self._do(self._rt.cudaHostAlloc(size, self._rt.cudaHostAllocDefault), f"{size} pinned bytes"))
        array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        self._pinned[array.ctypes.data] = address
        return array

    def free_pinned(self, array: Bytes) -> None:
        """See Cuda."""
        self._do(self._rt.cudaFreeHost(self._pinned.pop(array.ctypes.data)))

    def to_device(self, pointer: int, array: Bytes) -> None:
        """See Cuda."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._do(self._rt.cudaMemcpyAsync(pointer, array.ctypes.data, array.nbytes, kind, self._stream))

    def to_host(self, array: Bytes, pointer: int) -> None:
        """See Cuda."""
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._do(self._rt.cudaMemcpyAsync(array.ctypes.data, pointer, array.nbytes, kind, self._stream))

    def wait(self) -> None:
        """See Cuda."""
        self._do(self._rt.cudaStreamSynchronize(self._stream))

    def record(self, work: Callable[[], None]) -> CudaGraph | None:
        """See Cuda."""
        mode = self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._do(self._rt.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        finally:
            graph = self._do(self._rt.cudaStreamEndCapture(self._stream))
        return _BindingsGraph(self._rt, self._do, graph, self._stream)

    def close(self) -> None:
        """See Cuda."""
        self._do(self._rt.cudaStreamDestroy(self._stream))

    def _do(self, answer: Any, wanted: str = "") -> Any:
        status, *values = answer
        if status != self._rt.cudaError_t.cudaSuccess:
            _, text = self._rt.cudaGetErrorString(status)
            words = text.decode() if isinstance(text, bytes) else str(text)
            raise _failed(words, wanted)
        return values[0] if values else None


class _BindingsGraph:
    def __init__(self, runtime: Any, do: Callable[[Any], Any], graph: Any, stream: Any) -> None:
        self._rt, self._do, self._graph, self._stream = runtime, do, graph, stream
        self._exec = do(runtime.cudaGraphInstantiate(graph, 0))

    def launch(self) -> None:
        self._do(self._rt.cudaGraphLaunch(self._exec, self._stream))

    def close(self) -> None:
        self._do(self._rt.cudaGraphExecDestroy(self._exec))
        self._do(self._rt.cudaGraphDestroy(self._graph))


class PyCuda:
    """The CUDA driver through pycuda."""

    name = "pycuda"

    def __init__(self) -> None:
        """Import the package, take the GPU's primary context (TensorRT uses the same) and make the stream."""
        self._drv = importlib.import_module("pycuda.driver")
        self._drv.init()
        self._context = self._drv.Device(0).retain_primary_context()
        self._memory: dict[int, Any] = {}
        with self.active():
            self._stream = self._drv.Stream()
        self.stream = int(self._stream.handle)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the context current in this thread, and give back what was current before."""
        self._context.push()
        try:
            yield
        except self._drv.Error as error:
            raise _failed(one_line(error), "") from error
        finally:
            self._drv.Context.pop()

    def allocate(self, size: int) -> int:
        """See Cuda."""
        try:
            memory = self._drv.mem_alloc(size)
        except self._drv.Error as error:
            raise _failed(one_line(error), f"{size} bytes on the GPU") from error
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, pointer: int) -> None:
        """See Cuda."""
        self._memory.pop(pointer).free()

    def pinned(self, size: int) -> Bytes:
        """See Cuda."""
        array: Bytes = self._drv.pagelocked_empty(size, np.uint8)
        return array

    def free_pinned(self, array: Bytes) -> None:
        """See Cuda; pycuda frees it with its last reference."""

    def to_device(self, pointer: int, array: Bytes) -> None:
        """See Cuda."""
        self._drv.memcpy_htod_async(pointer, array, self._stream)

    def to_host(self, array: Bytes, pointer: int) -> None:
        """See Cuda."""
        self._drv.memcpy_dtoh_async(array, pointer, self._stream)

    def wait(self) -> None:
        """See Cuda."""
        self._stream.synchronize()

    def record(self, work: Callable[[], None]) -> CudaGraph | None:
        """See Cuda; graphs came with pycuda 2022.2."""
        if not hasattr(self._stream, "begin_capture"):
            return None
        self._stream.begin_capture()
        try:
            work()
        finally:
            graph = self._stream.end_capture()
        return _PyCudaGraph(graph.instance(), self._stream)

    def close(self) -> None:
        """See Cuda."""
        self._context.detach()


class _PyCudaGraph:
    def __init__(self, instance: Any, stream: Any) -> None:
        self._instance, self._stream = instance, stream

    def launch(self) -> None:
        self._instance.launch(self._stream)

    def close(self) -> None:
        self._instance = None


def _failed(words: str, wanted: str) -> BackendError:
    if "memory" in words.lower():
        return BackendError(
            "the GPU is out of memory",
            found=f"{words} for {wanted or 'a copy'}",
            expected="enough free memory",
            cure="stop other users of the GPU, or build with smaller "
            "batches; plan_policy `fallback` would go on with ONNX Runtime",
        )
    return BackendError("CUDA failed", found=f"{words} {wanted}".strip(), cure="see `lisard doctor`")
