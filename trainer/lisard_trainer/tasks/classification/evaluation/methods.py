"""The attacks by name: from the settings of a condition to a call into lisard_ros.attacks."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from lisard_ros.attacks.apgd import APGD, APGDTargeted, apgd, apgd_targeted
from lisard_ros.attacks.gradient import PGD, fgsm, pgd
from lisard_ros.attacks.mifgsm import MIFGSM, GradientSmoothing, InputDiversity, mifgsm
from lisard_ros.attacks.model import AttackModel, Loss, Untargeted
from lisard_ros.attacks.restarts import Restarts, pgd_restarts
from lisard_ros.attacks.square import Square, square
from lisard_ros.frames import GREY_LEVELS

from .conditions import Attack

FEWEST_CLASSES_FOR_DLR = 4
TI_RADIUS_PX = 2  # published: 7 of 299 px; on 32 px a filter of 5 pixels keeps the perturbation's detail


def attacked(model: AttackModel, x: Tensor, labels: np.ndarray, attack: Attack, random: np.random.Generator) -> Tensor:
    """Images after an attack, within its budget and not yet rounded to grey levels.

    Args:
        model: What is attacked.
        x: Images float32 [N,3,H,W] in [0,1].
        labels: Their classes, int64 [N].
        attack: Method and settings.
        random: Source of every draw.
    """
    criterion, eps, step = Untargeted(labels), attack.eps_255 / GREY_LEVELS, attack.step_255 / GREY_LEVELS
    # White-box stops at the first success; images for other models are driven as far as they go.
    stop = attack.knowledge != "gray-box"
    result: Tensor
    match attack.method:
        case "fgsm":
            result = fgsm(model, x, criterion, eps)
        case "pgd":  # the last iterate, as published
            result = pgd(model, x, criterion, PGD(eps, step, attack.steps, attack.random_start), random)
        case "pgd_best":  # the worst of all iterates and restarts
            descent = PGD(eps, step, attack.steps, attack.random_start)
            restarts = Restarts(descent, attack.restarts, stop_when_fooled=stop)
            result = pgd_restarts(model, x, criterion, restarts, random).x
        case "mi_fgsm" | "di_fgsm" | "ti_fgsm":
            diversity = InputDiversity() if attack.method == "di_fgsm" else None
            smoothing = GradientSmoothing(TI_RADIUS_PX) if attack.method == "ti_fgsm" else None
            momentum = MIFGSM(eps, attack.steps, step=step, diversity=diversity, smoothing=smoothing)
            result = mifgsm(model, x, criterion, momentum, random)
        case "apgd_ce":
            adaptive = APGD(eps, attack.steps, attack.restarts, stop_when_fooled=stop)
            result = apgd(model, x, criterion, adaptive, random).x
        case "apgd_t":  # targeted DLR as published; with fewer classes than it needs, the margin instead
            adaptive = APGD(eps, attack.steps, attack.restarts, stop_when_fooled=stop)
            classes = model.evaluate(x[:1], Untargeted(labels[:1]), gradient=False).scores.shape[1]
            loss: Loss = "dlr_targeted" if classes >= FEWEST_CLASSES_FOR_DLR else "margin"
            result = apgd_targeted(model, x, labels, APGDTargeted(adaptive, attack.targets, loss), random).x
        case "square":
            result = square(model, x, Untargeted(labels, "margin"), Square(eps, attack.queries), random).x
    return result
