"""The attacks by name: from the settings of a column to a call into lisard_ros.attacks.

Every method takes (oracle, x float32 [N,3,H,W] in [0,1], goal, settings, randomness) and returns the attacked x,
within the budget and not yet rounded to grey levels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from lisard_ros.attacks.apgd import Apgd, ApgdTargeted, apgd, apgd_targeted
from lisard_ros.attacks.gradient import Pgd, fgsm, pgd
from lisard_ros.attacks.model import Label, Loss, Oracle
from lisard_ros.attacks.momentum import Diversity, Momentum, Smoothing, momentum
from lisard_ros.attacks.restarts import Restarts, pgd_restarts
from lisard_ros.attacks.square import Square, square

from .conditions import Attack

GREY_LEVELS = 255
FEWEST_CLASSES_FOR_DLR = 4
TI_RADIUS_PX = 2  # published: 7 of 299 px; on 32 px a filter of 5 pixels keeps the perturbation's detail
Method = Callable[[Oracle, Tensor, Label, Attack, np.random.Generator], Tensor]


def _fgsm(oracle: Oracle, x: Tensor, goal: Label, attack: Attack, random: np.random.Generator) -> Tensor:
    made: Tensor = fgsm(oracle, x, goal, attack.eps_255 / GREY_LEVELS)
    return made


def _pgd(oracle: Oracle, x: Tensor, goal: Label, attack: Attack, random: np.random.Generator) -> Tensor:
    """The last iterate, as published."""
    made: Tensor = pgd(oracle, x, goal, _descent(attack), random)
    return made


def _pgd_best(oracle: Oracle, x: Tensor, goal: Label, attack: Attack, random: np.random.Generator) -> Tensor:
    """The worst of all iterates and restarts."""
    settings = Restarts(_descent(attack), attack.restarts, stop_when_fooled=attack.knowledge != "gray-box")
    made: Tensor = pgd_restarts(oracle, x, goal, settings, random).x
    return made


def _descent(attack: Attack) -> Pgd:
    return Pgd(attack.eps_255 / GREY_LEVELS, attack.step_255 / GREY_LEVELS, attack.steps, attack.random_start)


def _momentum(diversity: Diversity | None = None, smoothing: Smoothing | None = None) -> Method:
    def method(oracle: Oracle, x: Tensor, goal: Label, attack: Attack, random: np.random.Generator) -> Tensor:
        settings = Momentum(
            attack.eps_255 / GREY_LEVELS,
            attack.steps,
            step=attack.step_255 / GREY_LEVELS,
            diversity=diversity,
            smoothing=smoothing,
        )
        made: Tensor = momentum(oracle, x, goal, settings, random)
        return made

    return method


def _apgd_ce(oracle: Oracle, x: Tensor, goal: Label, attack: Attack, random: np.random.Generator) -> Tensor:
    made: Tensor = apgd(oracle, x, goal, _apgd(attack), random).x
    return made


def _apgd_t(oracle: Oracle, x: Tensor, goal: Label, attack: Attack, random: np.random.Generator) -> Tensor:
    """Targeted DLR as published; with fewer than four classes, which it needs, the margin instead."""
    classes = oracle.evaluate(x[:1], Label(goal.indices[:1]), gradient=False).scores.shape[1]
    loss: Loss = "dlr_targeted" if classes >= FEWEST_CLASSES_FOR_DLR else "margin"
    settings = ApgdTargeted(_apgd(attack), attack.targets, loss)
    made: Tensor = apgd_targeted(oracle, x, goal.indices, settings, random).x
    return made


def _apgd(attack: Attack) -> Apgd:
    """White-box stops at the first success; pictures for other models are driven as far as they go."""
    stop = attack.knowledge != "gray-box"
    return Apgd(attack.eps_255 / GREY_LEVELS, attack.steps, attack.restarts, stop_when_fooled=stop)


def _square(oracle: Oracle, x: Tensor, goal: Label, attack: Attack, random: np.random.Generator) -> Tensor:
    settings = Square(attack.eps_255 / GREY_LEVELS, attack.queries)
    made: Tensor = square(oracle, x, Label(goal.indices, "margin"), settings, random).x
    return made


METHODS: dict[str, Method] = {
    "fgsm": _fgsm,
    "pgd": _pgd,
    "pgd_best": _pgd_best,
    "mi_fgsm": _momentum(),
    "di_fgsm": _momentum(diversity=Diversity()),
    "ti_fgsm": _momentum(smoothing=Smoothing(TI_RADIUS_PX)),
    "apgd_ce": _apgd_ce,
    "apgd_t": _apgd_t,
    "square": _square,
}
