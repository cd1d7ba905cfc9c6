"""Engines of a whole bundle: built for every model that the product takes, and verified where they can run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from lisard_ros import tensorrt_api
from lisard_ros.backends.engine_cache import Policy, read_sidecar
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.bundle.manifest import ModelFile
from lisard_ros.errors import LisardError, unknown_name

from ..image_sets import ImageSet
from ..tensorrt import BuilderSettings, EngineBuilder, Progress, builders, engine_cache
from .comparison import EngineComparison
from .gate import Limits
from .verify import ModelUnderTest, verify


@dataclass(frozen=True, slots=True)
class Builder:
    """A ready builder with its settings."""

    making: EngineBuilder
    settings: BuilderSettings


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """How engines are provided and judged."""

    images: ImageSet
    limits: Limits
    policy: Policy = "build"
    force: bool = False


class Deployed(msgspec.Struct, frozen=True):
    """One engine. build_s: None when it was in the cache. why: what keeps it from being verified here, or empty."""

    model: str
    product: str
    version: str
    device: str
    key: str
    folder: str
    engine_bytes: int = msgspec.field(name="plan_bytes")
    build_s: float | None
    state: str
    why: str
    measured: EngineComparison | None


def builder(product: str, settings: BuilderSettings) -> Builder:
    """Make a builder ready; an error says which stage of TensorRT this machine lacks."""
    if product not in builders.BUILDERS:
        raise unknown_name("TensorRT product", product, builders.BUILDERS)
    return Builder(builders.make(product, settings), settings)


def deploy_all(bundle: Bundle, using: Builder, work: Work, say: Progress) -> Iterator[Deployed]:
    """Provide an engine of each model that TensorRT takes (not int8 u8s8)."""
    for model in bundle.manifest.models:
        if model.scheme in model_choice.FOR_TENSORRT:
            yield deploy(bundle, model, using, work, say)


def deploy(bundle: Bundle, model: ModelFile, using: Builder, work: Work, say: Progress) -> Deployed:
    """Provide one engine, and verify it if this machine can run it."""
    making, name = using.making, model_choice.name(model)
    provided = engine_cache.provide(
        bundle, model, making, using.settings, work.policy, lambda text: say(f"{making.product} {name}: {text}")
    )
    engine, measured = provided.engine, None
    why = cannot_run(making.product)
    if not why and engine.sidecar.verification is None:
        under_test = ModelUnderTest(making.product, model.precision, model.scheme)
        try:
            measured = verify(bundle, under_test, work.images, work.limits, force=work.force).measured
        except LisardError as error:
            why = str(error)
    sidecar = read_sidecar(engine.folder)
    return Deployed(
        name,
        making.product,
        making.version,
        sidecar.key.device,
        sidecar.key.digest(),
        str(engine.folder),
        sidecar.engine_bytes,
        provided.built.seconds if provided.built else None,
        sidecar.state,
        why if sidecar.state == "unverified" else "",
        measured,
    )


def cannot_run(product: str) -> str:
    """Say which stage keeps engines from running here, or return ''."""
    last = tensorrt_api.prerequisites(product)[-1]
    return "" if last.ok else f"{last.name}: {last.detail}"
