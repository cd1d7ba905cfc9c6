"""The report of a detector's evaluation: every figure with the attacker's knowledge, budget, n and interval.

Intervals are 95 % bootstrap intervals over images; differences are paired, image by image. A gray-box attack
counts only if its surrogate is as good as the plain baseline, falls itself, and hurts the baseline of another seed; a
patch must do both beyond what a patch of noise at the same places does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from lisard_ros.evaluation.average_precision import ap50s, lost_share
from lisard_ros.evaluation.statistics import Interval, interval_of, resamples

from ....evaluation.conditions import CLEAN
from ....evaluation.deployed import INT8, TORCH
from ....evaluation.int8 import Int8Line
from ....evaluation.models import PLAIN
from ....evaluation.report import EvaluationReport, stated
from ....evaluation.request import EvaluationRequest
from ....evaluation.results import EvaluationResults
from ....evaluation.tables import with_interval
from . import patches
from .measuring import DetectionContext, DetectionResult
from .models import DetectorSource
from .suites import DetectionCondition

SCHEMA = 2  # bench/evaluation_json.py knows what schema 1 called things
DRAWS = 1000
AS_GOOD = 0.9  # of the plain baseline's clean AP50: a surrogate that is worse proves nothing
FALLS = 0.6  # share of its clean AP50 that an attacked surrogate may keep
CLEARLY_HURTS = 0.8  # share that the plain baseline of another seed may keep


@dataclass(frozen=True)
class PrecisionLine:
    """One model in one condition. AP figures in [0,1] (COCO); kept: AP50 over clean AP50; lost: share of the true boxes
    met in the clean images that are no longer met.
    """

    model: str
    condition: str
    group: str
    knowledge: str
    loss: str | None
    eps_255: float
    steps: int
    surrogate: str
    sigma_255: float
    corruption: str
    severity: int
    n: int
    ap: float
    ap50: Interval
    ap75: float
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    kept: Interval
    lost: float
    where: str = ""
    share: float = 0.0
    method: str = ""


@dataclass(frozen=True)
class PatchEffect:
    """A printed patch against one model, beside a patch of noise of the same size at the same places (paired).

    share_low, share_high: its area as a share of the true box's. made_on: training images it was made on, in `steps`
    steps; n: measured images. boxes, patches: true boxes, and those with room for a patch. most_hidden, mean_hidden:
    share of a box that patches hide. ap50, noise_ap50: under the patch and under noise; gain: the first minus the
    second, negative where the print does more harm than covering.
    """

    model: str
    condition: str
    knowledge: str
    where: str
    share_low: float
    share_high: float
    turn_deg: float
    side: int
    steps: int
    made_on: int
    n: int
    boxes: int
    patches: int
    most_hidden: float
    mean_hidden: float
    ap50: Interval
    noise_ap50: Interval
    gain: Interval


@dataclass(frozen=True)
class PrecisionDifference:
    """The bundle minus a baseline in one condition, paired: AP50, and the share of the clean AP50 that is kept."""

    baseline: str
    condition: str
    ap50: Interval
    kept: Interval


@dataclass(frozen=True)
class CorruptionSummary:
    """mPC: mean AP over the measured corruptions and severities; rPC: that over clean AP (Michaelis et al. 2019)."""

    model: str
    conditions: int
    mpc: float
    rpc: float


@dataclass(frozen=True)
class Requirement:
    """What must hold for an attack to count."""

    name: str
    holds: bool
    found: str
    expected: str


@dataclass(frozen=True, kw_only=True)
class DetectionReport(EvaluationReport):
    """Everything that was found, and from what."""

    sources: tuple[DetectorSource, ...]
    task: str
    created: str
    origin: str
    images_sha256: str
    n: int
    seed: int
    classes: tuple[str, ...]
    lines: tuple[PrecisionLine, ...]
    differences: tuple[PrecisionDifference, ...]
    corrupted: tuple[CorruptionSummary, ...]
    patches: tuple[PatchEffect, ...]
    requirements: tuple[Requirement, ...]

    @property
    def passed(self) -> bool:
        """Whether every requirement holds."""
        return all(requirement.holds for requirement in self.requirements)

    def line(self, model: str, condition: str) -> PrecisionLine | None:
        """The line of a model in a condition."""
        return next((line for line in self.lines if (line.model, line.condition) == (model, condition)), None)


class DetectionResults(EvaluationResults[DetectionResult]):
    """All results, found by model and condition, with their AP50: of all images, then of each resample of these."""

    def __init__(self, results: Sequence[DetectionResult], seed: int) -> None:
        """seed: of the resamples."""
        super().__init__(results)
        weights = resamples(np.arange(len(results[0].found)), DRAWS, seed)
        self._ap50 = {
            name: np.concatenate([[result.ap50], ap50s(result.matches, weights)])
            for name, result in self._by_name.items()
        }

    def clean(self, model: str) -> DetectionResult:
        """The result of a model when nobody attacks."""
        return self._by_name[model, CLEAN, TORCH]

    def ap50(self, model: str, condition: str, backend: str = TORCH) -> NDArray[np.float64]:
        """AP50 in [0,1]."""
        return self._ap50[model, condition, backend]

    def kept(self, model: str, condition: str) -> NDArray[np.float64]:
        """AP50 over the model's own clean AP50; NaN where that is 0."""
        attacked, clean = self.ap50(model, condition), self.ap50(model, CLEAN)
        return np.divide(attacked, clean, out=np.full_like(attacked, np.nan), where=clean > 0)


def build(
    context: DetectionContext,
    measured: Sequence[DetectionResult],
    conditions: Sequence[DetectionCondition],
    request: EvaluationRequest,
    origin: str,
) -> DetectionReport:
    """Puts the report together. origin: of the images, in words."""
    results = DetectionResults(measured, request.seed)
    return DetectionReport(
        schema=SCHEMA,
        task="detection",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        title=request.title,
        origin=origin,
        images_sha256=context.scenes_sha256,
        n=len(context.scenes),
        seed=request.seed,
        classes=context.scenes.classes,
        sources=tuple(model.about for model in context.models.everybody),
        lines=tuple(_line(result, results) for result in results.of_backend(TORCH)),
        differences=tuple(_differences(context, results)),
        corrupted=tuple(_corrupted(results)),
        patches=tuple(_patch_effects(context, results)),
        requirements=tuple(_requirements(context, results, conditions)),
        **stated(context.models, request, "AP50", _int8_lines(results)),
    )


def _line(result: DetectionResult, results: DetectionResults) -> PrecisionLine:
    condition, precision = result.condition, result.precision
    return PrecisionLine(
        model=result.model,
        condition=condition.name,
        group=condition.group,
        knowledge=condition.knowledge,
        loss=condition.loss,
        eps_255=condition.eps_255,
        steps=condition.steps,
        surrogate=condition.surrogate,
        sigma_255=condition.sigma_255,
        corruption=condition.corruption,
        severity=condition.severity,
        n=len(result.found),
        ap=precision.ap,
        ap50=interval_of(results.ap50(result.model, condition.name)),
        ap75=precision.ap75,
        ap_small=precision.small,
        ap_medium=precision.medium,
        ap_large=precision.large,
        kept=interval_of(results.kept(result.model, condition.name)),
        lost=lost_share(results.clean(result.model).matches, result.matches),
        where=condition.where or "",
        share=condition.share,
        method=condition.method if condition.loss and not condition.where else "",
    )


def _patch_effects(context: DetectionContext, results: DetectionResults) -> Iterator[PatchEffect]:
    hiding: dict[str, patches.Laid] = {}
    for result in results.of_backend(TORCH):
        condition, baseline = result.condition, result.condition.baseline
        if baseline is None or condition.where is None:
            continue
        if baseline not in hiding:
            hiding[baseline] = patches.laid(condition, context.scenes, list(context.batches(condition)))
        under_patch, under_noise = (results.ap50(result.model, name) for name in (condition.name, baseline))
        yield PatchEffect(
            model=result.model,
            condition=condition.name,
            knowledge=condition.knowledge,
            where=condition.where,
            **vars(hiding[baseline]),
            side=patches.SIDE,
            steps=condition.steps,
            made_on=len(context.workshop.training),
            n=len(result.found),
            ap50=interval_of(under_patch),
            noise_ap50=interval_of(under_noise),
            gain=interval_of(under_patch - under_noise),
        )


def _differences(context: DetectionContext, results: DetectionResults) -> Iterator[PrecisionDifference]:
    ours, baselines = context.models.of_bundle.name, [model.name for model in context.models.baselines]
    for condition in dict.fromkeys(result.condition.name for result in results.results):
        for baseline in baselines if results.result(ours, condition) else ():
            if results.result(baseline, condition):
                ap50, kept = (
                    interval_of(of(ours, condition) - of(baseline, condition)) for of in (results.ap50, results.kept)
                )
                yield PrecisionDifference(baseline, condition, ap50, kept)


def _corrupted(results: DetectionResults) -> Iterator[CorruptionSummary]:
    for model in dict.fromkeys(result.model for result in results.results):
        corrupted = results.of_groups(model, "corruption")
        if corrupted:
            mean, clean = float(np.mean([r.precision.ap for r in corrupted])), results.clean(model).precision.ap
            yield CorruptionSummary(model, len(corrupted), mean, mean / clean if clean else float("nan"))


def _int8_lines(results: DetectionResults) -> Iterator[Int8Line]:
    for result in results.of_backend(INT8):
        name = result.condition.name
        fp32, ours = (results.ap50(result.model, name, backend) for backend in (TORCH, INT8))
        yield Int8Line(name, len(result.found), float(fp32[0]), float(ours[0]), interval_of(ours - fp32))


def _requirements(
    context: DetectionContext, results: DetectionResults, conditions: Sequence[DetectionCondition]
) -> Iterator[Requirement]:
    measured = {model.about.sha256 for model in context.models.measured}
    wanted = AS_GOOD * results.clean(PLAIN).ap50
    for name, surrogate in context.models.surrogates.items():
        other, sha256 = surrogate.about.sha256 not in measured, surrogate.about.sha256[:12]
        yield Requirement(f"{surrogate.name} is none of the models", other, sha256, "other weights")
        clean = results.clean(surrogate.name).ap50
        good = f"{surrogate.name} is as good as {PLAIN}"
        yield Requirement(good, clean >= wanted, f"AP50 {clean:.3f}", f"at least {wanted:.3f}")
        for condition in (c for c in conditions if c.surrogate == name):
            if condition.group == "gray":
                # It fells its own surrogate, and hurts the baseline of another seed.
                kept = results.kept(surrogate.name, condition.name)[0]
                falls = f"{surrogate.name} falls to {condition.name}"
                yield Requirement(falls, bool(kept <= FALLS), f"keeps {kept:.2f}", f"at most {FALLS}")
                hurt = interval_of(results.kept(PLAIN, condition.name))
                words = f"keeps {with_interval(hurt, '.2f')}"
                holds, limit = hurt.high <= CLEARLY_HURTS, f"at most {CLEARLY_HURTS}"
                yield Requirement(f"{condition.name} hurts {PLAIN}", holds, words, limit)
            elif condition.group == "gray_patch" and condition.baseline:
                for model in (surrogate.name, PLAIN):
                    gain = interval_of(results.ap50(model, condition.name) - results.ap50(model, condition.baseline))
                    words = f"AP50 {with_interval(gain, '+.3f')}"
                    what = f"{condition.name} hurts {model} more than {condition.baseline}"
                    yield Requirement(what, gain.high < 0, words, "below 0")
