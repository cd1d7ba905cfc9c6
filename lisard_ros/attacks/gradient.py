"""Gradient attacks within an Linf budget: FGSM and PGD, over any attack model that gives gradients.

Sources: FGSM, Goodfellow et al. 2015 (arXiv 1412.6572) eq. 1; PGD, Madry et al. 2018 (arXiv 1706.06083) eq. 3.
Images are [N, 3, H, W] in [0, 1]; eps and step are in the same unit (8/255 means 8 grey levels).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from lisard_ros.attacks.model import (
    Array,
    AttackModel,
    Criterion,
    ModelAnswer,
    Randomness,
    Transform,
    like,
    require_images,
    seeded,
)
from lisard_ros.errors import AttackError


@dataclass(frozen=True, slots=True)
class FGSM:
    """Fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572, eq. 1).

    Attributes:
        eps: Budget, the largest change of a pixel (Linf), above 0 and at most 1; 8/255 means 8 grey levels.
    """

    eps: float = 8 / 255

    def __post_init__(self) -> None:
        """Refuse a budget that cannot attack."""
        check_budget("FGSM", self.eps)

    def __call__(
        self, model: AttackModel, images: Array, criterion: Criterion, random: Randomness | None = None
    ) -> Array:
        """Attack images with one signed step.

        Args:
            model: The model under attack, e.g. `from_torch(network)`.
            images: [N, C, H, W] in [0, 1], of NumPy or of the model's array library. They are not changed.
            criterion: What the attacker wants: `Untargeted`, `Targeted`, or `BoxCriterion` for a detector.
            random: Not used; the same signature as the other attacks.

        Returns:
            The attacked images, an array like `images`, within eps of them and in [0, 1].

        Raises:
            AttackError: Images outside [0, 1] or NaN, a criterion that does not fit, or a model without gradients.

        Examples:
            >>> adversarial = attacks.FGSM(eps=8 / 255)(model, images, attacks.Untargeted(labels))
            >>> float(np.abs(adversarial - images).max()) <= 8 / 255 + 1e-6
            True
        """
        return fgsm(model, images, criterion, self.eps)


@dataclass(frozen=True, slots=True)
class PGD:
    """Projected gradient descent (Madry et al. 2018, arXiv 1706.06083, eq. 3); the defaults are PGD-10 at 8/255.

    Attributes:
        eps: Budget, the largest change of a pixel (Linf), above 0 and at most 1.
        step: Size of a step, likewise.
        steps: How many steps, 1 or more; each costs one gradient.
        random_start: Start anywhere within the budget instead of at the image.
    """

    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10
    random_start: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that cannot attack."""
        if not (0 < self.eps <= 1 and 0 < self.step <= 1 and self.steps >= 1):
            raise AttackError("impossible PGD settings", found=self, expected="0 < eps, step <= 1 and steps >= 1")

    def __call__(
        self, model: AttackModel, images: Array, criterion: Criterion, random: Randomness | None = None
    ) -> Array:
        """Attack images; the answer is the last step.

        Args:
            model: The model under attack, e.g. `from_torch(network)`.
            images: [N, C, H, W] in [0, 1], of NumPy or of the model's array library. They are not changed.
            criterion: What the attacker wants: `Untargeted`, `Targeted`, or `BoxCriterion` for a detector.
            random: Source of the random start; None: `numpy.random.default_rng(0)`.

        Returns:
            The attacked images, an array like `images`, within eps of them and in [0, 1].

        Raises:
            AttackError: Images outside [0, 1] or NaN, a criterion that does not fit, or a model without gradients.

        Examples:
            >>> adversarial = attacks.PGD(eps=8 / 255, steps=10)(model, images, attacks.Untargeted(labels))
            >>> adversarial.shape == images.shape and adversarial.dtype == images.dtype
            True
        """
        return pgd(model, images, criterion, self, seeded(random))


def fgsm(model: AttackModel, x: Array, criterion: Criterion, eps: float) -> Array:
    """Return `x` moved by one step of size `eps` along the sign of the gradient, clipped to [0, 1].

    Args:
        model: The model under attack.
        x: Images [N, C, H, W] in [0, 1].
        criterion: What the attacker wants, of the N images.
        eps: Budget and step, above 0 and at most 1.

    Raises:
        AttackError: The images or the budget are out of range, or the model has no gradients.
    """
    check_budget("FGSM", eps)
    require_images(x)
    return signed_step(x, x, gradient_of(model, x, criterion), eps, eps)


def pgd(model: AttackModel, x: Array, criterion: Criterion, settings: PGD, random: Randomness) -> Array:
    """Repeat signed gradient steps, each projected into the eps ball around `x` and into [0, 1].

    Args:
        model: The model under attack.
        x: Images [N, C, H, W] in [0, 1].
        criterion: What the attacker wants, of the N images.
        settings: Budget, step and number of steps.
        random: Source of the random start.

    Returns:
        The last step, like `x`.

    Raises:
        AttackError: The images are out of range, or the model has no gradients.
    """
    require_images(x)
    current = random_start(x, settings.eps, random) if settings.random_start else x
    for _ in range(settings.steps):
        current = signed_step(current, x, gradient_of(model, current, criterion), settings.step, settings.eps)
    return current


def project(candidate: Array, centre: Array, eps: float) -> Array:
    """Return the nearest point of the eps ball around `centre` that is an image in [0, 1]."""
    xp = array_namespace(candidate, centre)
    near = xp.minimum(xp.maximum(candidate, centre - eps), centre + eps)
    return xp.clip(near, 0.0, 1.0)


def signed_step(current: Array, centre: Array, gradient: Array, step: float | Array, eps: float) -> Array:
    """Return one signed step up from `current`, projected. step: one for all, or [N, 1, 1, 1]."""
    xp = array_namespace(current)
    return project(current + step * xp.sign(gradient), centre, eps)


def random_start(x: Array, eps: float, random: Randomness) -> Array:
    """Return `x` moved anywhere in the eps ball, uniformly, and clipped to [0, 1]."""
    noise = np.asarray(random.uniform(-eps, eps, tuple(x.shape)))
    return project(x + like(noise, x), x, eps)


def gradient_of(model: AttackModel, x: Array, criterion: Criterion, transform: Transform | None = None) -> Array:
    """Ask for the gradient of the loss; AttackError when the attack model can only be queried."""
    return required(model.evaluate(x, criterion, transform))


def required(answer: ModelAnswer) -> Array:
    """Return the gradient of an answer; AttackError when the attack model can only be queried."""
    if answer.gradient is None:
        raise AttackError(
            "this attack needs gradients",
            found="an attack model that can only be queried",
            cure="use the PyTorch model, or a stored perturbation made on a surrogate",
        )
    return answer.gradient


def check_budget(attack: str, eps: float) -> None:
    """Refuse a budget outside (0, 1]; NaN included."""
    if not 0 < eps <= 1:
        raise AttackError(f"impossible {attack} budget", found=eps, expected="0 < eps <= 1")
