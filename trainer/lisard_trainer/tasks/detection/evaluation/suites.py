"""What is measured of a detector: conditions and suites.

Gray-box conditions attack a surrogate and meet every model; white-box and TOG conditions attack each model itself;
noise and corruptions attack nobody. Patches have a baseline: a patch of noise of the same size at the same places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from lisard_ros import corruptions
from lisard_ros.attacks.model import BoxLoss
from lisard_ros.attacks.placement import Where

from ....evaluation.conditions import CLEAN, Attacked, EvaluationCondition, select, suite_of
from ...base import PGD_STEP_SHARE, PGD_STEPS

STEPS, STEP_SHARE = PGD_STEPS, PGD_STEP_SHARE  # those of the attacks that travel with a bundle
MI_STEP_SHARE = 1 / STEPS  # as published for MI-FGSM; with smoothed gradients longer steps carry over better
PATCH_STEPS = 200  # of Adam, each over fresh placements in a few images
PATCH_LOSS: BoxLoss = "class"  # `vanish` lowers scores alike in all images, which AP does not see
Method = Literal["pgd", "mi_fgsm", "ti_fgsm"]
TRANSFER_METHODS: tuple[Method, ...] = ("mi_fgsm", "ti_fgsm")
TRANSFER_LOSS: BoxLoss = "joint"
Group = Literal["clean", "gray", "white", "tog", "noise", "corruption", "gray_patch", "white_patch", "noise_patch"]
DETECTOR_LOSSES: tuple[BoxLoss, ...] = ("class", "location", "joint")
TOG_LOSSES: tuple[BoxLoss, ...] = ("vanish", "fabricate", "mislabel")


@dataclass(frozen=True)
class DetectionCondition(EvaluationCondition):
    """One condition. method, loss and eps_255 of an attack (PGD: with a random start); sigma_255 of noise.

    where and share of patches: on or beside each true box, and their area as a share of the box's at most.
    """

    name: str
    group: Group
    loss: BoxLoss | None = None
    eps_255: float = 0.0
    surrogate: str = ""
    sigma_255: float = 0.0
    corruption: str = ""
    severity: int = 0
    seed: int = 0
    where: Where | None = None
    share: float = 0.0
    method: Method = "pgd"

    @property
    def knowledge(self) -> str:
        """What the attacker knows."""
        return {"surrogate": "gray-box", "each model": "white-box", "nobody": "none"}[self.attacked]

    @property
    def attacked(self) -> Attacked:
        """The surrogate in gray-box conditions, each model in white-box ones."""
        if self.group in ("gray", "gray_patch"):
            return "surrogate"
        return "each model" if self.group in ("white", "tog", "white_patch") else "nobody"

    @property
    def surrogate_name(self) -> str:
        """The surrogate of a gray-box attack."""
        return self.surrogate

    @property
    def answered_by_surrogates(self) -> bool:
        """They meet the baseline of patches too."""
        return self.group in ("clean", "noise_patch")

    @property
    def baseline(self) -> str | None:
        """Name of the condition that tells what merely covering costs; None where there is none."""
        return patch_name("noise_", self.where, self.share) if self.where and self.loss else None

    def settings(self) -> dict[str, object]:
        """What decides its images, for keys of kept results; without patches and other methods than PGD as before
        there were any.
        """
        later = (() if self.where else ("where", "share")) + (() if self.method != "pgd" else ("method",))
        return {name: value for name, value in asdict(self).items() if name not in later}

    @property
    def steps(self) -> int:
        """Steps of the attack."""
        if self.where:
            return PATCH_STEPS if self.loss else 0
        return STEPS if self.loss else 0

    @property
    def step_255(self) -> float:
        """Size of one step."""
        return self.eps_255 * (MI_STEP_SHARE if self.method == "mi_fgsm" else STEP_SHARE)


@dataclass(frozen=True)
class PatchSize:
    """A kind of patch."""

    where: Where
    share: float


def patch_name(prefix: str, where: Where, share: float) -> str:
    """Name of a condition of patches: `on_20` is on the box, at most 20 % of its area."""
    return f"{prefix}patch_{where}_{100 * share:g}"


SMALL, ON, BESIDE = PatchSize("on", 0.1), PatchSize("on", 0.2), PatchSize("beside", 1.0)


@dataclass(frozen=True)
class DetectionSuite:
    """Which budgets, noise, severities and patches a suite has. transfer: budgets of MI- and TI-FGSM on a surrogate."""

    about: str
    gray: tuple[float, ...] = ()
    white: tuple[float, ...] = ()
    losses: tuple[BoxLoss, ...] = DETECTOR_LOSSES
    tog: tuple[float, ...] = ()
    sigmas_255: tuple[float, ...] = ()
    severities: tuple[int, ...] = ()
    transfer: tuple[float, ...] = ()
    gray_patches: tuple[PatchSize, ...] = ()
    white_patches: tuple[PatchSize, ...] = ()


SUITES = {
    "quick": DetectionSuite(
        "clean, gray-box and white-box PGD-10 on the joint loss, noise",
        gray=(8,), white=(8,), losses=("joint",), sigmas_255=(25,),
    ),
    "grid": DetectionSuite(
        "what the grid of variants compares: PGD-10 on the joint loss, MI- and TI-FGSM, noise, corruptions at 3",
        gray=(8,), white=(8,), losses=("joint",), sigmas_255=(12, 25, 45), severities=(3,), transfer=(8,),
    ),
    "standard": DetectionSuite(
        "adds PGD-10 on three losses at 2, 4, 8, TOG, patches, severities 1, 3, 5",
        gray=(8,), white=(2, 4, 8), tog=(8,), sigmas_255=(12, 25, 45), severities=(1, 3, 5), transfer=(8,),
        gray_patches=(ON, BESIDE), white_patches=(ON, BESIDE),
    ),
    "full": DetectionSuite(
        "all of it: gray-box at 2, 4, 8 too, smaller patches, and all severities",
        gray=(2, 4, 8), white=(2, 4, 8), tog=(8,), sigmas_255=(6, 12, 25, 35, 45), severities=corruptions.SEVERITIES,
        transfer=(4, 8), gray_patches=(SMALL, ON, BESIDE), white_patches=(SMALL, ON, BESIDE),
    ),
}  # fmt: skip


def conditions(
    suite: str, surrogates: Sequence[str], seed: int, only: Sequence[str] = ()
) -> tuple[DetectionCondition, ...]:
    """The conditions of a suite; `only`: patterns of which one must fit (clean and the baselines of patches stay)."""
    planned = list(_all(suite_of(suite, SUITES), surrogates, seed))
    return select(suite, planned, only, lambda condition: condition.baseline)


def _all(suite: DetectionSuite, surrogates: Sequence[str], seed: int) -> Iterator[DetectionCondition]:
    yield DetectionCondition(CLEAN, "clean")
    for name in surrogates:
        prefix = f"gray_{name}_" if name else "gray_"
        for eps in suite.gray:
            for loss in suite.losses:
                yield DetectionCondition(f"{prefix}{loss}_{eps:g}", "gray", loss, eps, name, seed=seed)
        for eps in suite.transfer:
            for method in TRANSFER_METHODS:
                own = f"{prefix}{method.removesuffix('_fgsm')}_{TRANSFER_LOSS}_{eps:g}"
                yield DetectionCondition(own, "gray", TRANSFER_LOSS, eps, name, seed=seed, method=method)
    for eps in suite.white:
        for loss in suite.losses:
            yield DetectionCondition(f"white_{loss}_{eps:g}", "white", loss, eps, seed=seed)
    for eps in suite.tog:
        for loss in TOG_LOSSES:
            yield DetectionCondition(f"tog_{loss}_{eps:g}", "tog", loss, eps, seed=seed)
    for surrogate in surrogates:
        prefix = f"gray_{surrogate}_" if surrogate else "gray_"
        yield from (_patch(prefix, "gray_patch", size, seed, surrogate) for size in suite.gray_patches)
    yield from (_patch("white_", "white_patch", size, seed) for size in suite.white_patches)
    for size in dict.fromkeys((*suite.gray_patches, *suite.white_patches)):
        yield _patch("noise_", "noise_patch", size, seed, loss=None)
    for sigma in suite.sigmas_255:
        yield DetectionCondition(f"noise_{sigma:g}", "noise", sigma_255=sigma, seed=seed)
    for name in corruptions.NAMES if suite.severities else ():
        for severity in suite.severities:
            yield DetectionCondition(f"{name}_{severity}", "corruption", corruption=name, severity=severity, seed=seed)


def _patch(
    prefix: str, group: Group, size: PatchSize, seed: int, surrogate: str = "", loss: BoxLoss | None = PATCH_LOSS
) -> DetectionCondition:
    name = patch_name(prefix, size.where, size.share)
    return DetectionCondition(name, group, loss, surrogate=surrogate, seed=seed, where=size.where, share=size.share)
