"""The TensorRT backend on recording fakes of TensorRT and CUDA: order of calls, sizes, and what is freed.

They say nothing of a real GPU: no engine was ever run in these tests. The fakes have only the names of the table.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lisard_ros import backends, cuda_driver, tensorrt_api
from lisard_ros.backends import cuda, engine_cache, tensorrt_engine
from lisard_ros.backends.engine_cache import EngineKey
from lisard_ros.bundle.manifest import Verification
from lisard_ros.errors import BackendError, BundleError, UsageError
from lisard_ros.tensorrt_api import NAMES, Api, Log


class FakeCuda:
    """Device memory as NumPy arrays; a graph is what was recorded, run again."""

    name, stream = "fake", 7

    def __init__(self, limit: int = 1 << 30) -> None:
        self.memory: dict[int, np.ndarray] = {}
        self.host: dict[int, np.ndarray] = {}
        self.calls: list[str] = []
        self._limit, self._next = limit, 100

    @contextmanager
    def active(self) -> Iterator[None]:
        yield

    def allocate(self, size: int) -> int:
        if sum(m.nbytes for m in self.memory.values()) + size > self._limit:
            raise cuda._failed("out of memory", f"{size} bytes on the GPU")
        self._next += 1
        self.memory[self._next] = np.zeros(size, np.uint8)
        return self._next

    def free(self, pointer: int) -> None:
        del self.memory[pointer]

    def pinned(self, size: int) -> np.ndarray:
        array = np.zeros(size, np.uint8)
        self.host[id(array)] = array
        return array

    def free_pinned(self, array: np.ndarray) -> None:
        del self.host[id(array)]

    def to_device(self, pointer: int, array: np.ndarray) -> None:
        self.calls.append("to_device")
        self.memory[pointer][: array.nbytes] = array

    def to_host(self, array: np.ndarray, pointer: int) -> None:
        self.calls.append("to_host")
        array[:] = self.memory[pointer][: array.nbytes]

    def wait(self) -> None:
        self.calls.append("wait")

    def record(self, work: Callable[[], None]) -> Any:
        calls = self.calls

        class Graph:
            def launch(self) -> None:
                calls.append("launch")
                work()

            def close(self) -> None:
                calls.append("graph closed")

        return Graph()

    def close(self) -> None:
        self.calls.append("closed")


class FakeTensorRt:
    """A network that answers each image with the means of its channels, behind the names of the table."""

    def __init__(self, gpu: FakeCuda, side: int, refuses: str = "") -> None:
        self.gpu, self.side, self.refuses = gpu, side, refuses
        self.addresses: dict[str, int] = {}
        self.batch = 0

    class TensorIOMode:
        INPUT = 0

    class DataType:
        FLOAT = 0

    def Runtime(self, logger: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name} is not in the table")

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        return None if self.refuses == "engine" else self

    def create_execution_context(self) -> Any:
        return None if self.refuses == "context" else self

    num_io_tensors = 2

    def get_tensor_name(self, number: int) -> str:
        return ("images", "out")[number]

    def get_tensor_mode(self, name: str) -> int:
        return int(name != "images")

    def get_tensor_dtype(self, name: str) -> int:
        return int(self.refuses == "dtype")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3, self.side, self.side) if name == "images" else (-1, 3)

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.addresses[name] = pointer
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.batch = shape[0]
        return self.refuses != "shape"

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == self.gpu.stream
        self.gpu.calls.append("execute")
        size = self.batch * 3 * self.side * self.side
        x = self.gpu.memory[self.addresses["images"]].view(np.float32)[:size].reshape(self.batch, 3, -1)
        self.gpu.memory[self.addresses["out"]].view(np.float32)[: self.batch * 3] = x.mean(axis=2).ravel()
        return self.refuses != "execute"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))


def stored(bundle: Any, **changes: Any) -> engine_cache.Engine:
    model = bundle.manifest.models[0]
    values: dict[str, Any] = {
        "onnx_sha256": model.sha256,
        "precision": "fp32",
        "scheme": "plain",
        "calibration_sha256": "",
        "product": "tensorrt",
        "version": "10.3.0",
        "device": "Orin",
        "compute_capability": 87,
        "targets": (),
        "cpu": platform.machine(),
        "least": 2,
        "usual": 2,
        "most": 4,
        "height": 16,
        "width": 16,
        "workspace_mib": 1,
        "level": 3,
        "dla_core": -1,
    }
    return engine_cache.store(bundle, EngineKey(**{**values, **changes}), b"engine", 1.0, "test")


def opened(tiny: Any, refuses: str = "", gpu: FakeCuda | None = None) -> tuple[Any, FakeCuda]:
    bundle = tiny.classifier()
    gpu = gpu or FakeCuda()
    fake = FakeTensorRt(gpu, tiny.side_px, refuses)
    return tensorrt_engine.TensorRtEngine(bundle, stored(bundle), Api("tensorrt", "10.3.0", fake, Log()), gpu), gpu


def images(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, 3, side, side), np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_batches_are_padded_and_cut(count: int, tiny: Any) -> None:
    backend, _ = opened(tiny)
    for _ in range(3):  # plainly, recorded, replayed
        x = images(count, tiny.side_px)
        assert np.allclose(backend.infer(x), x.mean(axis=(2, 3)), atol=1e-6)


def test_a_graph_is_recorded_at_the_second_batch_of_a_size_and_replayed(tiny: Any) -> None:
    backend, gpu = opened(tiny)
    x = images(2, tiny.side_px)
    for _ in range(4):
        backend.infer(x)
    assert gpu.calls.count("launch") == 3
    assert gpu.calls[:4] == ["to_device", "execute", "to_host", "wait"]


def test_everything_is_freed(tiny: Any) -> None:
    backend, gpu = opened(tiny)
    x = images(2, tiny.side_px)
    backend.infer(x)
    backend.infer(x)
    assert len(gpu.memory) == 2 and len(gpu.host) == 2
    backend.close()
    backend.close()
    assert not gpu.memory and not gpu.host and gpu.calls[-2:] == ["graph closed", "closed"]


@pytest.mark.parametrize(
    ("refuses", "message"),
    [
        ("engine", "TensorRT refuses the engine"),
        ("context", "no execution context"),
        ("dtype", "is not float32"),
    ],
)
def test_what_fails_at_the_start_is_an_error_and_frees_all(refuses: str, message: str, tiny: Any) -> None:
    gpu = FakeCuda()
    with pytest.raises((BackendError, BundleError), match=message):
        opened(tiny, refuses, gpu)
    assert not gpu.memory and not gpu.host and gpu.calls[-1] == "closed"


def test_too_little_gpu_memory_is_told_with_the_way_out(tiny: Any) -> None:
    gpu = FakeCuda(limit=1000)
    with pytest.raises(BackendError, match="the GPU is out of memory: .*fallback"):
        opened(tiny, gpu=gpu)
    assert not gpu.memory


@pytest.mark.parametrize(
    ("refuses", "message"),
    [
        ("shape", "refuses a batch of 2"),
        ("execute", "TensorRT failed on a batch"),
    ],
)
def test_what_fails_on_a_batch_is_an_error(refuses: str, message: str, tiny: Any) -> None:
    backend, _ = opened(tiny, refuses)
    with pytest.raises(BackendError, match=message):
        backend.infer(images(2, tiny.side_px))


def test_an_unverified_engine_says_so(tiny: Any) -> None:
    backend, _ = opened(tiny)
    assert "is unverified" in backend.warnings[0] and "unverified (fake)" in backend.description


def test_without_a_driver_the_choice_says_so_and_fallback_goes_on(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> cuda_driver.Device:
        raise BackendError("no CUDA driver (stage: driver)")

    monkeypatch.setattr(cuda_driver, "find", no_driver)
    bundle = tiny.classifier()
    for policy in ("require", "build"):
        with pytest.raises(BackendError, match="stage: driver"):
            backends.choose(bundle, "tensorrt", 1, plan_policy=policy)
    choice = backends.choose(bundle, "tensorrt", 1, plan_policy="fallback")
    assert choice.backend.name == "onnxruntime" and "plan_policy is fallback" in choice.reason
    assert choice.backend.warnings[0].startswith("running on the CPU instead of tensorrt: no CUDA driver")
    with pytest.raises(UsageError, match="unknown plan_policy"):
        backends.choose(bundle, "tensorrt", 1, plan_policy="maybe")


@pytest.fixture
def machine(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that seems to have an Orin with TensorRT 10.3."""
    gpu = FakeCuda()
    fake = FakeTensorRt(gpu, tiny.side_px)
    monkeypatch.setattr(cuda_driver, "find", lambda: cuda_driver.Device("Orin", 87, "12.6"))
    monkeypatch.setattr(tensorrt_api, "load", lambda product: Api(product, "10.3.0", fake, Log()))
    monkeypatch.setattr(tensorrt_engine, "open_cuda", lambda: gpu)


def test_auto_takes_only_a_verified_engine(tiny: Any, machine: None) -> None:
    bundle = tiny.classifier()
    engine = stored(bundle)
    choice = backends.choose(bundle, threads=1)
    assert choice.backend.name == "onnxruntime" and "is unverified" in choice.reason
    engine_cache.record(
        engine,
        Verification(
            against="a",
            backend="b",
            pictures=1,
            attacked=1,
            pictures_sha256="",
            max_abs_difference=0.0,
            agreement=1.0,
            clean_loss_points=0.0,
            robust_loss_points=0.0,
            clean_limit_points=1.0,
            robust_limit_points=1.5,
            passed=True,
        ),
    )
    choice = backends.choose(bundle, threads=1)
    assert choice.backend.name == "tensorrt" and choice.reason == "auto: a verified tensorrt engine for this device"


def test_by_name_an_unverified_engine_runs_and_warns(tiny: Any, machine: None) -> None:
    bundle = tiny.classifier()
    with pytest.raises(BackendError, match="found no engine of this model in the cache.*build it with"):
        backends.choose(bundle, "tensorrt", 1)
    stored(bundle)
    assert "is unverified" in backends.choose(bundle, "tensorrt", 1).backend.warnings[0]


def test_the_fake_has_no_name_outside_the_table() -> None:
    mine = {name for name in vars(FakeTensorRt) if not name.startswith("_")}
    known = {member for members in NAMES["tensorrt", 10].values() for member in members}
    assert mine <= known
