"""Whether a gray-box attack counts: a good surrogate that falls to it, and a hurt baseline of another seed.

An attack that cannot hurt an ordinary network tells nothing about one that withstands it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ....evaluation.conditions import CLEAN
from ....evaluation.models import PLAIN, SURROGATE, no_plain_baseline
from .models import ClassifiersUnderTest
from .results import ClassificationResult, ClassificationResults
from .suites import PUBLISHED, gray_name, title

SURROGATE_MAY_BE_WORSE_BY = 0.01
SURROGATE_FALLS_BELOW = 0.30
BASELINE_LOSES_AT_LEAST = 0.20
ROUNDING = 1e-9  # of a difference of two shares, which may be just the limit


@dataclass(frozen=True)
class TransferRequirement:
    """One requirement of a valid gray-box attack: on a surrogate, and in one condition (empty: in all of them)."""

    what: str
    found: float
    required: str
    holds: bool
    surrogate: str = SURROGATE
    condition: str = ""


def requirements(measured: ClassificationResults, surrogates: Mapping[str, bool]) -> tuple[TransferRequirement, ...]:
    """For each surrogate and each attack on it; surrogates: name in conditions -> whether it is the plain baseline."""
    plain = measured.result(PLAIN, CLEAN)
    if plain is None:
        raise no_plain_baseline()
    return tuple(one for name, same in surrogates.items() for one in _of(measured, name, same, plain))


def of_models(measured: ClassificationResults, models: ClassifiersUnderTest) -> tuple[TransferRequirement, ...]:
    """The requirements on the models at hand."""
    plain = models.plain.about.sha256
    return requirements(measured, {n: s.about.sha256 == plain for n, s in models.surrogates.items()})


def _of(
    measured: ClassificationResults, name: str, is_plain: bool, plain: ClassificationResult
) -> Iterator[TransferRequirement]:
    model = name or SURROGATE
    own = measured.result(model, CLEAN)
    assert own is not None, "every surrogate is measured on clean images"
    behind = plain.accuracy.share - own.accuracy.share
    called = f"the clean accuracy of surrogate {name}" if name else "the surrogate's clean accuracy"
    what = f"{called} is at most this much below the plain baseline's"
    good, limit = behind <= SURROGATE_MAY_BE_WORSE_BY + ROUNDING, f"<= {SURROGATE_MAY_BE_WORSE_BY}"
    yield TransferRequirement(what, behind, limit, good, model)
    what = f"{model} and the plain baseline are different networks"
    yield TransferRequirement(what, float(not is_plain), "1", not is_plain, model)
    for result in measured.of_groups(model, "gray"):
        at, share = result.condition.name, result.accuracy.share
        hurt = measured.result(PLAIN, at)
        assert hurt is not None, "the plain baseline meets every attack"
        lost = plain.accuracy.share - hurt.accuracy.share
        falls, limit = share <= SURROGATE_FALLS_BELOW, f"<= {SURROGATE_FALLS_BELOW}"
        yield TransferRequirement(f"surrogate accuracy under {at}", share, limit, falls, model, at)
        hurts, limit = lost >= BASELINE_LOSES_AT_LEAST - ROUNDING, f">= {BASELINE_LOSES_AT_LEAST}"
        yield TransferRequirement(f"plain baseline loses under {at}", lost, limit, hurts, model, at)


def counts(required: tuple[TransferRequirement, ...], surrogate: str, condition: str) -> bool:
    """Whether a gray-box condition of a surrogate (its name as a model) counts."""
    return all(r.holds for r in required if r.surrogate == surrogate and r.condition in ("", condition))


def reasons(required: tuple[TransferRequirement, ...], surrogate: str) -> str:
    """Which requirements a surrogate and the attacks on it fail, in words; empty where all hold."""
    failed = [r for r in required if r.surrogate == surrogate and not r.holds]
    reasons = [
        f"{_points(r.found)} points behind the plain baseline on clean images"
        if r.required.startswith("<=")
        else "the plain baseline itself"
        for r in failed
        if not r.condition
    ]
    for limit, what in (("<=", "the surrogate withstands"), (">=", "the plain baseline is hardly hurt by")):
        names = [
            title(r.condition).partition(",")[0].partition(" ")[2]
            for r in failed
            if r.condition and r.required.startswith(limit)
        ]
        reasons += [f"{what} {', '.join(names)}"] if names else []
    return "; ".join(reasons)


def _points(behind: float) -> str:
    """With as many digits as it takes to see that it is over the limit."""
    points, limit = 100 * behind, 100 * SURROGATE_MAY_BE_WORSE_BY
    return next((text for text in (f"{points:.{n}f}" for n in (1, 2, 3)) if float(text) > limit), f"{points:.4f}")


def valid(
    required: tuple[TransferRequirement, ...], measured: ClassificationResults, surrogates: Mapping[str, object]
) -> bool:
    """Whether the evaluation counts: the published attacks on the first surrogate do, or what stands for them.

    The first surrogate is the reference attacker. Where --only left out the published attacks on it, one must count.
    """
    first = next(iter(surrogates), None)
    if first is None:
        return True
    model = first or SURROGATE
    present = [result.condition.name for result in measured.of_groups(model, "gray")]
    published = [name for name in (gray_name(way, first) for way in PUBLISHED) if name in present]
    if published:
        return all(counts(required, model, name) for name in published)
    return not present or any(counts(required, model, name) for name in present)
