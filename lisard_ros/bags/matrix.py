"""Which models a replay runs and what they are attacked with: plain values, and the models made of them.

A specification can be sent to another process, which opens the same models and attacks of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from lisard_ros import bundle as bundles
from lisard_ros import injection
from lisard_ros.bags.evaluation import MatrixModel, names_of
from lisard_ros.bags.labels import require_known
from lisard_ros.bundle import Bundle, model_choice, signature
from lisard_ros.bundle.manifest import ATTACK_PREFIX, DETECTOR_PREFIX
from lisard_ros.errors import UsageError
from lisard_ros.evaluation.injection_settings import InjectionSettings, injection_settings
from lisard_ros.inference.pipeline import Pipeline, open_pipeline
from lisard_ros.injection import Injection


@dataclass(frozen=True, slots=True)
class MatrixSpec:
    """What a replay runs: every bundle on every engine.

    bundles: paths. engines: backend and precision of each. injections: `all`, `none` or names with commas. detector:
    a bundle in front. surrogate: whose gradients attacks with gradients follow. sigma_255: of noise. threads: of the
    runtime, 0 for each core one. trusted_keys: files or folders; some of them must have signed each bundle.
    """

    bundles: tuple[Path, ...]
    engines: tuple[tuple[str, str], ...]
    injections: str = "none"
    detector: Path | None = None
    surrogate: Path | None = None
    sigma_255: float = injection.DEFAULT_NOISE_SIGMA_255
    seed: int = 0
    threads: int = 0
    trusted_keys: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """A model of the matrix. alone: it is the fp32 model that others of its bundle are compared with, or stands so."""

    pipeline: Pipeline
    injections: tuple[Injection, ...]
    alone: bool


class Matrix:
    """The models of a specification, open. Use `open_matrix`, which also closes them."""

    def __init__(self, spec: MatrixSpec, opened: ExitStack) -> None:
        """Open the models; `opened` closes them."""
        self._spec, self._closing = spec, opened
        keys = signature.read_trusted_keys(spec.trusted_keys) if spec.trusted_keys else None
        self._keys = keys
        self._surrogate = None if spec.surrogate is None else bundles.read(bundles.locate(spec.surrogate))
        if keys is not None and self._surrogate is not None:
            keys.require_signed(self._surrogate)
        self._opened = [self._open(path, *engine) for path in spec.bundles for engine in spec.engines]
        names = self.injection_names
        if self._surrogate is not None and not any(name.startswith(ATTACK_PREFIX) for name in names):
            raise UsageError(
                "--surrogate without an attack",
                found=", ".join(names) or "no injection",
                expected=f"{ATTACK_PREFIX}NAME among --injections",
            )

    @property
    def pipelines(self) -> tuple[Pipeline, ...]:
        """Those under test."""
        return tuple(one.pipeline for one in self._opened)

    @property
    def injection_names(self) -> tuple[str, ...]:
        """The names of all injections, each once."""
        return tuple(dict.fromkeys(one.name for opened in self._opened for one in opened.injections))

    def models(self, labelled: bool) -> tuple[MatrixModel, ...]:
        """Return the models under test. labelled: answers are compared with labels, so no fp32 model is opened."""
        references: dict[str, Pipeline] = {}
        for one in self._opened:
            if one.alone and one.pipeline.choice.backend.name == "onnxruntime":
                references.setdefault(one.pipeline.bundle.sha256, one.pipeline)
        models = []
        for one in self._opened:
            reference = None
            if not (one.alone or labelled):
                key = one.pipeline.bundle.sha256
                if key not in references:
                    references[key] = self._pipeline(one.pipeline.bundle, "onnxruntime", "fp32")
                reference = references[key]
            models.append(MatrixModel(one.pipeline, one.injections, reference))
        return tuple(models)

    def settings(self) -> tuple[InjectionSettings, ...]:
        """Describe the injections of each bundle, each once."""
        models = [MatrixModel(one.pipeline, one.injections) for one in self._opened]
        found = {}
        for model, name in zip(models, names_of(models), strict=True):
            first = model.pipeline.detector.bundle if model.pipeline.detector is not None else None
            for one in model.injections:
                made = injection_settings(
                    model.pipeline.bundle, first, one, sigma_255=self._spec.sigma_255, seed=self._spec.seed
                )
                surrogate = self._surrogate_of(one.name)
                about = f"{surrogate.manifest.name} {surrogate.sha256[:12]}" if surrogate is not None else None
                found[name, one.name] = replace(made, surrogate=about, bundle=name)
        return tuple(found.values())

    def _pipeline(self, bundle: Path | Bundle, backend: str, precision: str) -> Pipeline:
        pipeline = open_pipeline(
            bundle,
            backend=backend,
            threads=self._spec.threads,
            detector=self._spec.detector,
            precision=precision,
            trusted_keys=self._keys,
        )
        self._closing.callback(pipeline.close)
        return pipeline

    def _open(self, path: Path, backend: str, precision: str) -> _Opened:
        pipeline = self._pipeline(path, backend, precision)
        injections = tuple(self._made(name, pipeline) for name in names_for(self._spec.injections, pipeline))
        return _Opened(pipeline, injections, precision in (model_choice.AUTO, "fp32"))

    def _made(self, name: str, pipeline: Pipeline) -> Injection:
        """Make an injection ready; attacks by queries ask the engine that is replayed."""
        first = pipeline.detector.bundle if pipeline.detector is not None else None
        attacked = _attacked(pipeline, name)
        sources = injection.AttackSources(self._surrogate_of(name), attacked.choice.backend, self._spec.threads)
        return injection.make_staged(
            pipeline.bundle, first, name, sigma_255=self._spec.sigma_255, seed=self._spec.seed, sources=sources
        )

    def _surrogate_of(self, name: str) -> Bundle | None:
        """Return the surrogate for attacks that follow gradients; it stands for the bundle behind a detector."""
        return self._surrogate if name.startswith(ATTACK_PREFIX) else None


def _attacked(pipeline: Pipeline, name: str) -> Pipeline:
    """Return the stage that an injection of this name attacks."""
    return pipeline.detector if name.startswith(DETECTOR_PREFIX) and pipeline.detector is not None else pipeline


@contextmanager
def open_matrix(spec: MatrixSpec) -> Iterator[Matrix]:
    """Open the models of a specification and make their injections ready; they are closed when the block ends.

    Raises:
        LisardError: A bundle, backend, injection or surrogate is missing or does not fit.
    """
    with ExitStack() as opened:
        yield Matrix(spec, opened)


def names_for(words: str, pipeline: Pipeline) -> tuple[str, ...]:
    """Resolve `none`, `all` or a comma-separated list against what the bundle offers; clean is always answered."""
    if words in ("none", ""):
        return ()
    if words == "all":
        first = injection.names(pipeline.detector.bundle) if pipeline.detector is not None else ()
        names = (*injection.names(pipeline.bundle), *(DETECTOR_PREFIX + name for name in first))
        return tuple(name for name in names if name not in (injection.CLEAN, DETECTOR_PREFIX + injection.CLEAN))
    wanted = dict.fromkeys(word.strip() for word in words.split(",") if word.strip())
    return tuple(word for word in wanted if word != injection.CLEAN)


class RecordedLabels(Protocol):
    """What is recorded: a `Bag`, or counts of it."""

    def label_names(self) -> Counter[str]:
        """Count the classes of all labels."""

    def has_boxes(self) -> bool:
        """Whether some label is a list of boxes."""


def check_labels(bag: RecordedLabels, pipelines: Sequence[Pipeline]) -> dict[str, int]:
    """Refuse recorded classes that no answer can fit; returns those of boxes that no model looks at, with counts.

    Raises:
        DataError: A class is unknown to a model, or a model looks at no recorded box.
    """
    unseen: list[dict[str, int]] = [_unseen(bag, pipeline) for pipeline in pipelines]
    return {name: count for name, count in unseen[0].items() if all(name in one for one in unseen)}


def _unseen(bag: RecordedLabels, pipeline: Pipeline) -> dict[str, int]:
    recorded = bag.label_names()
    parts = [part for part in (pipeline, pipeline.detector) if part is not None]
    known = {name for part in parts for name in (*part.bundle.manifest.labels, *part.bundle.manifest.roi_groups)}
    unseen: dict[str, int] = {}
    if pipeline.roi_classes and not pipeline.finds_boxes and bag.has_boxes():
        unseen = {name: count for name, count in recorded.items() if name not in pipeline.roi_classes}
        if len(unseen) == len(recorded) and recorded:
            require_known(recorded, pipeline.roi_classes, pipeline.bundle.manifest.name)
    require_known({n: count for n, count in recorded.items() if n not in unseen}, known, pipeline.bundle.manifest.name)
    return unseen
