"""The only door to TensorRT: which names of it are used, loading it, its log, and what of it this machine has.

Two products share these names: classic `tensorrt` (10.x of JetPack 6.1 and desktops, 11.x) and `tensorrt_rtx` (desktop
RTX cards). NAMES is the whole of what builders and runner use; tests compare it with the real bindings of each
version, and the code with it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lisard_ros import cuda_driver
from lisard_ros.errors import BackendError, LisardError, one_line

Names = Mapping[str, tuple[str, ...]]

# Class -> members; "" are names of the module itself. Strongly typed networks only: precision flags and calibrators
# exist in 10.x alone and are not used.
_COMMON: Names = {
    "": (
        "Builder",
        "ILogger",
        "IProgressMonitor",
        "MemoryPoolType",
        "NetworkDefinitionCreationFlag",
        "OnnxParser",
        "Runtime",
        "TensorIOMode",
        "DataType",
    ),
    "ILogger": ("INTERNAL_ERROR", "ERROR", "WARNING"),
    "IProgressMonitor": ("phase_start", "step_complete", "phase_finish"),
    "MemoryPoolType": ("WORKSPACE",),
    "NetworkDefinitionCreationFlag": ("STRONGLY_TYPED",),
    "TensorIOMode": ("INPUT",),
    "DataType": ("FLOAT",),
    "Builder": (
        "create_network",
        "create_builder_config",
        "create_optimization_profile",
        "build_serialized_network",
    ),
    "OnnxParser": ("parse", "num_errors", "get_error"),
    "ParserError": ("desc", "node_name", "node_operator"),
    "INetworkDefinition": ("num_inputs", "get_input", "num_layers"),
    "ITensor": ("name", "shape"),
    "IBuilderConfig": (
        "set_memory_pool_limit",
        "builder_optimization_level",
        "add_optimization_profile",
        "progress_monitor",
    ),
    "IOptimizationProfile": ("set_shape",),
    "IHostMemory": ("nbytes",),
    "Runtime": ("deserialize_cuda_engine",),
    "ICudaEngine": (
        "num_io_tensors",
        "get_tensor_name",
        "get_tensor_mode",
        "get_tensor_shape",
        "get_tensor_dtype",
        "get_tensor_profile_shape",
        "create_execution_context",
        "device_memory_size_v2",
    ),
    "IExecutionContext": ("set_input_shape", "set_tensor_address", "execute_async_v3", "get_tensor_shape"),
}
_CLASSIC: Names = {
    **_COMMON,
    "": (*_COMMON[""], "BuilderFlag", "DeviceType"),
    "BuilderFlag": ("GPU_FALLBACK",),
    "DeviceType": ("DLA",),
    "Builder": (*_COMMON["Builder"], "num_DLA_cores"),
    "IBuilderConfig": (
        *_COMMON["IBuilderConfig"],
        "set_flag",
        "default_device_type",
        "DLA_core",
        "create_timing_cache",
        "set_timing_cache",
        "get_timing_cache",
    ),
    "ITimingCache": ("serialize",),
}
_RTX: Names = {
    **_COMMON,
    "": (*_COMMON[""], "ComputeCapability"),
    "ComputeCapability": ("SM80", "SM86", "SM89", "SM120"),
    "IBuilderConfig": (*_COMMON["IBuilderConfig"], "num_compute_capabilities", "set_compute_capability"),
}
# Product and major version -> what is used of it.
NAMES: Mapping[tuple[str, int], Names] = {
    ("tensorrt", 10): _CLASSIC,
    ("tensorrt", 11): _CLASSIC,
    ("tensorrt_rtx", 1): _RTX,
}
# Where each product's Python module may be: JetPack and full wheels have the first, bare bindings the second.
MODULES: Mapping[str, tuple[str, ...]] = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt_rtx": ("tensorrt_rtx",),
}
_CURES = {
    "tensorrt": "on Jetson install python3-libnvinfer (JetPack), on a desktop TensorRT with its libraries; "
    "see docs/engines.md",
    "tensorrt_rtx": "pip install -r requirements/engines.txt",
}


class Log:
    """TensorRT's warnings and errors, kept so that an error can show them.

    A process has one logger per product: TensorRT ignores every further one.
    """

    def __init__(self) -> None:
        """Start empty; `logger` is what TensorRT is given."""
        self._lines: list[str] = []
        self.logger: Any = None

    def mark(self) -> int:
        """Return the place from which `since` shall read."""
        return len(self._lines)

    def since(self, mark: int) -> tuple[str, ...]:
        """Return what was logged after a mark, each line once."""
        return tuple(dict.fromkeys(self._lines[mark:]))

    def keep(self, text: str) -> None:
        """Take one line."""
        self._lines.append(" ".join(text.split()))


@dataclass(frozen=True, slots=True, eq=False)
class Api:
    """A loaded TensorRT: its module, which product and version it is, and its log."""

    product: str
    version: str
    module: Any = field(repr=False)
    log: Log = field(repr=False)


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """One condition of running engines: bindings, libraries, driver, device."""

    name: str
    ok: bool
    detail: str


_loaded: dict[str, Api] = {}


def load(product: str) -> Api:
    """Import a product once; BackendError names the stage (bindings or libraries) that fails, and the cure."""
    if product not in _loaded:
        module = _import(product)
        version = str(getattr(module, "__version__", "unknown"))
        _require_names(product, version, module)
        _loaded[product] = Api(product, version, module, _log(module))
    return _loaded[product]


def prerequisites(product: str) -> tuple[Prerequisite, ...]:
    """Look at bindings, libraries, driver and device, in this order, up to the first that fails."""
    try:
        api = load(product)
    except BackendError as error:
        name = "libraries" if "libraries" in error.what else "bindings"
        before = (Prerequisite("bindings", True, "found"),) if name == "libraries" else ()
        return (*before, Prerequisite(name, False, str(error)))
    met = [Prerequisite("bindings", True, f"{product} {api.version}"), Prerequisite("libraries", True, "loaded")]
    try:
        device = cuda_driver.find()
    except LisardError as error:
        name = "device" if "stage: device" in error.what else "driver"
        met += [Prerequisite("driver", True, "found")] if name == "device" else []
        return (*met, Prerequisite(name, False, str(error)))
    return (
        *met,
        Prerequisite("driver", True, f"CUDA {device.driver}"),
        Prerequisite("device", True, f"{device.name}, compute capability {device.compute_capability}"),
    )


def _import(product: str) -> Any:
    for name in MODULES[product]:
        if importlib.util.find_spec(name) is None:
            continue
        try:
            module = importlib.import_module(name)
        except (ImportError, OSError) as error:  # bindings without their libraries
            raise BackendError(
                f"{product} cannot load its libraries (stage: libraries)",
                found=one_line(error),
                expected="libnvinfer and libnvonnxparser of the same version",
                cure=_CURES[product],
            ) from error
        if not hasattr(module, "Builder"):
            raise BackendError(
                f"{product} is a runtime without a builder (stage: libraries)",
                found=name,
                expected="a full TensorRT",
                cure=_CURES[product],
            )
        return module
    raise BackendError(
        f"no {product} for this Python (stage: bindings)",
        found="no such module",
        expected=" or ".join(MODULES[product]),
        cure=_CURES[product],
    )


def _require_names(product: str, version: str, module: Any) -> None:
    major = int(version.split(".")[0]) if version.split(".")[0].isdecimal() else -1
    known = [str(number) for name, number in NAMES if name == product]
    if (product, major) not in NAMES:
        raise BackendError(
            f"{product} of an unknown version",
            found=version,
            expected=f"major {' or '.join(known)}",
            cure=_CURES[product],
        )
    missing = missing_names(module, NAMES[product, major])
    if missing:
        raise BackendError(
            f"{product} {version} does not have all names that are used",
            found=", ".join(missing),
            expected="the whole of NAMES",
            cure=_CURES[product],
        )


def missing_names(module: Any, names: Names) -> list[str]:
    """Return CLASS.MEMBER for all of `names` that the module lacks."""
    missing = []
    for owner, members in names.items():
        holder = getattr(module, owner, None) if owner else module
        missing += [f"{owner}.{member}".lstrip(".") for member in members if not hasattr(holder, member)]
    return missing


def _log(module: Any) -> Log:
    log = Log()
    worth = (module.ILogger.INTERNAL_ERROR, module.ILogger.ERROR, module.ILogger.WARNING)

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in worth:
                log.keep(message)

    log.logger = Logger()
    return log
