"""What one condition of the report is: an attack with the attacker's knowledge and budget, a corruption, or noise.

Names of columns: clean; gray_METHOD[@SURROGATE], white_METHOD and query_METHOD at the report's budget;
sweep_METHOD_epsE; corruption_NAME_SEVERITY; noise_SIGMA; smoothed_clean, smoothed_METHOD; certified_SIGMA
(grey levels of 255).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ....evaluation.conditions import Attacked, EvaluationCondition

Group = Literal["clean", "gray", "white", "query", "sweep", "corruption", "noise", "smoothed", "certified"]
Knowledge = Literal["none", "gray-box", "white-box", "query"]
Method = Literal["fgsm", "pgd", "pgd_best", "mi_fgsm", "di_fgsm", "ti_fgsm", "apgd_ce", "apgd_t", "square"]
GRAY_WORST, GRAY_ALL, WHITE_ALL = "gray_worst", "gray_all", "white_all"  # sums over a group's columns
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
    """Its group, and what is done to images or model. pictures: on how many it is measured (0: all)."""

    name: str
    group: Group
    pictures: int = 0
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
    """How people write a column: gray_pgd10@s2 -> gray-box PGD-10, surrogate s2."""
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
