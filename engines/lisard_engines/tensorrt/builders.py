"""The builders: classic TensorRT, which builds for the GPU at hand, and TensorRT-RTX, which needs none.

Every name of TensorRT that is used is in lisard_ros.tensorrt_api.NAMES. Networks are strongly typed: precision
lives in the ONNX file. Whatever TensorRT answers with None or False becomes an error that shows its log.
"""

from __future__ import annotations

import time
from typing import Any

from lisard_ros import cuda_driver, tensorrt_api
from lisard_ros.errors import BackendError, BundleError, UsageError
from lisard_ros.tensorrt_api import Api

from .. import onnx_file
from . import BuilderSettings, Built, EngineBuilder, Progress

_SHOWN_LINES = 4


class TensorRt:
    """Classic TensorRT, 10.x and 11.x."""

    product = "tensorrt"

    def __init__(self, settings: BuilderSettings, api: Api | None = None) -> None:
        """Load TensorRT; BackendError says what is missing. A driver comes first: without one TensorRT would crash."""
        self._gpu = self._find_device()
        self._api = api or tensorrt_api.load(self.product)
        self.version, self._settings = self._api.version, settings

    def device(self) -> tuple[str, int]:
        """Return the GPU at hand."""
        assert self._gpu is not None
        return self._gpu.name, self._gpu.compute_capability

    def build(self, data: bytes, name: str, timing_cache: bytes, progress: Progress) -> Built:
        """Build an engine; may take minutes on a Jetson."""
        onnx_file.load(data, name)  # TensorRT-RTX's parser takes an empty file for an empty network
        mark, began = self._api.log.mark(), time.monotonic()
        trt = self._api.module
        builder = self._some(trt.Builder(self._api.log.logger), mark, "no builder")
        network = self._parse(builder, data, name, mark)
        config = self._some(builder.create_builder_config(), mark, "no configuration")
        self._configure(builder, network, config, mark)
        self._target(builder, config, timing_cache, mark)
        # Held here, not only by the configuration, which does not keep a Python object alive.
        config.progress_monitor = monitor = _monitor(trt, progress)
        serialized = builder.build_serialized_network(network, config)
        del monitor
        engine = self._some(serialized, mark, f"TensorRT cannot build {name}")
        if not engine.nbytes:
            raise self._error(f"TensorRT gave an empty engine for {name}", mark)
        return Built(
            bytes(engine), time.monotonic() - began, network.num_layers, self._api.log.since(mark), self._timing(config)
        )

    def _find_device(self) -> cuda_driver.Device | None:
        return cuda_driver.find()

    def _parse(self, builder: Any, data: bytes, name: str, mark: int) -> Any:
        trt = self._api.module
        typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = self._some(builder.create_network(typed), mark, "no network")
        parser = self._some(trt.OnnxParser(network, self._api.log.logger), mark, "no parser")
        if not parser.parse(data):
            raise _refused(parser, name, self._api)
        if network.num_inputs != 1:
            raise BundleError(f"{name} has several inputs", found=network.num_inputs, expected="one, the images")
        return network

    def _configure(self, builder: Any, network: Any, config: Any, mark: int) -> None:
        settings = self._settings
        config.set_memory_pool_limit(self._api.module.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
        config.builder_optimization_level = settings.level
        images = network.get_input(0)
        shape = tuple(images.shape)
        if shape[0] >= 0:
            return  # a fixed batch needs no profile
        profile = self._some(builder.create_optimization_profile(), mark, "no optimisation profile")
        b = settings.batches
        try:
            profile.set_shape(images.name, *((count, *shape[1:]) for count in (b.least, b.usual, b.most)))
        except (ValueError, TypeError) as error:
            raise self._error(f"TensorRT refuses the profile {b} for {shape}", mark) from error
        if config.add_optimization_profile(profile) < 0:
            raise self._error(f"TensorRT refuses the profile {b} for {shape}", mark)

    def _target(self, builder: Any, config: Any, timing_cache: bytes, mark: int) -> None:
        """Set what only this product has: the timing cache, and DLA where it is asked for."""
        cache = self._some(config.create_timing_cache(timing_cache), mark, "no timing cache")
        if not config.set_timing_cache(cache, False):  # of another device or version: begin a new one
            config.set_timing_cache(self._some(config.create_timing_cache(b""), mark, "no timing cache"), False)
        if self._settings.dla_core >= 0:
            self._use_dla(builder, config)

    def _use_dla(self, builder: Any, config: Any) -> None:
        trt, core = self._api.module, self._settings.dla_core
        if core >= builder.num_DLA_cores:
            raise UsageError(
                "no such DLA core",
                found=core,
                expected=f"below {builder.num_DLA_cores}",
                cure="build without --dla-core; only some Jetson modules have DLA",
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = core
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)

    def _timing(self, config: Any) -> bytes:
        cache = config.get_timing_cache()
        return bytes(cache.serialize()) if cache is not None else b""

    def _some(self, value: Any, mark: int, what: str) -> Any:
        if value is None:
            raise self._error(what, mark)
        return value

    def _error(self, what: str, mark: int) -> BackendError:
        lines = self._api.log.since(mark)[-_SHOWN_LINES:]
        return BackendError(
            what,
            found=" | ".join(lines) or "no word in TensorRT's log",
            expected="an engine",
            cure=f"with {self.product} {self.version}; docs/engines.md lists what is known",
        )


class TensorRtRtx(TensorRt):
    """TensorRT-RTX: builds ahead of time for desktop RTX cards, with or without one at hand."""

    product = "tensorrt_rtx"

    def device(self) -> tuple[str, int]:
        """Return the targets: the engine is compiled to the end on whichever of them runs it."""
        targets = self._settings.targets
        return "RTX " + "+".join(f"sm{target}" for target in targets), targets[0] if len(targets) == 1 else 0

    def _find_device(self) -> cuda_driver.Device | None:
        return None

    def _target(self, builder: Any, config: Any, timing_cache: bytes, mark: int) -> None:
        if self._settings.dla_core >= 0:
            raise UsageError(
                "TensorRT-RTX has no DLA",
                found=self._settings.dla_core,
                expected="-1",
                cure="build with classic TensorRT on the Jetson",
            )
        members = self._api.module.ComputeCapability
        config.num_compute_capabilities = len(self._settings.targets)
        for place, target in enumerate(self._settings.targets):
            member = getattr(members, f"SM{target}", None)
            # It answers False for what it does not know, and would then build for something else.
            if member is None or not config.set_compute_capability(member, place):
                raise UsageError(
                    "TensorRT-RTX does not build for this GPU",
                    found=f"compute capability {target}",
                    expected="80, 86, 89 or 120",
                    cure="Jetson and data-centre GPUs need classic TensorRT, built on the device",
                )

    def _timing(self, config: Any) -> bytes:
        return b""


BUILDERS: dict[str, type[TensorRt]] = {"tensorrt": TensorRt, "tensorrt_rtx": TensorRtRtx}


def make(product: str, settings: BuilderSettings) -> EngineBuilder:
    """Return the builder of a product, ready to build; BackendError when this machine lacks it."""
    return BUILDERS[product](settings)


def _refused(parser: Any, name: str, api: Api) -> BackendError:
    if not parser.num_errors:
        return BackendError(
            f"{api.product} {api.version} cannot read {name}",
            found="no word of why",
            expected="an ONNX file",
            cure="check the file with `lisard bundle`",
        )
    first = parser.get_error(0)
    why = " ".join(first.desc().split())
    node = f"operator {first.node_operator()} of node '{first.node_name()}'"
    return BackendError(
        f"{api.product} {api.version} refuses {name}",
        found=f"{node}: {why}",
        expected="operators that it knows, int8 in the scheme s8s8",
        cure="replace the operator (NMS belongs after the network), or export the model again",
    )


def _monitor(trt: Any, progress: Progress) -> Any:
    """Return TensorRT's progress monitor, which tells the phases by name."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                progress(f"{phase_name} ({num_steps} steps)")

        def step_complete(self, phase_name: str, step: int) -> bool:
            return True

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()
