"""The report of an evaluation: every number with the attacker's knowledge, budget, n and interval, and its worth.

Fields of schema 1 keep their names and meaning; schema 2 adds columns, suite, worst, flags and what comes with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import torch

from lisard_ros.evaluation.statistics import Interval, Proportion

from .... import data, provenance
from ....evaluation.models import SHIPPED, SURROGATE
from ....evaluation.request import EPS_255, Circumstances
from ....evaluation.runner import TORCH
from ....evaluation.selection import DEFAULT_SUITE
from . import by_class, contrasts, masking, validity
from .by_class import ClassLine
from .conditions import GRAY_ALL, GRAY_WORST, WHITE_ALL, Attack, ClassificationCondition
from .contrasts import ComparedModels, ModelComparison
from .masking import Flag
from .models import ClassifierSource, ClassifiersUnderTest
from .probe import Probe
from .results import ClassificationResult, ClassificationResults, Tracks, common, on, worst
from .validity import TransferRequirement

SCHEMA = 2
GREY_LEVELS = 255
RADIUS_STEP, RADII_UP_TO_SIGMAS = 0.025, 3.5  # certificates rarely reach further


@dataclass(frozen=True)
class AccuracyLine:
    """Accuracy of one model on one backend in one condition; `unrounded` before attacked images were rounded."""

    model: str
    backend: str
    condition: str
    accuracy: Proportion
    unrounded: Proportion | None = None


@dataclass(frozen=True)
class AccuracyDifference:
    """Accuracy of `model` minus that of `control` on the same images, interval by bootstrap over tracks."""

    model: str
    control: str
    condition: str
    difference: Interval


@dataclass(frozen=True)
class Worst:
    """The lowest figure of a model within a group, or what is left when all of the group's attacks count at once.

    condition: gray_worst (the weakest), gray_all, white_all (an image is right only if it is so when clean and
    in all of them).
    columns: the condition, or all that were joined.
    """

    model: str
    condition: str
    columns: tuple[str, ...]
    accuracy: Proportion


@dataclass(frozen=True)
class Certified:
    """Share of images that are right and certified within an L2 radius, in pixel units of [0,1]."""

    model: str
    condition: str
    radius_l2: float
    accuracy: Proportion


@dataclass(frozen=True)
class ClassificationReport:
    """Everything that `lisard evaluate` writes."""

    schema: int
    title: str
    command: str
    made_at: str
    commit: str
    device: str
    data_sha256: str
    pictures: int
    tracks: int
    origin: str
    suite: str
    attacks: tuple[Attack, ...]
    columns: tuple[ClassificationCondition, ...]
    sources: tuple[ClassifierSource, ...]
    lines: tuple[AccuracyLine, ...]
    worst: tuple[Worst, ...]
    certified: tuple[Certified, ...]
    differences: tuple[AccuracyDifference, ...]
    conditions: tuple[TransferRequirement, ...]
    valid: bool
    probes: tuple[Probe, ...]
    flags: tuple[Flag, ...]
    contrasts: tuple[ModelComparison, ...] = ()
    eps_255: float = EPS_255
    classes: tuple[ClassLine, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the checks hold: exit status 0."""
        return self.valid and not any(f.severity == "warning" and f.model == SHIPPED for f in self.flags)

    @property
    def measured_on(self) -> str:
        """How many images, of how many tracks where these are fewer, and which."""
        of_tracks = f"images of {self.tracks} " if self.tracks < self.pictures else ""
        return f"{self.pictures} {of_tracks}{self.origin}"

    def line(self, model: str, condition: str, backend: str = TORCH) -> AccuracyLine | None:
        """The line of a model, None when it was not measured."""
        at = (model, condition, backend)
        return next((line for line in self.lines if (line.model, line.condition, line.backend) == at), None)

    def counts(self, condition: ClassificationCondition) -> bool:
        """Whether a condition's attack is strong enough to say something; only gray-box ones can fail."""
        if condition.attack is None or condition.group != "gray":
            return True
        return validity.counts(self.conditions, condition.attack.surrogate or SURROGATE, condition.name)


def build(
    measured: ClassificationResults,
    probes: Sequence[Probe],
    models: ClassifiersUnderTest,
    conditions: Sequence[ClassificationCondition],
    dataset: data.ImageDataset,
    about: Circumstances,
    pairs: Sequence[ComparedModels] = (),
) -> ClassificationReport:
    """Judges and sums up what was measured."""
    sources = (
        models.shipped.about,
        *(s.about for s in models.surrogates.values()),
        *(s.about for s in models.controls),
    )
    found = validity.of_models(measured, models)
    tracks = Tracks(dataset.tracks)
    classes = tuple(by_class.of(measured, dataset.labels.numpy(), models.bundle.manifest.labels, tracks))
    return ClassificationReport(
        schema=SCHEMA,
        title=about.title or f"Robustness of {models.shipped.about.recipe}",
        command=about.command,
        made_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit=provenance.commit(),
        device=device_words(models.shipped.device),
        data_sha256=dataset.sha256(),
        pictures=len(dataset),
        tracks=len(set(dataset.tracks)),
        origin=about.origin,
        suite=about.suite,
        attacks=tuple(condition.attack for condition in conditions if condition.attack),
        columns=tuple(conditions),
        sources=sources,
        lines=tuple(_line(result, tracks) for result in measured.results),
        worst=tuple(line for model in models.measured for line in _worst(measured, model.name, tracks)),
        certified=tuple(line for result in measured.results for line in _certified(result, tracks)),
        differences=tuple(_differences(measured, models, dataset.tracks, about.seed)),
        conditions=found,
        valid=validity.valid(found, measured, models.surrogates),
        probes=tuple(probes),
        flags=_flags(measured, probes, found, sources, about, classes),
        contrasts=tuple(contrasts.of(measured, pairs, dataset.tracks, about.seed)),
        eps_255=about.eps_255,
        classes=classes,
    )


def _flags(
    measured: ClassificationResults,
    probes: Sequence[Probe],
    found: tuple[TransferRequirement, ...],
    sources: Sequence[ClassifierSource],
    about: Circumstances,
    classes: Sequence[ClassLine],
) -> tuple[Flag, ...]:
    by_model = {probe.model: probe for probe in probes}
    models = [source.model for source in sources if source.role != "surrogate"]
    own = [flag for model in models for flag in masking.of_model(measured, model, by_model.get(model))]
    transferred = any(result.condition.group == "gray" for result in measured.results)
    scope = masking.of_scope(sources, about.split_mismatch, wide=transferred and about.suite != DEFAULT_SUITE)
    flags = [*own, *masking.of_classes(classes), *masking.of_surrogates(found, measured, sources), *scope]
    return tuple(sorted(flags, key=lambda flag: flag.severity != "warning"))


def device_words(device: torch.device) -> str:
    """What the figures were computed on."""
    where = "CPU" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return f"{where}, torch {torch.__version__}, float32"


def _line(result: ClassificationResult, tracks: Tracks) -> AccuracyLine:
    raw = None if result.unrounded is None else tracks.count(result.unrounded, result.positions)
    return AccuracyLine(
        result.model, result.backend, result.condition.name, tracks.count(result.hits, result.positions), raw
    )


def _certified(result: ClassificationResult, tracks: Tracks) -> Iterator[Certified]:
    if result.radius_l2 is None or result.condition.certificate is None:
        return
    furthest = RADII_UP_TO_SIGMAS * result.condition.certificate.sigma_255 / GREY_LEVELS
    for radius in np.arange(0, furthest, RADIUS_STEP):
        held = result.hits & (np.nan_to_num(result.radius_l2, nan=-1.0) >= radius)
        yield Certified(
            result.model, result.condition.name, round(float(radius), 6), tracks.count(held, result.positions)
        )


def _worst(measured: ClassificationResults, model: str, tracks: Tracks) -> Iterator[Worst]:
    clean, gray, white = (measured.of_groups(model, group) for group in ("clean", "gray", "white"))
    lowest = worst(gray)
    if lowest:
        accuracy = tracks.count(lowest.hits, lowest.positions)
        yield Worst(model, GRAY_WORST, (lowest.condition.name,), accuracy)
        yield _together(model, GRAY_ALL, clean, gray, tracks)
    if white:
        yield _together(model, WHITE_ALL, clean, white, tracks)


def _together(
    model: str,
    name: str,
    clean: Sequence[ClassificationResult],
    results: Sequence[ClassificationResult],
    tracks: Tracks,
) -> Worst:
    positions = common([*clean, *results])
    left = np.logical_and.reduce([on(result, positions) for result in (*clean, *results)])
    return Worst(model, name, tuple(result.condition.name for result in results), tracks.count(left, positions))


def _differences(
    measured: ClassificationResults, models: ClassifiersUnderTest, tracks: Sequence[str], seed: int
) -> Iterator[AccuracyDifference]:
    for control in models.controls:
        pair = ComparedModels((SHIPPED,), (control.name,))
        for found in contrasts.of(measured, [pair], tracks, seed):
            yield AccuracyDifference(SHIPPED, control.name, found.condition, found.difference)
