"""CUDA without a GPU: what is missing is named, and every name that is used exists in the real cuda-bindings."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from lisard_ros import cuda_driver
from lisard_ros.backends import cuda
from lisard_ros.errors import BackendError


def test_a_machine_without_a_driver_is_told_the_stage(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"no CUDA driver \(stage: driver\): found .*libnone"):
        cuda_driver.find("libnone.so.1")


def test_the_names_exist_in_cuda_bindings() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="requirements/engines.txt is not installed")
    assert [name for name in cuda.CUDA_BINDINGS_NAMES if not hasattr(runtime, name)] == []
    assert hasattr(runtime.cudaMemcpyKind, "cudaMemcpyHostToDevice")
    assert hasattr(runtime.cudaMemcpyKind, "cudaMemcpyDeviceToHost")
    assert hasattr(runtime.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")


def test_without_any_package_both_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(name: str) -> object:
        raise ImportError(f"no module {name}")

    monkeypatch.setattr(importlib, "import_module", lacking)
    with pytest.raises(BackendError, match="cuda-bindings: no module cuda.*; pycuda: no module pycuda.driver"):
        cuda.open_cuda()


def test_an_error_of_the_real_package_becomes_ours() -> None:
    pytest.importorskip("cuda.bindings.runtime", reason="requirements/engines.txt is not installed")
    try:
        cuda_driver.find()
    except BackendError:
        with pytest.raises(BackendError, match="CUDA failed: found .*driver"):
            cuda.open_cuda()
