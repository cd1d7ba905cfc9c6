"""Which columns are measured: the suites, the surrogates they are multiplied by, and --only."""

from __future__ import annotations

from collections.abc import Sequence
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
    SmoothingConfig,
    gray_name,
    own_name,
    sweep_name,
)


@dataclass(frozen=True)
class AttackConfig:
    """How an attack is done at any budget: `step_share` is the step as a share of eps; the rest as in Attack."""

    name: str
    method: str
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
MOMENTUM = tuple(AttackConfig(name, name, 10, 0.1) for name in ("mi_fgsm", "di_fgsm", "ti_fgsm"))


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
    """The columns of a suite for these surrogates; `only` are patterns of which one must fit (clean always stays).

    eps_255: budget of all attacks but those of the sweep, which has its own.
    """
    planned = _all(suite_of(suite, SUITES), surrogates, seed, eps_255)
    return select(suite, planned, only)


def _all(
    suite: ClassificationSuite, surrogates: Sequence[str], seed: int, eps_255: float
) -> list[ClassificationCondition]:
    made = [ClassificationCondition(CLEAN, "clean")]
    made += [_gray(way, surrogate, seed, eps_255) for surrogate in surrogates for way in suite.gray]
    made += [_own(way, seed, eps_255) for way in suite.white]
    made += [_swept(suite.sweep, eps, seed) for eps in SWEEP_EPS_255] if suite.sweep else []
    made += [_noise(sigma, seed) for sigma in suite.sigmas_255]
    made += [_corruption(name, at, seed, suite.corrupted_images) for name in NAMES for at in suite.severities]
    made += _smoothed(suite.smoothing, suite.smoothed, seed, eps_255) if suite.smoothing and suite.smoothed else []
    made += [_certified(suite.certificate, suite.certified_images)] if suite.certificate else []
    return made


def _gray(way: AttackConfig, surrogate: str, seed: int, eps_255: float) -> ClassificationCondition:
    name = gray_name(way.name, surrogate)
    attack = replace(_attack(name, way, eps_255, seed), knowledge="gray-box", surrogate=surrogate)
    return ClassificationCondition(name, "gray", way.images, attack)


def _own(way: AttackConfig, seed: int, eps_255: float) -> ClassificationCondition:
    kind: Literal["white", "query"] = "query" if way.queries else "white"
    name = own_name(kind, way.name)
    return ClassificationCondition(name, kind, way.images, _attack(name, way, eps_255, seed))


def _swept(way: AttackConfig, eps_255: float, seed: int) -> ClassificationCondition:
    name = sweep_name(way.name, eps_255)
    return ClassificationCondition(name, "sweep", way.images, _attack(name, way, eps_255, seed))


def _attack(name: str, way: AttackConfig, eps_255: float, seed: int) -> Attack:
    return Attack(
        name=name,
        knowledge="query" if way.queries else "white-box",
        method=way.method,
        eps_255=eps_255,
        step_255=way.step_share * eps_255,
        steps=way.steps,
        random_start=way.random_start,
        seed=seed,
        restarts=way.restarts,
        queries=way.queries,
        targets=way.targets,
        draws=way.draws,
    )


def _smoothed(
    smoothing: SmoothingConfig, way: AttackConfig, seed: int, eps_255: float
) -> list[ClassificationCondition]:
    """The smoothed prediction, clean and under an attack that averages over its noise."""
    name = f"smoothed_{way.name}"
    attack = replace(_attack(name, way, eps_255, seed), noise_sigma_255=smoothing.sigma_255)
    clean = ClassificationCondition("smoothed_clean", "smoothed", way.images, smoothing=smoothing)
    return [clean, ClassificationCondition(name, "smoothed", way.images, attack, smoothing=smoothing)]


def _noise(sigma_255: float, seed: int) -> ClassificationCondition:
    return ClassificationCondition(f"noise_{sigma_255:g}", "noise", noise_sigma_255=sigma_255, seed=seed)


def _corruption(name: str, severity: int, seed: int, images: int) -> ClassificationCondition:
    return ClassificationCondition(
        f"corruption_{name}_{severity}", "corruption", images, corruption=CorruptionConfig(name, severity, seed)
    )


def _certified(certificate: CertificateConfig, images: int) -> ClassificationCondition:
    return ClassificationCondition(f"certified_{certificate.sigma_255:g}", "certified", images, certificate=certificate)
