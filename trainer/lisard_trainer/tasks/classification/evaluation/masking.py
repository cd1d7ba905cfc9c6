"""Signs that a model hides its gradients instead of resisting, and other reasons to distrust a report.

Source of the checks: Athalye et al. 2018 (arXiv 1802.00420) section 3.1; Carlini et al. 2019 (arXiv 1902.06705).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from lisard_ros.attacks.model import Untargeted

from ....evaluation import versions
from ....evaluation.cache import Arrays, ResultKey
from ....evaluation.conditions import CLEAN
from ....evaluation.models import SURROGATE
from .crafting import ImageBatch
from .measuring import ATTACK_CODE, ClassificationContext
from .models import ENSEMBLE, ClassifierSource, ClassifierUnderTest
from .results import ClassificationResult, ClassificationResults, ClassLine, common, on
from .suites import PUBLISHED, SWEEP_EPS_255, gray_name, own_name, title
from .validity import TransferRequirement, counts, reasons

Severity = Literal["warning", "note"]
Found = tuple[Severity, str, str]
WITHOUT_GRADIENT_AT_MOST = 0.01
DISAGREEMENT_AT_MOST = 1e-5  # of a score; other kernels may change last bits
MORE_STEPS_MAY_LOSE = 0.01
ROUNDING_MAY_COST = 0.02
SEEDS_WANTED, NETWORKS_WANTED = 3, 2
PROBED_IMAGES = 256
CLASS_RIGHT_AT_LEAST = 0.5
CLASSES_NAMED = 5


@dataclass(frozen=True)
class Flag:
    """A reason for doubt. `model` is empty where it is about the evaluation; warnings about the bundle fail it."""

    severity: Severity
    code: str
    model: str
    text: str


@dataclass(frozen=True)
class Probe:
    """Of `n` images: the share whose loss has no gradient at all, and how far two answers to one image differ.

    disagreement: the largest difference of a score in [0,1] between two passes over the same images.
    """

    model: str
    n: int
    without_gradient: float
    disagreement: float


def probe(context: ClassificationContext) -> tuple[Probe, ...]:
    """Looks at every measured model."""
    batch, probes = next(context.batches_up_to(PROBED_IMAGES)), []
    for model in context.models.measured:
        code = versions.of(*ATTACK_CODE, __name__)
        key = ResultKey("probe", model.key, batch.sha256, code=code, device=model.device.type)
        arrays = context.cache.remember(key, functools.partial(look, model, batch))
        without_gradient, disagreement = float((arrays["largest"] == 0).mean()), float(arrays["disagreement"][0])
        probes.append(Probe(model.name, len(batch.labels), without_gradient, disagreement))
    return tuple(probes)


def look(model: ClassifierUnderTest, batch: ImageBatch) -> Arrays:
    """The largest gradient of each image, and how far two passes over all images differ."""
    x, criterion = torch.from_numpy(batch.x).to(model.device), Untargeted(batch.labels)
    first, again = (model.attack_model.evaluate(x, criterion) for _ in range(2))
    assert first.gradient is not None, "an attack model in PyTorch has gradients"
    largest = first.gradient.abs().amax(dim=(1, 2, 3)).cpu().numpy()
    return {"largest": largest, "disagreement": np.array([float((first.scores - again.scores).abs().max())])}


def of_model(measured: ClassificationResults, model: str, probe: Probe | None) -> tuple[Flag, ...]:
    """All signs of one model."""
    white = measured.of_groups(model, "white")
    found = [
        *_weaker_than(white, measured.of_groups(model, "gray", "query")),
        *_one_step(measured, model),
        *_more_steps(measured, model),
        *_sweep(measured.of_groups(model, "sweep")),
        *_rounding(white),
        *(_probed(probe) if probe else ()),
    ]
    return tuple(Flag(severity, code, model, text) for severity, code, text in found)


def _weaker_than(white: Sequence[ClassificationResult], others: Sequence[ClassificationResult]) -> Iterator[Found]:
    """An attacker who knows less must not do better than one who has the weights."""
    for result in others:
        if not white:
            return
        positions = common([result, *white])
        held = np.logical_and.reduce([on(other, positions) for other in white])
        theirs = on(result, positions)
        if theirs.mean() < held.mean():
            yield (
                "warning",
                "weaker_with_weights",
                f"{title(result.condition.name)} leaves {_points(theirs.mean())} right, all white-box attacks together "
                f"{_points(held.mean())} ({int((held & ~theirs).sum())} fall to the former alone)",
            )


def _one_step(measured: ClassificationResults, model: str) -> Iterator[Found]:
    single = measured.result(model, own_name("white", "fgsm"))
    for name in ("pgd10", "pgd50"):
        pair = _pair(measured, model, single, own_name("white", name))
        if pair and pair[0] < pair[1]:
            yield (
                "warning",
                "one_step_stronger",
                f"one step (FGSM) leaves {_points(pair[0])} right, {title(own_name('white', name))} more: "
                f"{_points(pair[1])}",
            )


def _more_steps(measured: ClassificationResults, model: str) -> Iterator[Found]:
    fewer = measured.result(model, own_name("white", "pgd10"))
    for name in ("pgd50", "apgd_ce", "apgd_t"):
        pair = _pair(measured, model, fewer, own_name("white", name))
        if pair and pair[1] > pair[0] + MORE_STEPS_MAY_LOSE:
            yield (
                "warning",
                "more_steps_weaker",
                f"{title(own_name('white', name))} leaves {_points(pair[1])} right, ten steps of PGD only "
                f"{_points(pair[0])}",
            )


def _pair(
    measured: ClassificationResults, model: str, first: ClassificationResult | None, second: str
) -> tuple[float, float] | None:
    other = measured.result(model, second)
    if first is None or other is None:
        return None
    positions = common([first, other])
    return float(on(first, positions).mean()), float(on(other, positions).mean())


def _sweep(results: Sequence[ClassificationResult]) -> Iterator[Found]:
    if not results:
        return
    ordered = sorted(results, key=_eps)
    last = ordered[-1]
    if last.hits.any() and _eps(last) >= SWEEP_EPS_255[-1]:  # smaller ones, asked for alone, need not
        yield (
            "warning",
            "budget_without_effect",
            f"accuracy at {_eps(last):g}/255 is {_points(last.accuracy.share)}, not 0: the attack does not see what "
            "decides the answer",
        )
    for small, large in itertools.pairwise(ordered):
        if large.accuracy.share > small.accuracy.share + MORE_STEPS_MAY_LOSE:
            yield (
                "warning",
                "budget_not_monotone",
                f"accuracy rises from {_points(small.accuracy.share)} at {_eps(small):g}/255 to "
                f"{_points(large.accuracy.share)} at {_eps(large):g}/255",
            )


def _eps(result: ClassificationResult) -> float:
    return result.condition.attack.eps_255 if result.condition.attack else 0.0


def _rounding(white: Sequence[ClassificationResult]) -> Iterator[Found]:
    for result in white:
        cost = 0.0 if result.unrounded is None else result.accuracy.share - float(result.unrounded.mean())
        if cost > ROUNDING_MAY_COST:
            yield (
                "note",
                "rounding_protects",
                f"{title(result.condition.name)} loses {100 * cost:.1f} points of its effect when images are rounded "
                "to 8 bit",
            )


def _probed(probe: Probe) -> Iterator[Found]:
    if probe.without_gradient > WITHOUT_GRADIENT_AT_MOST:
        yield (
            "warning",
            "zero_gradients",
            f"{_points(probe.without_gradient)} of {probe.n} images give no gradient: attacks that follow one are "
            "blind there",
        )
    if probe.disagreement > DISAGREEMENT_AT_MOST:
        yield (
            "warning",
            "random_answers",
            f"two evaluations of the same images differ by up to {probe.disagreement:.2g}: attacks must average (EOT)",
        )


def of_classes(model: str, lines: Sequence[ClassLine]) -> tuple[Flag, ...]:
    """Classes that the bundle's model mostly gets wrong when nobody attacks: robustness says little about them."""
    lost = [x for x in lines if x.condition == CLEAN and x.accuracy.share < CLASS_RIGHT_AT_LEAST]
    if not lost:
        return ()
    words = [f"{x.label} ({x.accuracy.hits} of {x.accuracy.n} right, mostly taken for {x.taken_for})" for x in lost]
    more = [f"{len(words) - CLASSES_NAMED} more classes"] if len(words) > CLASSES_NAMED else []
    named = ", ".join([*words[:CLASSES_NAMED], *more])
    return (Flag("note", "class_neglected", model, f"clean images of {named}"),)


def of_surrogates(
    found: tuple[TransferRequirement, ...], measured: ClassificationResults, sources: Sequence[ClassifierSource]
) -> tuple[Flag, ...]:
    """Gray-box conditions that do not count, by surrogate."""
    flags = []
    for source in (s for s in sources if s.role == "surrogate"):
        weak = [
            r.condition
            for r in measured.of_groups(source.model, "gray")
            if not counts(found, source.model, r.condition.name)
        ]
        if weak:
            name = "" if source.model == SURROGATE else source.model
            published = any(condition.name in {gray_name(way, name) for way in PUBLISHED} for condition in weak)
            attacks = ", ".join(title(condition.name).partition(",")[0].replace("gray-box ", "") for condition in weak)
            text = f"{attacks}: {reasons(found, source.model)}; a high figure there proves nothing"
            flags.append(Flag("warning" if published else "note", "attack_does_not_count", source.model, text))
    return tuple(flags)


def of_scope(sources: Sequence[ClassifierSource], split_mismatch: Sequence[str], *, wide: bool) -> tuple[Flag, ...]:
    """What the evaluation left out. wide: whether gray-box conditions claim to cover many attackers."""
    flags = [
        Flag(
            "warning",
            "trained_on_other_images",
            model,
            "trained on another split than the first surrogate, so the images here may be known to it",
        )
        for model in split_mismatch
    ]
    surrogates = [source for source in sources if source.role == "surrogate" and source.model != ENSEMBLE]
    flags += [
        Flag(
            "warning",
            "surrogate_shares_seed",
            surrogate.model,
            f"has seed and network of {other.model}, hence its first weights: it knows more than gray-box",
        )
        for surrogate in surrogates
        for other in sources
        if other.role != "surrogate" and (surrogate.seed, surrogate.architecture) == (other.seed, other.architecture)
    ]
    seeds, networks = ({getattr(s, key) for s in surrogates} for key in ("seed", "architecture"))
    missing = []
    if len(seeds) < SEEDS_WANTED:
        missing.append(f"{len(seeds)} of {SEEDS_WANTED} seeds")
    if len(networks) < NETWORKS_WANTED:
        missing.append(f"{len(networks)} of {NETWORKS_WANTED} architectures")
    if not {s.training for s in sources if s.role == "bundle"} & {s.training for s in surrogates}:
        missing.append("no surrogate trained like the bundle")
    if wide and missing:
        flags.append(Flag("note", "few_attackers", "", "gray-box figures rest on " + ", ".join(missing)))
    return tuple(flags)


def _points(share: float) -> str:
    return f"{100 * share:.1f} %"
