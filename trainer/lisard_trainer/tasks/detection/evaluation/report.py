"""The report of a detector's evaluation: every figure with the attacker's knowledge, budget, n and interval.

Intervals are 95 % bootstrap intervals over images; differences are paired, image by image. A gray-box attack
counts only if its surrogate is as good as the plain control, falls itself, and hurts the control of another seed; a
patch must do both beyond what a patch of noise at the same places does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import torch
from numpy.typing import NDArray

from lisard_ros.evaluation.average_precision import ap50s, lost_share
from lisard_ros.evaluation.statistics import Interval, resamples

from .... import provenance
from ....evaluation.conditions import CLEAN
from ....evaluation.models import PLAIN, SHIPPED
from ....evaluation.request import Circumstances
from ....evaluation.runner import batches_of
from . import patches
from .measuring import BATCH_SIZE, DetectionContext, DetectionResult
from .models import DetectorSource
from .suites import DetectionCondition

SCHEMA = 1
DRAWS = 1000
AS_GOOD = 0.9  # of the plain control's clean AP50: a surrogate that is worse proves nothing
FALLS = 0.6  # share of its clean AP50 that an attacked surrogate may keep
CLEARLY_HURTS = 0.8  # share that the plain control of another seed may keep


@dataclass(frozen=True)
class PrecisionLine:
    """One model in one column. AP figures in [0,1] (COCO); kept: AP50 over clean AP50; lost: share of the true boxes
    met in the clean images that are no longer met.
    """

    model: str
    column: str
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
    column: str
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
    """The bundle minus a control in one column, paired: AP50, and the share of the clean AP50 that is kept."""

    control: str
    column: str
    ap50: Interval
    kept: Interval


@dataclass(frozen=True)
class CorruptionSummary:
    """mPC: mean AP over the measured corruptions and severities; rPC: that over clean AP (Michaelis et al. 2019)."""

    model: str
    columns: int
    mpc: float
    rpc: float


@dataclass(frozen=True)
class Requirement:
    """What must hold for an attack to count."""

    name: str
    holds: bool
    found: str
    expected: str


@dataclass(frozen=True)
class DetectionReport:
    """Everything that was found, and from what."""

    schema: int
    task: str
    created: str
    commit: str
    command: str
    suite: str
    device: str
    pictures: str
    pictures_sha256: str
    n: int
    seed: int
    classes: tuple[str, ...]
    sources: tuple[DetectorSource, ...]
    lines: tuple[PrecisionLine, ...]
    differences: tuple[PrecisionDifference, ...]
    corrupted: tuple[CorruptionSummary, ...]
    patches: tuple[PatchEffect, ...]
    conditions: tuple[Requirement, ...]

    @property
    def passed(self) -> bool:
        """Whether every condition holds."""
        return all(condition.holds for condition in self.conditions)

    def line(self, model: str, column: str) -> PrecisionLine | None:
        """The line of a model in a column."""
        return next((line for line in self.lines if (line.model, line.column) == (model, column)), None)


def build(
    context: DetectionContext,
    rows: Sequence[DetectionResult],
    columns: Sequence[DetectionCondition],
    about: Circumstances,
) -> DetectionReport:
    """Puts the report together."""
    weights = resamples(np.arange(len(context.scenes)), DRAWS, about.seed)
    drawn = {(row.model, row.column.name): _draws(row, weights) for row in rows}
    found = {(row.model, row.column.name): row for row in rows}
    models = context.models.everybody
    return DetectionReport(
        schema=SCHEMA,
        task="detection",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        commit=provenance.commit(),
        command=about.command,
        suite=about.suite,
        device=f"torch {torch.__version__} CPU float32",
        pictures=about.origin,
        pictures_sha256=context.scenes_sha256,
        n=len(context.scenes),
        seed=about.seed,
        classes=context.scenes.classes,
        sources=tuple(model.about for model in models),
        lines=tuple(_line(row, found[row.model, CLEAN], drawn) for row in rows),
        differences=tuple(_differences(rows, drawn)),
        corrupted=tuple(_corrupted(rows)),
        patches=tuple(_patch_effects(context, rows, drawn)),
        conditions=tuple(_conditions(context, found, drawn, columns)),
    )


def _draws(row: DetectionResult, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """AP50 of each resample, after that of all images."""
    return np.concatenate([[row.ap50], ap50s(row.matches, weights)])


def _interval(values: NDArray[np.float64]) -> Interval:
    low, high = np.nanpercentile(values[1:], [2.5, 97.5]) if np.isfinite(values[1:]).any() else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high))


def _kept(attacked: NDArray[np.float64], clean: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(attacked, clean, out=np.full_like(attacked, np.nan), where=clean > 0)


def _line(
    row: DetectionResult, clean: DetectionResult, drawn: dict[tuple[str, str], NDArray[np.float64]]
) -> PrecisionLine:
    column, precision = row.column, row.precision
    own, before = drawn[row.model, column.name], drawn[row.model, CLEAN]
    return PrecisionLine(
        row.model,
        column.name,
        column.group,
        column.knowledge,
        column.loss,
        column.eps_255,
        column.steps,
        column.surrogate,
        column.sigma_255,
        column.corruption,
        column.severity,
        len(row.found),
        precision.ap,
        _interval(own),
        precision.ap75,
        precision.small,
        precision.medium,
        precision.large,
        _interval(_kept(own, before)),
        lost_share(clean.matches, row.matches),
        column.where or "",
        column.share,
        column.method if column.loss and not column.where else "",
    )


def _patch_effects(
    context: DetectionContext, rows: Sequence[DetectionResult], drawn: dict[tuple[str, str], NDArray[np.float64]]
) -> Iterator[PatchEffect]:
    laid: dict[str, patches.Laid] = {}
    for row in rows:
        column, control = row.column, row.column.baseline
        if control is None or column.where is None:
            continue
        if control not in laid:
            laid[control] = patches.laid(column, context.scenes, list(batches_of(len(context.scenes), BATCH_SIZE)))
        how, own, noise = laid[control], drawn[row.model, column.name], drawn[row.model, control]
        yield PatchEffect(
            row.model,
            column.name,
            column.knowledge,
            column.where,
            how.share_low,
            how.share_high,
            how.turn_deg,
            patches.SIDE,
            column.steps,
            len(context.workshop.training),
            len(row.found),
            how.boxes,
            how.patches,
            how.most_hidden,
            how.mean_hidden,
            _interval(own),
            _interval(noise),
            _interval(own - noise),
        )


def _differences(
    rows: Sequence[DetectionResult], drawn: dict[tuple[str, str], NDArray[np.float64]]
) -> Iterator[PrecisionDifference]:
    names = dict.fromkeys(row.model for row in rows)
    for column in dict.fromkeys(row.column.name for row in rows):
        for control in names:
            ours, theirs = drawn.get((SHIPPED, column)), drawn.get((control, column))
            if control == SHIPPED or ours is None or theirs is None or control.startswith("surrogate"):
                continue
            kept = _kept(ours, drawn[SHIPPED, CLEAN]) - _kept(theirs, drawn[control, CLEAN])
            yield PrecisionDifference(control, column, _interval(ours - theirs), _interval(kept))


def _corrupted(rows: Sequence[DetectionResult]) -> Iterator[CorruptionSummary]:
    for model in dict.fromkeys(row.model for row in rows):
        own = [row.precision.ap for row in rows if row.model == model and row.column.group == "corruption"]
        clean = next(row.precision.ap for row in rows if row.model == model and row.column.name == CLEAN)
        if own:
            mean = float(np.mean(own))
            yield CorruptionSummary(model, len(own), mean, mean / clean if clean else float("nan"))


def _conditions(
    context: DetectionContext,
    found: dict[tuple[str, str], DetectionResult],
    drawn: dict[tuple[str, str], NDArray[np.float64]],
    columns: Sequence[DetectionCondition],
) -> Iterator[Requirement]:
    measured = {model.about.sha256 for model in context.models.measured}
    plain_clean = found[PLAIN, CLEAN].ap50
    for name, surrogate in context.models.surrogates.items():
        yield Requirement(
            f"{surrogate.name} is none of the models",
            surrogate.about.sha256 not in measured,
            surrogate.about.sha256[:12],
            "other weights",
        )
        clean = found[surrogate.name, CLEAN].ap50
        yield Requirement(
            f"{surrogate.name} is as good as {PLAIN}",
            clean >= AS_GOOD * plain_clean,
            f"AP50 {clean:.3f}",
            f"at least {AS_GOOD * plain_clean:.3f}",
        )
        for column in columns:
            if column.group == "gray" and column.surrogate == name:
                yield from _attack_conditions(surrogate.name, column, drawn)
            if column.group == "gray_patch" and column.surrogate == name:
                yield from (_patch_condition(model, column, drawn) for model in (surrogate.name, PLAIN))


def _attack_conditions(
    surrogate: str, column: DetectionCondition, drawn: dict[tuple[str, str], NDArray[np.float64]]
) -> Iterator[Requirement]:
    own = _kept(drawn[surrogate, column.name], drawn[surrogate, CLEAN])[0]
    yield Requirement(f"{surrogate} falls to {column.name}", bool(own <= FALLS), f"keeps {own:.2f}", f"at most {FALLS}")
    hurt = _interval(_kept(drawn[PLAIN, column.name], drawn[PLAIN, CLEAN]))
    words = f"keeps {hurt.value:.2f} [{hurt.low:.2f}, {hurt.high:.2f}]"
    yield Requirement(f"{column.name} hurts {PLAIN}", hurt.high <= CLEARLY_HURTS, words, f"at most {CLEARLY_HURTS}")


def _patch_condition(
    model: str, column: DetectionCondition, drawn: dict[tuple[str, str], NDArray[np.float64]]
) -> Requirement:
    assert column.baseline is not None
    gain = _interval(drawn[model, column.name] - drawn[model, column.baseline])
    words = f"AP50 {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
    return Requirement(f"{column.name} hurts {model} more than {column.baseline}", gain.high < 0, words, "below 0")
