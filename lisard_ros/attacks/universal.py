"""One perturbation for every image: signed gradient steps on the mean loss over a set of images.

Source of the idea: Moosavi-Dezfooli et al. 2017 (arXiv 1610.08401); this is the stochastic-gradient form of
Shafahi et al. 2020 (arXiv 1811.11304) without loss clipping.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device

from lisard_ros.attacks.gradient import gradient_of
from lisard_ros.attacks.model import Array, AttackModel, Criterion, pick, require_images
from lisard_ros.errors import AttackError


@dataclass(frozen=True, slots=True)
class UniversalSettings:
    """Settings: budget and step in [0, 1] units, passes over the images, images per step."""

    eps: float = 8 / 255
    step: float = 1 / 255
    epochs: int = 5
    batch: int = 128

    def __post_init__(self) -> None:
        """Refuse settings that cannot attack."""
        if not (0 < self.eps <= 1 and 0 < self.step <= 1 and self.epochs >= 1 and self.batch >= 1):
            raise AttackError(
                "impossible settings of the universal perturbation",
                found=self,
                expected="0 < eps, step <= 1 and epochs, batch >= 1",
            )


def universal(
    model: AttackModel, x: Array, criterion: Criterion, settings: UniversalSettings, random: np.random.Generator
) -> Array:
    """Return one perturbation that raises the mean loss over a set of images.

    Args:
        model: The model under attack.
        x: Images [N, 3, H, W] in [0, 1].
        criterion: What the attacker wants, of the N images.
        settings: Budget, step, passes and batch size.
        random: Shuffles the images in each pass.

    Returns:
        The perturbation, [1, 3, H, W], at most eps from zero.

    Raises:
        AttackError: The images are out of range, or the model has no gradients.
    """
    require_images(x)
    xp = array_namespace(x)
    delta = xp.zeros_like(x[:1, ...])
    for _ in range(settings.epochs):
        order = random.permutation(x.shape[0])
        for start in range(0, len(order), settings.batch):
            rows = order[start : start + settings.batch]
            chosen = xp.take(x, xp.asarray(rows, device=device(x)), axis=0)
            gradient = gradient_of(model, xp.clip(chosen + delta, 0.0, 1.0), pick(criterion, rows))
            delta = delta + settings.step * xp.sign(xp.mean(gradient, axis=0, keepdims=True))
            delta = xp.clip(delta, -settings.eps, settings.eps)
    return delta
