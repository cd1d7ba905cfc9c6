"""Which conditions are measured: the suites, the surrogates they are multiplied by, and --only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lisard_ros.corruptions import NAMES

from ....evaluation.conditions import CLEAN
from ....evaluation.request import EPS_255
from ....evaluation.selection import select, suite_of
from .conditions import (
    Attack,
    CertificateConfig,
    ClassificationCondition,
    CorruptionConfig,
    Method,
    SmoothingConfig,
    gray_name,
    own_name,
    sweep_name,
)


@dataclass(frozen=True)
class AttackConfig:
    """How an attack is done at any budget: `step_share` is the step as a share of eps; the rest as in Attack."""

    name: str
    method: Method
    steps: int = 1
    step_share: float = 1.0
    random_start: bool = False
    restarts: int = 1
    queries: int = 0
    targets: int = 0
    draws: int = 1
    images: int = 0


FGSM = AttackConfig("fgsm", "fgsm")
PGD10 = AttackConfig("pgd10", "pgd", 10, 0.25, True)
PUBLISHED = (FGSM.name, PGD10.name)  # the protocol of the paper; on these a surrogate is judged
PGD50 = AttackConfig("pgd50", "pgd", 50, 0.25, True)
MOMENTUM_METHODS: tuple[Method, ...] = ("mi_fgsm", "di_fgsm", "ti_fgsm")
MOMENTUM = tuple(AttackConfig(name, name, 10, 0.1) for name in MOMENTUM_METHODS)


def _apgd(steps: int, restarts: int, targets: int, images: int = 0) -> tuple[AttackConfig, AttackConfig]:
    ce = AttackConfig("apgd_ce", "apgd_ce", steps, 0.0, True, restarts, images=images)
    return ce, AttackConfig("apgd_t", "apgd_t", steps, 0.0, True, 1, targets=targets, images=images)


@dataclass(frozen=True)
class ClassificationSuite:
    """What one name of --suite stands for.

    sweep: the attack that is repeated at other budgets. sigmas_255: noise. smoothing, smoothed: a prediction by votes,
    and the attack on it. None leaves something out.
    Ways, corruptions and certificate may be limited to some images (0: all).
    """

    about: str
    gray: tuple[AttackConfig, ...]
    white: tuple[AttackConfig, ...]
    sweep: AttackConfig | None = None
    severities: tuple[int, ...] = ()
    corrupted_images: int = 0
    sigmas_255: tuple[float, ...] = ()
    smoothing: SmoothingConfig | None = None
    smoothed: AttackConfig | None = None
    certificate: CertificateConfig | None = None
    certified_images: int = 0


SWEEP_EPS_255 = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
SIGMAS_255 = (4.0, 8.0, 16.0, 32.0, 48.0, 64.0)
CERTIFIED_SIGMA_255 = 32.0  # the smallest of the usual 0.12, 0.25, 0.5 of pixels in [0,1]
SUITES = {
    "quick": ClassificationSuite(
        "clean, gray-box FGSM and PGD-10, white-box PGD-10, as published", (FGSM, PGD10), (PGD10,)
    ),
    "grid": ClassificationSuite(
        "what the grid of variants compares: transfer attacks on all surrogates, white-box PGD-10 and APGD on a subset",
        gray=(FGSM, PGD10, *MOMENTUM),
        white=(PGD10, *_apgd(100, 1, 3, 1000)),
    ),
    "standard": ClassificationSuite(
        "adds transfer attacks, APGD, eps sweep, corruptions, noise and a certificate on subsets",
        gray=(FGSM, PGD10, PGD50, *MOMENTUM, *_apgd(25, 1, 3)),
        white=(FGSM, PGD10, *MOMENTUM, AttackConfig("pgd50", "pgd_best", 50, 0.25, True, 2, images=512),
               *_apgd(50, 1, 3, 512), AttackConfig("square", "square", 0, 0.0, queries=1000, images=256)),
        sweep=AttackConfig("pgd50", "pgd_best", 50, 0.25, True, 1, images=256),
        severities=(1, 3, 5), corrupted_images=512, sigmas_255=SIGMAS_255,
        smoothing=SmoothingConfig(CERTIFIED_SIGMA_255, 16, 0),
        smoothed=AttackConfig("eot_pgd10", "pgd", 10, 0.25, True, draws=8, images=128),
        certificate=CertificateConfig(CERTIFIED_SIGMA_255, 100, 1000, 0.001, 0), certified_images=64,
    ),
    "full": ClassificationSuite(
        "everything with restarts, 100 steps and all severities, on all images where that is possible",
        gray=(FGSM, PGD10, PGD50, *MOMENTUM, *_apgd(100, 1, 9)),
        white=(FGSM, PGD10, *MOMENTUM, AttackConfig("pgd50", "pgd_best", 50, 0.25, True, 10), *_apgd(100, 5, 9),
               AttackConfig("square", "square", 0, 0.0, queries=5000, images=1000)),
        sweep=AttackConfig("pgd50", "pgd_best", 50, 0.25, True, 2, images=512),
        severities=(1, 2, 3, 4, 5), sigmas_255=SIGMAS_255,
        smoothing=SmoothingConfig(CERTIFIED_SIGMA_255, 64, 0),
        smoothed=AttackConfig("eot_pgd40", "pgd", 40, 0.25, True, draws=20, images=256),
        certificate=CertificateConfig(CERTIFIED_SIGMA_255, 100, 10_000, 0.001, 0), certified_images=256,
    ),
}  # fmt: skip


def conditions(
    suite: str, surrogates: Sequence[str], seed: int, only: Sequence[str] = (), eps_255: float = EPS_255
) -> tuple[ClassificationCondition, ...]:
    """The conditions of a suite for these surrogates; `only` are patterns of which one must fit (clean always stays).

    eps_255: budget of all attacks but those of the sweep, which has its own.
    """
    return select(suite, tuple(_all(suite_of(suite, SUITES), surrogates, seed, eps_255)), only)


def _all(
    suite: ClassificationSuite, surrogates: Sequence[str], seed: int, eps_255: float
) -> Iterator[ClassificationCondition]:
    yield ClassificationCondition(CLEAN, "clean")
    for surrogate in surrogates:
        for config in suite.gray:
            name = gray_name(config.name, surrogate)
            attack = replace(_attack(name, config, eps_255, seed), knowledge="gray-box", surrogate=surrogate)
            yield ClassificationCondition(name, "gray", config.images, attack)
    for config in suite.white:
        kind: Literal["white", "query"] = "query" if config.queries else "white"
        name = own_name(kind, config.name)
        yield ClassificationCondition(name, kind, config.images, _attack(name, config, eps_255, seed))
    for eps in SWEEP_EPS_255 if suite.sweep else ():
        assert suite.sweep is not None
        name = sweep_name(suite.sweep.name, eps)
        yield ClassificationCondition(name, "sweep", suite.sweep.images, _attack(name, suite.sweep, eps, seed))
    for sigma in suite.sigmas_255:
        yield ClassificationCondition(f"noise_{sigma:g}", "noise", noise_sigma_255=sigma, seed=seed)
    for corruption in (CorruptionConfig(name, severity, seed) for name in NAMES for severity in suite.severities):
        name = f"corruption_{corruption.name}_{corruption.severity}"
        yield ClassificationCondition(name, "corruption", suite.corrupted_images, corruption=corruption)
    if suite.smoothing and suite.smoothed:
        # The smoothed prediction, clean and under an attack that averages over its noise.
        smoothing, images, name = suite.smoothing, suite.smoothed.images, f"smoothed_{suite.smoothed.name}"
        averaged = replace(_attack(name, suite.smoothed, eps_255, seed), noise_sigma_255=smoothing.sigma_255)
        yield ClassificationCondition("smoothed_clean", "smoothed", images, smoothing=smoothing)
        yield ClassificationCondition(name, "smoothed", images, averaged, smoothing=smoothing)
    if suite.certificate:
        name = f"certified_{suite.certificate.sigma_255:g}"
        yield ClassificationCondition(name, "certified", suite.certified_images, certificate=suite.certificate)


def _attack(name: str, config: AttackConfig, eps_255: float, seed: int) -> Attack:
    return Attack(
        name=name,
        knowledge="query" if config.queries else "white-box",
        method=config.method,
        eps_255=eps_255,
        step_255=config.step_share * eps_255,
        steps=config.steps,
        random_start=config.random_start,
        seed=seed,
        restarts=config.restarts,
        queries=config.queries,
        targets=config.targets,
        draws=config.draws,
    )
