"""The TensorRT backend: runs an engine of the cache with memory allocated once, and CUDA graphs for fixed shapes.

Not run on any GPU so far (docs/engines.md): names are checked against the real bindings of each TensorRT version, the
order of calls with a recording fake. Every name of TensorRT used here is in tensorrt_api.NAMES.
"""

from __future__ import annotations

import math
import platform
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lisard_ros import cuda_driver, tensorrt_api
from lisard_ros.backends import engine_cache
from lisard_ros.backends.cuda import Bytes, Cuda, CudaGraph, open_cuda
from lisard_ros.backends.engine_cache import CachedEngine, Host
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.errors import BackendError, BundleError
from lisard_ros.tensorrt_api import Api

ITEM_BYTES = 4  # float32 outside, whatever the precision inside
MAX_GRAPHS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One input or output: device memory and, if it is read or written here, page-locked host memory."""

    name: str
    row: tuple[int, ...]
    pointer: int
    host: Bytes | None

    @property
    def row_bytes(self) -> int:
        """Bytes of one image's part."""
        return math.prod(self.row) * ITEM_BYTES


def host_of(product: str) -> Host:
    """Describe what would run engines here.

    Raises:
        BackendError: Driver, device, bindings or libraries are missing; it names which.
    """
    device = cuda_driver.find()  # first: TensorRT crashes the process where there is no driver
    api = tensorrt_api.load(product)
    return Host(product, api.version, device.name, device.compute_capability, platform.machine())


class TensorRtEngine:
    """Runs one engine. Batches larger than the profile's are run in parts, smaller ones are padded."""

    def __init__(self, bundle: Bundle, engine: CachedEngine, api: Api, cuda: Cuda) -> None:
        """Load the engine and allocate everything; on failure all that was allocated is freed."""
        self.name = api.product
        key = engine.sidecar.key
        self.warnings, self.model_sha256 = engine.warnings, engine.sidecar.engine_sha256
        self._api, self._cuda, self._graphs = api, cuda, dict[int, CudaGraph]()
        self._ran: set[int] = set()
        self._tensors: list[Tensor] = []
        self._lock = threading.Lock()  # node and self test share the buffers
        self._least, self._most = key.least, key.most
        try:
            with cuda.active():
                self._open(bundle, engine)
        except BaseException:
            self.close()
            raise
        self.description = (
            f"{api.product} {api.version} {key.device} {key.precision}/{key.scheme} engine {key.digest()[:12]} "
            f"{engine.sidecar.state} ({cuda.name})"
        )

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run float32 [N, 3, H, W]; returns the manifest's output, float32 [N, ...]."""
        with self._lock, self._cuda.active():
            parts = [self._run(x[start : start + self._most]) for start in range(0, len(x), self._most)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Free graphs, memory, the engine and the context; a second call does nothing."""
        if "_cuda" not in self.__dict__:
            return
        with self._cuda.active():
            for graph in self._graphs.values():
                graph.close()
            for name in ("_context", "_engine", "_runtime"):  # in this order: each holds the next
                self.__dict__.pop(name, None)
            for tensor in self._tensors:
                self._cuda.free(tensor.pointer)
                if tensor.host is not None:
                    self._cuda.free_pinned(tensor.host)
        self._tensors = []
        self._cuda.close()
        del self._cuda

    def _open(self, bundle: Bundle, engine: CachedEngine) -> None:
        trt, log = self._api.module, self._api.log
        mark = log.mark()
        self._runtime = self._some(trt.Runtime(log.logger), mark, "TensorRT has no runtime here")
        self._engine = self._some(
            self._runtime.deserialize_cuda_engine(engine.data), mark, "TensorRT refuses the engine"
        )
        context = self._engine.create_execution_context()
        self._context = self._some(context, mark, "no execution context, most likely because GPU memory is short")
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        wanted = bundle.manifest.output.name
        if len(inputs) != 1 or wanted not in names:
            raise BundleError(
                "the engine's tensors do not fit the bundle",
                found=", ".join(names),
                expected=f"one input, and the output {wanted}",
                cure="build the engine again",
            )
        spec = bundle.manifest.input
        self._input = self._tensor(inputs[0], self._most, touched=True)
        if self._input.row != (3, spec.height, spec.width):
            raise BundleError(
                "the engine's input size is not the bundle's",
                found=self._input.row,
                expected=(3, spec.height, spec.width),
                cure="build the engine again",
            )
        others = {name: self._tensor(name, self._most, name == wanted) for name in names if name != inputs[0]}
        self._output = others[wanted]

    def _tensor(self, name: str, batch: int, touched: bool) -> Tensor:
        trt = self._api.module
        if touched and self._engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
            raise BundleError(
                f"the engine's tensor {name} is not float32",
                found=str(self._engine.get_tensor_dtype(name)),
                expected="float32 outside",
                cure="build the variants again with `lisard build`",
            )
        row = tuple(int(side) for side in self._engine.get_tensor_shape(name))[1:]
        if any(side < 0 for side in row):
            raise BundleError(
                f"the engine's tensor {name} has no fixed size",
                found=row,
                expected="only the batch free",
                cure="export the model with a fixed image size",
            )
        size = batch * math.prod(row) * ITEM_BYTES
        tensor = Tensor(name, row, self._cuda.allocate(size), self._cuda.pinned(size) if touched else None)
        self._tensors.append(tensor)
        if not self._context.set_tensor_address(name, tensor.pointer):
            raise self._failed("TensorRT refuses a tensor's address", 0)
        return tensor

    def _run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        rows, batch = len(x), max(len(x), self._least)
        _view(self._input, batch)[:rows] = x
        _view(self._input, batch)[rows:] = 0
        if not self._context.set_input_shape(self._input.name, (batch, *self._input.row)):
            raise self._failed(f"TensorRT refuses a batch of {batch}", 0)
        self._graph_or(batch, lambda: self._enqueue(batch))
        self._cuda.wait()
        return _view(self._output, batch)[:rows].copy()

    def _graph_or(self, batch: int, work: Callable[[], None]) -> None:
        """Replay the batch's graph; the first time run plainly, which also warms up, the second time record."""
        if batch in self._graphs:
            self._graphs[batch].launch()
            return
        if batch in self._ran and len(self._graphs) < MAX_GRAPHS:
            graph = self._cuda.record(work)
            if graph is not None:
                self._graphs[batch] = graph
                graph.launch()
                return
        self._ran.add(batch)
        work()

    def _enqueue(self, batch: int) -> None:
        assert self._input.host is not None and self._output.host is not None
        self._cuda.to_device(self._input.pointer, self._input.host[: batch * self._input.row_bytes])
        mark = self._api.log.mark()
        if not self._context.execute_async_v3(self._cuda.stream):
            raise self._failed("TensorRT failed on a batch", mark)
        self._cuda.to_host(self._output.host[: batch * self._output.row_bytes], self._output.pointer)

    def _some(self, value: Any, mark: int, what: str) -> Any:
        if value is None:
            raise self._failed(what, mark)
        return value

    def _failed(self, what: str, mark: int) -> BackendError:
        return BackendError(
            what,
            found=" | ".join(self._api.log.since(mark)[-4:]) or "nothing in TensorRT's log",
            cure="build the engine again on this device (`lisard build`); see `lisard doctor`",
        )


def open_engine(bundle: Bundle, engine: CachedEngine, product: str) -> TensorRtEngine:
    """Load an engine that fits this host."""
    return TensorRtEngine(bundle, engine, tensorrt_api.load(product), open_cuda())


def open_fitting(bundle: Bundle, precision: str, product: str) -> TensorRtEngine:
    """Load the bundle's engine for this host; BackendError when there is none."""
    host = host_of(product)
    model = model_choice.pick(bundle.manifest, precision, model_choice.FOR_TENSORRT)
    return open_engine(bundle, engine_cache.select(bundle, model, host), product)


def _view(tensor: Tensor, batch: int) -> NDArray[np.float32]:
    assert tensor.host is not None
    return tensor.host[: batch * tensor.row_bytes].view(np.float32).reshape(batch, *tensor.row)
