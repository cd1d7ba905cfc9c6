"""What is measured of a detector: columns and suites.

Gray-box columns attack a surrogate and meet every model; white-box and TOG columns attack each model itself; noise and
corruptions attack nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from lisard_ros.errors import UsageError, nearest, unknown_name
from lisard_ros.injection import corruptions
from lisard_ros.injection.oracle import BoxLoss

CLEAN = "clean"
STEPS = 10
STEP_SHARE = 0.25  # of eps: 2/255 at 8/255, as published for PGD-10
Group = Literal["clean", "gray", "white", "tog", "noise", "corruption"]
DETECTOR_LOSSES: tuple[BoxLoss, ...] = ("class", "location", "joint")
TOG_LOSSES: tuple[BoxLoss, ...] = ("vanish", "fabricate", "mislabel")


@dataclass(frozen=True)
class Column:
    """One condition. loss and eps_255 of an attack (PGD with a random start); sigma_255 of noise."""

    name: str
    group: Group
    loss: BoxLoss | None = None
    eps_255: float = 0.0
    surrogate: str = ""
    sigma_255: float = 0.0
    corruption: str = ""
    severity: int = 0
    seed: int = 0

    @property
    def knowledge(self) -> str:
        """What the attacker knows."""
        known = {"gray": "gray-box", "white": "white-box", "tog": "white-box"}
        return known.get(self.group, "none")

    @property
    def steps(self) -> int:
        """Steps of the attack."""
        return STEPS if self.loss else 0

    @property
    def step_255(self) -> float:
        """Size of one step."""
        return self.eps_255 * STEP_SHARE


@dataclass(frozen=True)
class Suite:
    """Which budgets, noise and severities a suite has."""

    about: str
    gray: tuple[float, ...] = ()
    white: tuple[float, ...] = ()
    losses: tuple[BoxLoss, ...] = DETECTOR_LOSSES
    tog: tuple[float, ...] = ()
    sigmas_255: tuple[float, ...] = ()
    severities: tuple[int, ...] = ()


SUITES = {
    "quick": Suite("clean, gray-box and white-box PGD-10 on the joint loss, noise", (8,), (8,), ("joint",), (), (25,)),
    "grid": Suite("what the control grid compares: gray-box PGD-10, noise, severity 3 of the corruptions", (8,), (),
                  ("class", "joint"), (), (12, 25, 45), (3,)),  # fmt: skip
    "standard": Suite("adds PGD-10 on class, location and joint losses at 2, 4, 8, TOG, noise, severities 1, 3, 5",
                      (8,), (2, 4, 8), DETECTOR_LOSSES, (8,), (12, 25, 45), (1, 3, 5)),  # fmt: skip
    "full": Suite("all of it: gray-box at 2, 4, 8 too, and all severities", (2, 4, 8), (2, 4, 8), DETECTOR_LOSSES,
                  (8,), (6, 12, 25, 35, 45), corruptions.SEVERITIES),  # fmt: skip
}
DEFAULT_SUITE = "quick"


def columns(suite: str, surrogates: Sequence[str], seed: int, only: Sequence[str] = ()) -> tuple[Column, ...]:
    """The columns of a suite; `only`: patterns of which one must fit (clean always stays)."""
    if suite not in SUITES:
        raise unknown_name("suite", suite, SUITES)
    planned = list(_all(SUITES[suite], surrogates, seed))
    names = [column.name for column in planned]
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in names):
            guess = nearest(pattern, names)
            cure = f"did you mean '{guess}'?" if guess else "give a pattern such as 'white_*'"
            raise UsageError(
                f"no column of suite {suite} fits --only", found=repr(pattern), expected=", ".join(names), cure=cure
            )
    return tuple(c for c in planned if not only or c.name == CLEAN or any(fnmatchcase(c.name, p) for p in only))


def _all(suite: Suite, surrogates: Sequence[str], seed: int) -> Iterator[Column]:
    yield Column(CLEAN, "clean")
    for name in surrogates:
        prefix = f"gray_{name}_" if name else "gray_"
        for eps in suite.gray:
            for loss in suite.losses:
                yield Column(f"{prefix}{loss}_{eps:g}", "gray", loss, eps, name, seed=seed)
    for eps in suite.white:
        for loss in suite.losses:
            yield Column(f"white_{loss}_{eps:g}", "white", loss, eps, seed=seed)
    for eps in suite.tog:
        for loss in TOG_LOSSES:
            yield Column(f"tog_{loss}_{eps:g}", "tog", loss, eps, seed=seed)
    for sigma in suite.sigmas_255:
        yield Column(f"noise_{sigma:g}", "noise", sigma_255=sigma, seed=seed)
    for name in corruptions.NAMES if suite.severities else ():
        for severity in suite.severities:
            yield Column(f"{name}_{severity}", "corruption", corruption=name, severity=severity, seed=seed)
