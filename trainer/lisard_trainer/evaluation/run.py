"""Measuring: every model in every column, part by part, each result kept as soon as it is there.

Attacked pictures are made once on the model they attack (gray-box: the surrogate), then meet every model they are for.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from lisard_ros import backends
from lisard_ros.attacks import store
from lisard_ros.bundle import model_choice
from lisard_ros.inference.preprocess import Tensor

from .. import data
from ..data.subset import subset
from ..tasks.classification.attack_model import chunk_of
from . import certify, making, versions
from .cache import Arrays, Cache, digest
from .columns import Attack, Certificate, Column, Corruption, Smoothing
from .making import Given, Part, craft
from .rows import ONNX, TORCH, Measured, Row
from .subjects import Subject, Subjects

MAKING = "lisard_trainer.evaluation.making"
NETWORK_CODE = (
    "lisard_ros.attacks.torch_model",
    "lisard_trainer.backbones",
    "lisard_trainer.tasks.classification.network",
    "lisard_trainer.losses.dual_norm",
    "lisard_trainer.evaluation.subjects",
)
ATTACK_CODE = (
    *NETWORK_CODE,
    MAKING,
    "lisard_ros.attacks",
    "lisard_trainer.tasks.classification.attack_model",
    "lisard_trainer.evaluation.methods",
)
ANSWERS_CODE = (*NETWORK_CODE, MAKING)
ONNX_CODE, ONNX_PACKAGES = ("lisard_ros.backends", "lisard_ros.inference.preprocess", MAKING), ("onnxruntime",)
CORRUPTION_CODE, CORRUPTION_PACKAGES = ("lisard_ros.corruptions", MAKING), ("cv2", "numpy")
NOISE_CODE = ("lisard_ros.injection", MAKING)
CERTIFY_CODE = (*NETWORK_CODE, "lisard_trainer.evaluation.smoothing", "lisard_trainer.evaluation.certify")


@dataclass(frozen=True)
class AttackKey:
    """What decides attacked pictures."""

    model: str
    pictures: str
    start: int
    total: int
    attack: dict[str, object]
    code: str
    device: str


@dataclass(frozen=True)
class ViewKey:
    """What decides pictures that nobody attacks: clean, corrupted or noisy."""

    pictures: str
    change: dict[str, object] = field(default_factory=dict)
    code: str = ""


@dataclass(frozen=True)
class AnswersKey:
    """What decides a model's answers to some pictures."""

    model: str
    backend: str
    view: str
    smoothing: dict[str, object]
    code: str
    device: str


@dataclass(frozen=True)
class CertificateKey:
    """What decides certified radii."""

    model: str
    pictures: str
    start: int
    certificate: dict[str, object]
    code: str
    device: str


@dataclass(frozen=True, eq=False)
class View:
    """Pictures as a model meets them: a key, and float32 [n,3,H,W] worked out only where somebody must answer."""

    key: str
    make: Callable[[], Tensor]
    unrounded: NDArray[np.int16] | None = None


@dataclass(frozen=True, eq=False)
class Bench:
    """All that measuring needs. exported: the bundle's ONNX file is asked too."""

    subjects: Subjects
    pictures: data.Pictures
    cache: Cache
    tick: Callable[[str], None] = lambda what: None
    exported: bool = True

    @functools.cached_property
    def labels(self) -> NDArray[np.int64]:
        """Own class of each picture."""
        return np.asarray(self.pictures.labels.numpy(), np.int64)

    @property
    def part_size(self) -> int:
        """How many pictures are attacked together and kept in one file."""
        return chunk_of(self.subjects.shipped.device)

    @functools.cached_property
    def onnx(self) -> backends.Backend:
        """The bundle on ONNX Runtime."""
        return backends.choose(self.subjects.bundle, ONNX).backend


def measure(bench: Bench, columns: Sequence[Column]) -> Measured:
    """Every model in every column; `bench.tick` hears of each part before it is worked on."""
    rows = tuple(row for column in columns for row in _column(bench, column))
    if "onnx" in vars(bench):
        bench.onnx.close()
    return Measured(rows)


def ticks(subjects: Subjects, columns: Sequence[Column], pictures: int) -> int:
    """How often `measure` will tick."""
    times = [len(subjects.measured) if _is_own(column) or column.certificate else 1 for column in columns]
    size = chunk_of(subjects.shipped.device)
    counts = [len(list(parts_of(pictures, column.pictures, size))) for column in columns]
    return sum(n * parts for n, parts in zip(times, counts, strict=True))


def _is_own(column: Column) -> bool:
    """Whether each model is attacked itself."""
    return column.attack is not None and column.group != "gray"


def parts_of(count: int, wanted: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Positions of a column's pictures (`wanted` of `count`, 0: all), in parts of `size`."""
    chosen = subset(count, wanted or count)
    yield from (chosen[at : at + size] for at in range(0, len(chosen), size))


def _column(bench: Bench, column: Column) -> list[Row]:
    subjects = bench.subjects
    if column.certificate:
        return [_certified(bench, column, column.certificate, subject) for subject in subjects.measured]
    if _is_own(column):
        return [_row(bench, column, [subject], subject)[0] for subject in subjects.measured]
    if column.attack:
        source = subjects.surrogates[column.attack.surrogate]
        return _row(bench, column, [*subjects.measured, source], source)
    extra = list(subjects.surrogates.values()) if column.group == "clean" else []
    return _row(bench, column, [*subjects.measured, *extra], None)


def _row(bench: Bench, column: Column, models: Sequence[Subject], source: Subject | None) -> list[Row]:
    """The models that answer the same pictures; the bundle also on ONNX Runtime where the attack is not its own."""
    asked = [(subject.name, TORCH) for subject in models]
    shipped = bench.subjects.shipped
    if bench.exported and shipped in models and source is not shipped and column.smoothing is None:
        asked.append((shipped.name, ONNX))
    gathered: dict[tuple[str, str], list[Arrays]] = {who: [] for who in asked}
    unrounded: list[NDArray[np.int16]] = []
    for part in column_parts(bench, column.pictures):
        bench.tick(column.name)
        met = view(bench, column, part, source)
        unrounded += [] if met.unrounded is None else [met.unrounded]
        for subject in models:
            gathered[subject.name, TORCH].append(_answers(bench, subject, met, part, column.smoothing))
        if (shipped.name, ONNX) in gathered:
            gathered[shipped.name, ONNX].append(_onnx_answers(bench, met))
    own_raw = np.concatenate(unrounded) if source is not None and len(models) == 1 and not column.smoothing else None
    return [_join(bench, column, who, arrays, own_raw) for who, arrays in gathered.items()]


def _join(
    bench: Bench, column: Column, who: tuple[str, str], arrays: Sequence[Arrays], unrounded: NDArray[np.int16] | None
) -> Row:
    positions = subset(len(bench.pictures), column.pictures or len(bench.pictures))
    own = bench.labels[positions]
    given = np.concatenate([part["answers"] for part in arrays])
    scores = np.concatenate([part["scores"] for part in arrays])
    raw = None if unrounded is None else unrounded == own
    return Row(*who, column, positions, given, scores, given == own, raw)


def column_parts(bench: Bench, wanted: int) -> Iterator[Part]:
    """The pictures of a column that is limited to `wanted` (0: all), part by part."""
    total, start = len(subset(len(bench.pictures), wanted or len(bench.pictures))), 0
    for positions in parts_of(len(bench.pictures), wanted, bench.part_size):
        images = bench.pictures.images[torch.from_numpy(positions)]
        own = bench.labels[positions]
        sha256 = hashlib.sha256(images.numpy().tobytes() + own.tobytes()).hexdigest()
        yield Part(start, total, data.to_unit(images).numpy(), own, sha256)
        start += len(positions)


def view(bench: Bench, column: Column, part: Part, source: Subject | None) -> View:
    if column.attack and source is not None:
        return _attacked(bench, part, column.attack, source)
    if column.corruption:
        return _corrupted(part, column.corruption)
    if column.noise_sigma_255:
        return _noisy(part, column.noise_sigma_255, column.seed)
    return View(digest(ViewKey(part.sha256)), lambda: part.x)


def _attacked(bench: Bench, part: Part, attack: Attack, source: Subject) -> View:
    settings = {k: v for k, v in asdict(attack).items() if k not in ("name", "surrogate")}
    settings["seed"] = attack.seed if attack.is_random else 0
    place = (part.start, part.total) if attack.is_random else (0, 0)
    key = AttackKey(source.key, part.sha256, *place, settings, versions.of(*ATTACK_CODE), source.device.type)
    made = bench.cache.remember(key, lambda: craft(source, part, attack))
    return View(digest(key), lambda: store.add(part.x, made["deltas"].astype(np.int16)), made["unrounded"])


def _corrupted(part: Part, corruption: Corruption) -> View:
    code = versions.of(*CORRUPTION_CODE, packages=CORRUPTION_PACKAGES)
    # Made once: every model meets the same pictures, and some corruptions cost more than an answer.
    make = functools.cache(lambda: making.corrupted(part, corruption))
    return View(digest(ViewKey(part.sha256, asdict(corruption), code)), make)


def _noisy(part: Part, sigma_255: float, seed: int) -> View:
    change: dict[str, object] = {"sigma_255": sigma_255, "seed": seed + part.start}
    key = ViewKey(part.sha256, change, versions.of(*NOISE_CODE))
    return View(digest(key), lambda: making.noisy(part, sigma_255, seed))


def _answers(bench: Bench, subject: Subject, view: View, part: Part, smoothing: Smoothing | None) -> Arrays:
    how = {**asdict(smoothing), "start": part.start} if smoothing else {}
    key = AnswersKey(subject.key, TORCH, view.key, how, versions.of(*ANSWERS_CODE), subject.device.type)

    def make() -> Arrays:
        x = torch.from_numpy(view.make()).to(subject.device)
        if smoothing is None:
            return _arrays(making.answers(subject.network, x))
        random = np.random.default_rng([smoothing.seed, part.start])
        return _arrays(making.voted(subject.network, x, smoothing, random))

    return bench.cache.remember(key, make)


def _onnx_answers(bench: Bench, view: View) -> Arrays:
    manifest = bench.subjects.bundle.manifest
    model = digest(ViewKey(manifest.files[model_choice.pick(manifest).file], {"input": str(manifest.input)}))
    code = versions.of(*ONNX_CODE, packages=ONNX_PACKAGES)
    key = AnswersKey(model, ONNX, view.key, {}, code, "cpu")
    make = making.answers_of_backend
    return bench.cache.remember(key, lambda: _arrays(make(bench.onnx, manifest.input, view.make())))


def _arrays(given: Given) -> Arrays:
    return {"answers": given.answers, "scores": given.scores}


def _certified(bench: Bench, column: Column, certificate: Certificate, subject: Subject) -> Row:
    arrays = []
    for part in column_parts(bench, column.pictures):
        bench.tick(column.name)
        key = CertificateKey(
            subject.key, part.sha256, part.start, asdict(certificate), versions.of(*CERTIFY_CODE), subject.device.type
        )
        arrays.append(bench.cache.remember(key, functools.partial(certify.certify, subject, part, certificate)))
    joined = _join(bench, column, (subject.name, TORCH), arrays, None)
    radius = np.concatenate([part["radius_l2"] for part in arrays])
    return Row(
        joined.model,
        joined.backend,
        column,
        joined.positions,
        joined.answers,
        joined.scores,
        joined.hits,
        None,
        np.where(joined.hits, radius, np.nan).astype(np.float32),
    )
