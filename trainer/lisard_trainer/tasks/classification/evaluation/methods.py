"""The attacks by name: from the settings of a column to a call into lisard_ros.attacks.

Every method takes (model, x float32 [N,3,H,W] in [0,1], criterion, settings, randomness) and returns the attacked x,
within the budget and not yet rounded to grey levels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from lisard_ros.attacks.apgd import APGD, APGDTargeted, apgd, apgd_targeted
from lisard_ros.attacks.gradient import PGD, fgsm, pgd
from lisard_ros.attacks.mifgsm import MIFGSM, GradientSmoothing, InputDiversity, mifgsm
from lisard_ros.attacks.model import AttackModel, Loss, Untargeted
from lisard_ros.attacks.restarts import Restarts, pgd_restarts
from lisard_ros.attacks.square import Square, square

from .conditions import Attack

GREY_LEVELS = 255
FEWEST_CLASSES_FOR_DLR = 4
TI_RADIUS_PX = 2  # published: 7 of 299 px; on 32 px a filter of 5 pixels keeps the perturbation's detail
Method = Callable[[AttackModel, Tensor, Untargeted, Attack, np.random.Generator], Tensor]


def _fgsm(model: AttackModel, x: Tensor, criterion: Untargeted, attack: Attack, random: np.random.Generator) -> Tensor:
    made: Tensor = fgsm(model, x, criterion, attack.eps_255 / GREY_LEVELS)
    return made


def _pgd(model: AttackModel, x: Tensor, criterion: Untargeted, attack: Attack, random: np.random.Generator) -> Tensor:
    """The last iterate, as published."""
    made: Tensor = pgd(model, x, criterion, _descent(attack), random)
    return made


def _pgd_best(
    model: AttackModel, x: Tensor, criterion: Untargeted, attack: Attack, random: np.random.Generator
) -> Tensor:
    """The worst of all iterates and restarts."""
    settings = Restarts(_descent(attack), attack.restarts, stop_when_fooled=attack.knowledge != "gray-box")
    made: Tensor = pgd_restarts(model, x, criterion, settings, random).x
    return made


def _descent(attack: Attack) -> PGD:
    return PGD(attack.eps_255 / GREY_LEVELS, attack.step_255 / GREY_LEVELS, attack.steps, attack.random_start)


def _mifgsm(diversity: InputDiversity | None = None, smoothing: GradientSmoothing | None = None) -> Method:
    def method(
        model: AttackModel, x: Tensor, criterion: Untargeted, attack: Attack, random: np.random.Generator
    ) -> Tensor:
        settings = MIFGSM(
            attack.eps_255 / GREY_LEVELS,
            attack.steps,
            step=attack.step_255 / GREY_LEVELS,
            diversity=diversity,
            smoothing=smoothing,
        )
        made: Tensor = mifgsm(model, x, criterion, settings, random)
        return made

    return method


def _apgd_ce(
    model: AttackModel, x: Tensor, criterion: Untargeted, attack: Attack, random: np.random.Generator
) -> Tensor:
    made: Tensor = apgd(model, x, criterion, _apgd(attack), random).x
    return made


def _apgd_t(
    model: AttackModel, x: Tensor, criterion: Untargeted, attack: Attack, random: np.random.Generator
) -> Tensor:
    """Targeted DLR as published; with fewer than four classes, which it needs, the margin instead."""
    classes = model.evaluate(x[:1], Untargeted(criterion.labels[:1]), gradient=False).scores.shape[1]
    loss: Loss = "dlr_targeted" if classes >= FEWEST_CLASSES_FOR_DLR else "margin"
    settings = APGDTargeted(_apgd(attack), attack.targets, loss)
    made: Tensor = apgd_targeted(model, x, criterion.labels, settings, random).x
    return made


def _apgd(attack: Attack) -> APGD:
    """White-box stops at the first success; images for other models are driven as far as they go."""
    stop = attack.knowledge != "gray-box"
    return APGD(attack.eps_255 / GREY_LEVELS, attack.steps, attack.restarts, stop_when_fooled=stop)


def _square(
    model: AttackModel, x: Tensor, criterion: Untargeted, attack: Attack, random: np.random.Generator
) -> Tensor:
    settings = Square(attack.eps_255 / GREY_LEVELS, attack.queries)
    made: Tensor = square(model, x, Untargeted(criterion.labels, "margin"), settings, random).x
    return made


METHODS: dict[str, Method] = {
    "fgsm": _fgsm,
    "pgd": _pgd,
    "pgd_best": _pgd_best,
    "mi_fgsm": _mifgsm(),
    "di_fgsm": _mifgsm(diversity=InputDiversity()),
    "ti_fgsm": _mifgsm(smoothing=GradientSmoothing(TI_RADIUS_PX)),
    "apgd_ce": _apgd_ce,
    "apgd_t": _apgd_t,
    "square": _square,
}
