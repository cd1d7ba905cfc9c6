"""What is measured of a classifier: conditions, and the suites of them.

A condition is an attack with the attacker's knowledge and budget, a corruption, or noise. Names: clean;
gray_METHOD[@SURROGATE], white_METHOD and query_METHOD at the report's budget; sweep_METHOD_epsE;
corruption_NAME_SEVERITY; noise_SIGMA; smoothed_clean, smoothed_METHOD; certified_SIGMA (grey levels of 255).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lisard_ros.corruptions import NAMES

from ....evaluation.conditions import CLEAN, Attacked, EvaluationCondition, select, suite_of
from ....evaluation.request import EPS_255

Group = Literal["clean", "gray", "white", "query", "sweep", "corruption", "noise", "smoothed", "certified"]
Knowledge = Literal["none", "gray-box", "white-box", "query"]
Method = Literal["fgsm", "pgd", "pgd_best", "mi_fgsm", "di_fgsm", "ti_fgsm", "apgd_ce", "apgd_t", "square"]
GRAY_WORST, GRAY_ALL, WHITE_ALL = "gray_worst", "gray_all", "white_all"  # sums over a group's conditions
RANDOM_METHODS = ("di_fgsm",)  # random although they start from the image itself


@dataclass(frozen=True)
class Attack:
    """What an attacker knows and spends; eps and step in grey levels of 255 (Linf).

    restarts: how often it begins anew on what it has not broken yet. draws: passes averaged for one gradient where the
    model is random (expectation over transformations). queries: answers it may ask for (0: it uses gradients).
    targets: classes that are tried in turn (0: untargeted). noise_sigma_255: of the noise that is averaged over, where
    the prediction is smoothed. surrogate: the model it is made on (gray-box) by its name;
    the only one may have none.
    """

    name: str
    knowledge: Knowledge
    method: Method
    eps_255: float
    step_255: float
    steps: int
    random_start: bool
    seed: int
    restarts: int = 1
    draws: int = 1
    queries: int = 0
    targets: int = 0
    noise_sigma_255: float = 0.0
    surrogate: str = ""

    @property
    def is_random(self) -> bool:
        """Whether the seed matters."""
        drawn = self.random_start or self.queries > 0 or self.noise_sigma_255 > 0
        return drawn or self.method in RANDOM_METHODS


@dataclass(frozen=True)
class CorruptionConfig:
    """One of the common corruptions (Hendrycks and Dietterich 2019) at a severity 1..5."""

    name: str
    severity: int
    seed: int


@dataclass(frozen=True)
class SmoothingConfig:
    """The model answers by a vote over noisy copies of an image; noise unclipped, in grey levels of 255."""

    sigma_255: float
    votes: int
    seed: int


@dataclass(frozen=True)
class CertificateConfig:
    """Randomised smoothing (Cohen et al. 2019): noise sigma, draws to choose and to certify, failure probability."""

    sigma_255: float
    choose: int
    draws: int
    alpha: float
    seed: int


@dataclass(frozen=True)
class ClassificationCondition(EvaluationCondition):
    """Its group, and what is done to images or model. images: on how many it is measured (0: all)."""

    name: str
    group: Group
    images: int = 0
    attack: Attack | None = None
    corruption: CorruptionConfig | None = None
    noise_sigma_255: float = 0.0
    smoothing: SmoothingConfig | None = None
    certificate: CertificateConfig | None = None
    seed: int = 0

    @property
    def knowledge(self) -> Knowledge:
        """What the attacker knows; `none` where nobody attacks."""
        return self.attack.knowledge if self.attack else "none"

    @property
    def attacked(self) -> Attacked:
        """The surrogate in gray-box conditions; a certificate too is made for each model by itself."""
        if self.attack and self.group == "gray":
            return "surrogate"
        return "each model" if self.attack or self.certificate else "nobody"

    @property
    def surrogate_name(self) -> str:
        """The surrogate of a gray-box attack."""
        return self.attack.surrogate if self.attack else ""


def gray_name(method: str, surrogate: str) -> str:
    """Name of a gray-box condition; the surrogate without a name leaves no trace in it."""
    return f"gray_{method}" + (f"@{surrogate}" if surrogate else "")


def own_name(kind: Literal["white", "query"], method: str) -> str:
    """Name of a condition whose attack is made on the model itself."""
    return f"{kind}_{method}"


def sweep_name(method: str, eps_255: float) -> str:
    """Name of a white-box condition at one of several budgets."""
    return f"sweep_{method}_eps{eps_255:g}"


_TITLES = {
    "fgsm": "FGSM", "pgd": "PGD-", "mi_fgsm": "MI-FGSM", "di_fgsm": "DI-FGSM", "ti_fgsm": "TI-FGSM",
    "apgd_ce": "APGD-CE", "apgd_t": "APGD-T", "square": "Square", "eot_pgd": "EOT-PGD-",
}  # fmt: skip


_KINDS = {
    "gray": "gray-box", "white": "white-box", "query": "query", "sweep": "white-box", "smoothed": "smoothed,",
}  # fmt: skip


def method_title(method: str) -> str:
    """How people write a method: pgd10 -> PGD-10."""
    if method in _TITLES:
        return _TITLES[method]
    for prefix, title in _TITLES.items():
        if title.endswith("-") and method.startswith(prefix) and method[len(prefix) :].isdigit():
            return title + method[len(prefix) :]
    return method.replace("_", " ")


def title(name: str) -> str:
    """How people write a condition: gray_pgd10@s2 -> gray-box PGD-10, surrogate s2."""
    head, _, surrogate = name.partition("@")
    kind, _, rest = head.partition("_")
    rest, _, eps = rest.partition("_eps")
    word = _KINDS.get(kind)
    if word is None:
        return head.replace("_", " ")
    parts = [f"{word} {method_title(rest)}"]
    parts += [f"eps {eps}/255"] if eps else []
    parts += [f"surrogate {surrogate}"] if surrogate else []
    return ", ".join(parts)


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
