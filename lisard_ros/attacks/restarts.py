"""PGD from several random starts, keeping the worst image of all that were tried (Madry et al. 2018, section 4).

Every iterate counts, not only the last of each start, so that more steps or starts never make a weaker attack.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lisard_ros.attacks.attacked import AttackResult, Best
from lisard_ros.attacks.gradient import PGD, random_start, required, signed_step
from lisard_ros.attacks.model import Array, AttackModel, Criterion, Randomness, pick, rows_of
from lisard_ros.errors import AttackError


@dataclass(frozen=True, slots=True)
class Restarts:
    """Settings: the descent and how often it starts anew; PGD-50 with 10 restarts is the usual white-box check.

    stop_when_fooled: spend nothing more on an image that fools the model; False looks for the highest loss.
    """

    pgd: PGD = field(default_factory=lambda: PGD(steps=50))
    restarts: int = 10
    stop_when_fooled: bool = True

    def __post_init__(self) -> None:
        """Refuse restarts that would repeat themselves."""
        if self.restarts < 1 or (self.restarts > 1 and not self.pgd.random_start):
            raise AttackError("impossible restarts", found=self, expected="restarts >= 1, each from a random start")


def pgd_restarts(
    model: AttackModel, x: Array, criterion: Criterion, settings: Restarts, random: Randomness
) -> AttackResult:
    """Run PGD `restarts` times on the images `x` [N, 3, H, W]; spends restarts * steps gradients at most on each."""
    best = Best(x)
    for _ in range(settings.restarts):
        start = random_start(x, settings.pgd.eps, random) if settings.pgd.random_start else x
        _ascend(model, x, start, criterion, settings, best)
    return best.attacked()


def _ascend(model: AttackModel, x: Array, start: Array, criterion: Criterion, settings: Restarts, best: Best) -> None:
    rows = np.arange(int(x.shape[0]))
    centre, current = x, start
    for step in range(settings.pgd.steps + 1):
        if settings.stop_when_fooled:
            left = best.open(rows)
            rows, centre, current = rows[left], rows_of(centre, left), rows_of(current, left)
        if not len(rows):
            return
        last = step == settings.pgd.steps
        answer = best.ask(model, rows, current, pick(criterion, rows), gradient=not last)
        if not last:
            current = signed_step(current, centre, required(answer), settings.pgd.step, settings.pgd.eps)
