"""Gets an engine of a bundle by policy: from the cache, or built now; two processes never build one key twice.

require: only what is there. build: what is there, else build. rebuild: build in any case.
"""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass
from pathlib import Path

from lisard_ros import __version__
from lisard_ros.backends import engine_cache
from lisard_ros.backends.engine_cache import CachedEngine, EngineKey, Policy
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.bundle.manifest import ModelFile
from lisard_ros.errors import BackendError, unknown_name
from lisard_ros.whole_file import write_whole

from .. import onnx_file
from . import BuilderSettings, Built, EngineBuilder, Progress, builders

TIMING_NAME = "timing"


@dataclass(frozen=True, slots=True, eq=False)
class Provided:
    """An engine, and how it was built if it was built just now."""

    engine: CachedEngine
    built: Built | None


def key_of(bundle: Bundle, model: ModelFile, builder: EngineBuilder, settings: BuilderSettings) -> EngineKey:
    """Return the key of the engine that this builder would make."""
    device, capability = builder.device()
    fixed = onnx_file.fixed_batch(onnx_file.load(bundle.data(model.file), model.file))
    batches = settings.batches
    return EngineKey(
        onnx_sha256=model.sha256,
        precision=model.precision,
        scheme=model.scheme,
        calibration_sha256=model.calibration.sha256 if model.calibration else "",
        product=builder.product,
        version=builder.version,
        device=device,
        compute_capability=capability,
        targets=settings.targets if builder.product == "tensorrt_rtx" else (),
        cpu=platform.machine(),
        least=fixed or batches.least,
        usual=fixed or batches.usual,
        most=fixed or batches.most,
        height=bundle.manifest.input.height,
        width=bundle.manifest.input.width,
        workspace_mib=settings.workspace_mib,
        level=settings.level,
        dla_core=settings.dla_core,
    )


def provide(
    bundle: Bundle,
    model: ModelFile,
    builder: EngineBuilder,
    settings: BuilderSettings,
    policy: Policy,
    progress: Progress,
) -> Provided:
    """Return the engine; BackendError when it is not there under `require`, or when the build fails."""
    if policy not in engine_cache.POLICIES:
        raise unknown_name("plan_policy", policy, engine_cache.POLICIES)
    key = key_of(bundle, model, builder, settings)
    folder = engine_cache.folder_of(bundle.sha256, key)
    if policy != "rebuild" and folder.is_dir():
        return Provided(engine_cache.read(folder), None)
    if policy in ("require", "fallback"):
        raise BackendError(
            "no such engine in the cache",
            found=f"nothing at {folder}",
            expected=f"an engine of key {key.digest()[:12]}",
            cure=f"build it with `{engine_cache.build_command(bundle, builder.product)}`",
        )
    before = _stamp(folder)
    with engine_cache.building(bundle.sha256, key):
        if _stamp(folder) != before:
            return Provided(engine_cache.read(folder), None)  # another process built it while this one waited
        built = builder.build(bundle.data(model.file), model.file, _timings(builder), progress)
        _keep_timings(builder, built.timing_cache)
        made_by = f"lisard_ros {__version__}"
        return Provided(engine_cache.store(bundle, key, built.engine, built.seconds, made_by), built)


def build_for_runtime(bundle: Bundle, precision: str, product: str, policy: Policy) -> CachedEngine:
    """Provide the engine that the node wants, with the usual settings; progress is logged."""
    settings = BuilderSettings()
    model = model_choice.pick(bundle.manifest, precision, model_choice.FOR_TENSORRT)
    builder = builders.make(product, settings)
    return provide(bundle, model, builder, settings, policy, logging.getLogger(__name__).info).engine


def _stamp(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _timing_file(builder: EngineBuilder) -> Path:
    device, capability = builder.device()
    name = f"{builder.product}-{builder.version}-{device}-{capability}".replace("/", "_").replace(" ", "_")
    return engine_cache.cache_root() / TIMING_NAME / name


def _timings(builder: EngineBuilder) -> bytes:
    try:
        return _timing_file(builder).read_bytes()
    except OSError:
        return b""  # the first build on this device


def _keep_timings(builder: EngineBuilder, data: bytes) -> None:
    if not data:
        return
    path = _timing_file(builder)
    try:
        write_whole(path, data)
    except OSError as error:
        raise engine_cache.not_written(path, error) from error
