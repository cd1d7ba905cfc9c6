"""The GPU of this machine as the CUDA driver describes it, asked through ctypes before any other CUDA library.

TensorRT crashes the process where there is no driver, so this comes first. Jetson modules have no NVML and no
`nvidia-smi` on old releases; the driver API is there on all of them.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from lisard_ros.errors import BackendError

LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_CURE = "install NVIDIA's driver (on Jetson: JetPack), give the container the GPU (--gpus all, --runtime nvidia)"


@dataclass(frozen=True, slots=True)
class Device:
    """The first GPU: its name, compute capability as major * 10 + minor, and the driver's CUDA version."""

    name: str
    compute_capability: int
    driver: str


def find(library: str = LIBRARY) -> Device:
    """Describe the first GPU.

    Args:
        library: File name of the driver's library.

    Raises:
        BackendError: There is no driver, or no GPU; the message names the stage (driver or device) that fails.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        raise BackendError("no CUDA driver (stage: driver)", found=str(error), expected=library, cure=_CURE) from error
    status = cuda.cuInit(0)
    if status:
        raise BackendError(
            "the CUDA driver does not start (stage: driver)", found=f"cuInit gave {status}", expected="0", cure=_CURE
        )
    count = ctypes.c_int()
    _require(cuda.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
    if not count.value:
        raise BackendError("the driver sees no GPU (stage: device)", found="0 devices", expected="one", cure=_CURE)
    name, version = ctypes.create_string_buffer(256), ctypes.c_int()
    _require(cuda.cuDeviceGetName(name, 256, 0), "cuDeviceGetName")
    _require(cuda.cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
    capability = _attribute(cuda, _MAJOR) * 10 + _attribute(cuda, _MINOR)
    cuda_version = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Device(name.value.decode(errors="replace"), capability, cuda_version)


def _attribute(cuda: ctypes.CDLL, number: int) -> int:
    value = ctypes.c_int()
    _require(cuda.cuDeviceGetAttribute(ctypes.byref(value), number, 0), "cuDeviceGetAttribute")
    return value.value


def _require(status: int, call: str) -> None:
    if status:
        raise BackendError(
            "the driver does not describe its GPU (stage: device)",
            found=f"{call} gave {status}",
            expected="0",
            cure=_CURE,
        )
