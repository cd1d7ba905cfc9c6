"""Measuring: every model in every column, part by part, each result kept as soon as it is there.

Attacked pictures are made once on the model they attack and rounded to grey levels, then meet every model they are for.
Corruptions and noise act on the letterboxed input, padding included.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lisard_ros import injection
from lisard_ros.attacks import store
from lisard_ros.attacks.gradient import PGD, pgd
from lisard_ros.attacks.mifgsm import MIFGSM, GradientSmoothing, mifgsm
from lisard_ros.attacks.model import BoxCriterion
from lisard_ros.corruptions import corrupt
from lisard_ros.evaluation.average_precision import Matches, ap50
from lisard_ros.inference.postprocess import Boxes

from ...data.detection import Scenes
from ...tasks.detection import metrics
from ...tasks.detection.attack_model import mislabelled
from ...tasks.detection.matching import match
from ...tasks.detection.metrics import Precision
from .. import versions
from ..cache import Arrays, Cache, digest
from ..methods import RowsOfAll
from . import patches
from .plan import Column
from .subjects import Subject, Subjects

PART = 32  # pictures that are attacked together and kept in one file
NETWORK_CODE = (
    "lisard_ros.attacks.torch_model",
    "lisard_trainer.backbones",
    "lisard_trainer.tasks.detection.network",
    "lisard_trainer.tasks.detection.metrics",
)
ATTACK_CODE = (
    *NETWORK_CODE,
    "lisard_ros.attacks",
    "lisard_trainer.tasks.detection.attack_model",
    "lisard_trainer.tasks.detection.assign",
    "lisard_trainer.tasks.detection.losses",
)


@dataclass(frozen=True)
class DetectionAttackKey:
    """What decides attacked pictures."""

    model: str
    pictures: str
    start: int
    column: dict[str, object]
    code: str


@dataclass(frozen=True)
class DetectionAnswersKey:
    """What decides a detector's answers to some pictures."""

    model: str
    pictures: str
    start: int
    column: dict[str, object]
    attacked: str
    code: str


@dataclass(frozen=True, eq=False)
class Row:
    """One model in one column: what it found and how that matches the truth."""

    model: str
    column: Column
    found: tuple[Boxes, ...]
    matches: Matches
    precision: Precision

    @functools.cached_property
    def ap50(self) -> float:
        """AP50 in [0,1]."""
        return ap50(self.matches)


@dataclass(frozen=True, eq=False)
class Bench:
    """All that measuring needs. training: gives the pictures that patches are made on; asked only if there are some."""

    subjects: Subjects
    scenes: Scenes
    cache: Cache
    training: Callable[[], Scenes]
    tick: Callable[[str], None] = lambda what: None

    @functools.cached_property
    def pictures(self) -> str:
        """Hash of the pictures and their boxes."""
        return self.scenes.sha256()

    @functools.cached_property
    def workshop(self) -> patches.Workshop:
        """Where patches are made."""
        return patches.Workshop(patches.attackers(self.training()), self.cache)

    @property
    def threshold(self) -> float:
        """Score from which the bundle shows a box."""
        decode = self.subjects.bundle.manifest.decode
        return decode.score_threshold if decode else 0.0


def measure(bench: Bench, columns: Sequence[Column]) -> list[Row]:
    """Every model in every column."""
    return [row for column in columns for row in _column(bench, column)]


def ticks(subjects: Subjects, columns: Sequence[Column], pictures: int) -> int:
    """How often `measure` will tick."""
    parts = len(list(parts_of(pictures)))
    return parts * sum(len(list(_meetings(subjects, column))) for column in columns)


def parts_of(count: int) -> Iterator[slice]:
    """Parts of the pictures."""
    yield from (slice(at, min(at + PART, count)) for at in range(0, count, PART))


def _meetings(subjects: Subjects, column: Column) -> Iterator[tuple[Subject, Subject | None]]:
    """Who answers in a column, and on whom its pictures were made."""
    own = column.group in ("white", "tog", "white_patch")
    source = subjects.surrogates[column.surrogate] if column.group in ("gray", "gray_patch") else None
    for subject in subjects.measured:
        yield subject, subject if own else source
    if source is not None:
        yield source, source
    if column.group in ("clean", "noise_patch"):
        yield from ((surrogate, None) for surrogate in subjects.surrogates.values())


def _column(bench: Bench, column: Column) -> Iterator[Row]:
    for subject, source in _meetings(bench.subjects, column):
        found: list[Boxes] = []
        for part in parts_of(len(bench.scenes)):
            bench.tick(f"{column.name} {subject.name}")
            found += _answers(bench, column, subject, source, part)
        matches = match(found, bench.scenes, bench.threshold)
        yield Row(subject.name, column, tuple(found), matches, metrics.precision_of(found, bench.scenes))


def _answers(bench: Bench, column: Column, subject: Subject, source: Subject | None, part: slice) -> list[Boxes]:
    key = DetectionAnswersKey(
        subject.key,
        bench.pictures,
        part.start,
        column.settings(),
        _attacked_digest(bench, column, source, part),
        versions.of(*NETWORK_CODE, "lisard_ros.corruptions"),
    )
    return unpacked(
        bench.cache.remember(key, lambda: packed(metrics.detect(subject.network, view(bench, column, source, part))))
    )


def _attacked_digest(bench: Bench, column: Column, source: Subject | None, part: slice) -> str:
    """Hash of what decides the attacked pictures; empty where nobody is attacked."""
    if column.where:
        return patches.attack_digest(bench.workshop, column, source)
    return digest(_attack_key(bench, column, source, part)) if source is not None else ""


def view(bench: Bench, column: Column, source: Subject | None, part: slice) -> Tensor:
    """The pictures of a part as a model meets them, float32 [n,3,H,W] in [0,1]."""
    if column.where:
        return patches.patched(bench.workshop.print_of(column, source), column, bench.scenes, part)
    images = bench.scenes.images[part]
    x = images.float().div(255)
    if source is not None:
        key = _attack_key(bench, column, source, part)
        arrays = bench.cache.remember(key, lambda: craft(bench, column, source, part))
        return torch.from_numpy(store.add(x.contiguous().numpy(), arrays["deltas"].astype(np.int16)))
    if column.group == "noise":
        noisy = injection.Noise(column.sigma_255, seed=column.seed).apply(x.contiguous().numpy(), ()).x
        return torch.from_numpy(noisy)
    if column.group == "corruption":
        rows = images.permute(0, 2, 3, 1).contiguous().numpy()
        changed = corrupt(rows, column.corruption, column.severity, column.seed)
        return torch.from_numpy(changed).permute(0, 3, 1, 2).float().div(255)
    return x


def craft(bench: Bench, column: Column, source: Subject, part: slice) -> Arrays:
    """Attacks a model: deltas in grey levels [n,3,H,W]."""
    x = bench.scenes.images[part].float().div(255).contiguous()
    random = RowsOfAll(column.seed, part.start, part.stop, len(bench.scenes))
    aim, eps, step = criterion(bench.scenes, column, part), column.eps_255 / 255, column.step_255 / 255
    if column.method == "pgd":
        made = pgd(source.attack_model, x, aim, PGD(eps, step, column.steps), random)
    else:
        smoothing = GradientSmoothing() if column.method == "ti_fgsm" else None
        made = mifgsm(source.attack_model, x, aim, MIFGSM(eps, column.steps, step=step, smoothing=smoothing), random)
    return {"deltas": store.quantise(x.numpy(), made.numpy(), column.eps_255).astype(np.int8)}


def criterion(scenes: Scenes, column: Column, part: slice) -> BoxCriterion:
    """What an attack of this column wants."""
    assert column.loss is not None
    labels = np.asarray(scenes.labels[part].numpy(), np.int64)
    targets = mislabelled(labels, len(scenes.classes)) if column.loss == "mislabel" else None
    return BoxCriterion(scenes.boxes[part].numpy(), labels, column.loss, targets)


def _attack_key(bench: Bench, column: Column, source: Subject, part: slice) -> DetectionAttackKey:
    return DetectionAttackKey(source.key, bench.pictures, part.start, column.settings(), versions.of(*ATTACK_CODE))


def packed(found: Sequence[Boxes]) -> Arrays:
    """Answers as arrays that can be kept."""
    return {
        "counts": np.array([len(one.scores) for one in found], np.int64),
        "boxes": np.concatenate([one.boxes_xyxy_px for one in found]).astype(np.float32),
        "scores": np.concatenate([one.scores for one in found]),
        "classes": np.concatenate([one.classes for one in found]).astype(np.int64),
    }


def unpacked(arrays: Arrays) -> list[Boxes]:
    """What `packed` packed."""
    ends = np.cumsum(arrays["counts"])[:-1]
    rows = (np.split(arrays[name], ends) for name in ("boxes", "scores", "classes"))
    return [Boxes(_wide(b), s, c.astype(np.intp)) for b, s, c in zip(*rows, strict=True)]


def _wide(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    return boxes.astype(np.float64)
