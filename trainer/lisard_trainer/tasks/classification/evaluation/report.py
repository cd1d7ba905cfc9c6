"""The report of an evaluation: every number with the attacker's knowledge, budget, n and interval, and its worth.

Schema 3 names the model under test (`model`) and calls things as everywhere else; bench/evaluation_json.py knows what
schema 2 called them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from lisard_ros.evaluation.statistics import Interval, Proportion
from lisard_ros.frames import GREY_LEVELS

from ....evaluation.conditions import DEFAULT_SUITE
from ....evaluation.deployed import INT8, TORCH
from ....evaluation.models import SURROGATE, labelled
from ....evaluation.report import EvaluationReport, stated
from ....evaluation.request import EPS_255, EvaluationRequest
from ....training.checkpoint import Checkpoint
from . import masking, validity
from .masking import Flag, Probe
from .measuring import ClassificationContext
from .models import ClassifierSource
from .results import (
    ClassificationResult,
    ClassificationResults,
    ClassLine,
    ComparedModels,
    ImageTracks,
    ModelComparison,
    by_class,
    common,
    comparisons,
    int8_lines,
    on,
    worst,
)
from .suites import GRAY_ALL, GRAY_WORST, WHITE_ALL, Attack, ClassificationCondition
from .validity import TransferRequirement

SCHEMA = 3
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
    """Accuracy of `model` minus that of `baseline` on the same images, bootstrapped over tracks."""

    model: str
    baseline: str
    condition: str
    difference: Interval


@dataclass(frozen=True)
class Worst:
    """The lowest figure of a model within a group, or what is left when all of the group's attacks count at once.

    condition: gray_worst (the weakest), gray_all, white_all (an image is right only if it is so when clean and
    in all of them).
    conditions: the condition, or all that were joined.
    """

    model: str
    condition: str
    conditions: tuple[str, ...]
    accuracy: Proportion


@dataclass(frozen=True)
class Certified:
    """Share of images that are right and certified within an L2 radius, in pixel units of [0,1]."""

    model: str
    condition: str
    radius_l2: float
    accuracy: Proportion


@dataclass(frozen=True, kw_only=True)
class ClassificationReport(EvaluationReport):
    """Everything that `lisard evaluate` writes."""

    sources: tuple[ClassifierSource, ...]
    made_at: str
    data_sha256: str
    images: int
    tracks: int
    origin: str
    attacks: tuple[Attack, ...]
    conditions: tuple[ClassificationCondition, ...]
    lines: tuple[AccuracyLine, ...]
    worst: tuple[Worst, ...]
    certified: tuple[Certified, ...]
    differences: tuple[AccuracyDifference, ...]
    requirements: tuple[TransferRequirement, ...]
    valid: bool
    probes: tuple[Probe, ...]
    flags: tuple[Flag, ...]
    comparisons: tuple[ModelComparison, ...] = ()
    eps_255: float = EPS_255
    classes: tuple[ClassLine, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the checks hold: exit status 0."""
        return self.valid and not any(f.severity == "warning" and f.model == self.model for f in self.flags)

    @property
    def measured_on(self) -> str:
        """How many images, of how many tracks where these are fewer, and which."""
        of_tracks = f"images of {self.tracks} " if self.tracks < self.images else ""
        return f"{self.images} {of_tracks}{self.origin}"

    def line(self, model: str, condition: str, backend: str = TORCH) -> AccuracyLine | None:
        """The line of a model, None when it was not measured."""
        at = (model, condition, backend)
        return next((line for line in self.lines if (line.model, line.condition, line.backend) == at), None)

    def counts(self, condition: ClassificationCondition) -> bool:
        """Whether a condition's attack is strong enough to say something; only gray-box ones can fail."""
        if condition.attack is None or condition.group != "gray":
            return True
        return validity.counts(self.requirements, condition.attack.surrogate or SURROGATE, condition.name)


def build(
    context: ClassificationContext,
    measured: ClassificationResults,
    conditions: Sequence[ClassificationCondition],
    request: EvaluationRequest,
    origin: str,
    pairs: Sequence[ComparedModels] = (),
) -> ClassificationReport:
    """Judges and sums up what was measured. origin: of the images, in words."""
    models, dataset, probes = context.models, context.dataset, masking.probe(context)
    sources = tuple(m.about for m in (models.of_bundle, *models.surrogates.values(), *models.baselines))
    found = validity.of_models(measured, models)
    tracks = ImageTracks(dataset.tracks)
    ours = models.of_bundle.name
    classes = tuple(by_class(measured, ours, dataset.labels.numpy(), models.bundle.manifest.labels, tracks))
    by_model = {probe.model: probe for probe in probes}
    transferred = any(result.condition.group == "gray" for result in measured.results)
    flags = (
        *(f for m in models.measured for f in masking.of_model(measured, m.name, by_model.get(m.name))),
        *masking.of_classes(ours, classes),
        *masking.of_surrogates(found, measured, sources),
        *masking.of_scope(sources, split_mismatch(request), wide=transferred and request.suite != DEFAULT_SUITE),
    )
    return ClassificationReport(
        schema=SCHEMA,
        title=request.title or f"Robustness of {ours}",
        made_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        data_sha256=dataset.sha256(),
        images=len(dataset),
        tracks=len(set(dataset.tracks)),
        origin=origin,
        attacks=tuple(condition.attack for condition in conditions if condition.attack),
        conditions=tuple(conditions),
        sources=sources,
        lines=tuple(_line(result, tracks) for result in measured.results if result.backend != INT8),
        worst=tuple(line for model in models.measured for line in _worst(measured, model.name, tracks)),
        certified=tuple(line for result in measured.results for line in _certified(result, tracks)),
        differences=tuple(
            AccuracyDifference(ours, baseline.name, one.condition, one.difference)
            for baseline in models.baselines
            for one in comparisons(measured, [ComparedModels((ours,), (baseline.name,))], dataset.tracks, request.seed)
        ),
        requirements=found,
        valid=validity.valid(found, measured, models.surrogates),
        probes=probes,
        flags=tuple(sorted(flags, key=lambda flag: flag.severity != "warning")),
        comparisons=tuple(comparisons(measured, pairs, dataset.tracks, request.seed)),
        eps_255=request.eps_255,
        classes=classes,
        **stated(models, request, "accuracy", int8_lines(measured, tracks, request.seed)),
    )


def split_mismatch(request: EvaluationRequest) -> tuple[str, ...]:
    """Names of models trained on other images than the first surrogate: held-back tracks may be known to them."""

    def split(one: Checkpoint) -> tuple[object, ...]:
        return one.data_sha256, one.recipe.data.split_seed, one.recipe.data.validation_share

    saved, card = labelled(request.surrogates, request.baselines), request.bundle.manifest.card
    first = next(iter(saved.values()))
    own = (request.bundle.manifest.name,) if card and card.data_sha256 not in ("", first.data_sha256) else ()
    return own + tuple(name for name, one in saved.items() if split(one) != split(first))


def _line(result: ClassificationResult, tracks: ImageTracks) -> AccuracyLine:
    raw = None if result.unrounded is None else tracks.count(result.unrounded, result.positions)
    return AccuracyLine(
        result.model, result.backend, result.condition.name, tracks.count(result.hits, result.positions), raw
    )


def _certified(result: ClassificationResult, tracks: ImageTracks) -> Iterator[Certified]:
    if result.radius_l2 is None or result.condition.certificate is None:
        return
    furthest = RADII_UP_TO_SIGMAS * result.condition.certificate.sigma_255 / GREY_LEVELS
    for radius in np.arange(0, furthest, RADIUS_STEP):
        held = result.hits & (np.nan_to_num(result.radius_l2, nan=-1.0) >= radius)
        yield Certified(
            result.model, result.condition.name, round(float(radius), 6), tracks.count(held, result.positions)
        )


def _worst(measured: ClassificationResults, model: str, tracks: ImageTracks) -> Iterator[Worst]:
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
    tracks: ImageTracks,
) -> Worst:
    positions = common([*clean, *results])
    left = np.logical_and.reduce([on(result, positions) for result in (*clean, *results)])
    return Worst(model, name, tuple(result.condition.name for result in results), tracks.count(left, positions))
