"""Attacks meant to transfer: FGSM with momentum, and its look-ahead, input-diversity and smoothed-gradient forms.

Sources: MI, Dong et al. 2018 (arXiv 1710.06081) eq. 6 and 7; NI, Lin et al. 2020 (arXiv 1908.06281) eq. 6; DI, Xie et
al. 2019 (arXiv 1803.06978) eq. 4 and 5; TI, Dong et al. 2019 (arXiv 1904.02884) eq. 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from lisard_ros.attacks.gradient import check_budget, gradient_of, signed_step
from lisard_ros.attacks.model import Array, AttackModel, Criterion, Randomness, Transform, require_images, seeded
from lisard_ros.attacks.separable import Separable, blur, placed
from lisard_ros.errors import AttackError


@dataclass(frozen=True, slots=True)
class InputDiversity:
    """Input diversity: a step sees some images shrunk, on black (Xie et al. 2019, arXiv 1803.06978, eq. 4 and 5).

    Published: probability 0.5, sizes from 299 to 330 within 330 pixels. Here the result keeps the image's size, which
    networks of fixed size need. Published code draws once for a small batch; here each image has draws of its own, as
    one draw for many images would decide all their answers at once.

    Attributes:
        probability: Of an image to be shrunk in a step, above 0 and at most 1.
        smallest: Smallest size as a share of the image's, between 0 and 1.
    """

    probability: float = 0.5
    smallest: float = 299 / 330

    def __post_init__(self) -> None:
        """Refuse what is no probability or share."""
        if not (0 < self.probability <= 1 and 0 < self.smallest < 1):
            raise AttackError(
                "impossible input diversity", found=self, expected="0 < probability <= 1 and 0 < smallest < 1"
            )


@dataclass(frozen=True, slots=True)
class GradientSmoothing:
    """Smoothed gradient: a Gaussian filter of 2 radius + 1 pixels (Dong et al. 2019, arXiv 1904.02884, eq. 7).

    Attributes:
        radius: In pixels, 1 or more; published for images of 299 px: 7.
    """

    radius: int = 7

    def __post_init__(self) -> None:
        """Refuse a filter of one pixel."""
        if self.radius < 1:
            raise AttackError("impossible smoothing of the gradient", found=self, expected="radius >= 1")


@dataclass(frozen=True, slots=True)
class MIFGSM:
    """FGSM with momentum, for attacks that transfer; NI-, DI- and TI-FGSM are its options, and all combine.

    Published: decay 1, 10 steps of eps / steps.

    Attributes:
        eps: Budget, the largest change of a pixel (Linf), above 0 and at most 1.
        steps: How many steps, 1 or more; each costs one gradient.
        decay: Weight of the earlier gradients, 0 or more.
        step: Size of a step in the unit of eps; None: eps / steps.
        nesterov: NI-FGSM: take the gradient where the momentum leads (Lin et al. 2020, arXiv 1908.06281, eq. 6).
        diversity: DI-FGSM: take the gradient through a random resize (Xie et al. 2019, arXiv 1803.06978).
        smoothing: TI-FGSM: filter the gradient (Dong et al. 2019, arXiv 1904.02884, eq. 7).
    """

    eps: float = 8 / 255
    steps: int = 10
    decay: float = 1.0
    step: float | None = None
    nesterov: bool = False
    diversity: InputDiversity | None = None
    smoothing: GradientSmoothing | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot attack."""
        check_budget("MI-FGSM", self.eps)
        if not (self.steps >= 1 and 0 < self.step_size <= 1 and 0 <= self.decay < float("inf")):
            raise AttackError(
                "impossible MI-FGSM settings", found=self, expected="steps >= 1, 0 < step <= 1 and decay >= 0"
            )

    @property
    def step_size(self) -> float:
        """How far a step goes, in [0, 1]."""
        return self.eps / self.steps if self.step is None else self.step

    def __call__(
        self, model: AttackModel, images: Array, criterion: Criterion, random: Randomness | None = None
    ) -> Array:
        """Attack images; the answer is the last step.

        Args:
            model: The model under attack, e.g. `from_torch(network)`.
            images: [N, C, H, W] in [0, 1], of NumPy or of the model's array library. They are not changed.
            criterion: What the attacker wants: `Untargeted`, `Targeted`, or `BoxCriterion` for a detector.
            random: Source of the `diversity`; None: `numpy.random.default_rng(0)`.

        Returns:
            The attacked images, an array like `images`, within eps of them and in [0, 1].

        Raises:
            AttackError: Images outside [0, 1] or NaN, a criterion that does not fit, or a model without gradients.

        Examples:
            >>> ti_di = attacks.MIFGSM(diversity=attacks.InputDiversity(), smoothing=attacks.GradientSmoothing(2))
            >>> ti_di(model, images, attacks.Untargeted(labels)).shape == images.shape
            True
        """
        return mifgsm(model, images, criterion, self, seeded(random))


def mifgsm(model: AttackModel, x: Array, criterion: Criterion, settings: MIFGSM, random: Randomness) -> Array:
    """Return the last iterate for images `x` [N, 3, H, W], starting from them; asks for `steps` gradients.

    random: drawn from only for `diversity`.
    """
    require_images(x)
    xp = array_namespace(x)
    smooth = None
    if settings.smoothing is not None:
        smooth = Separable(*(blur(int(length), settings.smoothing.radius) for length in x.shape[2:]))
    current, velocity = x, xp.zeros_like(x)
    for _ in range(settings.steps):
        point = current
        if settings.nesterov:
            point = xp.clip(current + settings.step_size * settings.decay * velocity, 0.0, 1.0)
        gradient = gradient_of(model, point, criterion, _diversity(x, settings.diversity, random))
        velocity = settings.decay * velocity + _of_unit_l1(smooth(gradient) if smooth else gradient)
        current = signed_step(current, x, velocity, settings.step_size, settings.eps)
    return current


def _of_unit_l1(gradient: Array) -> Array:
    """Scale each image's gradient to an L1 norm of 1; a gradient of zeros stays."""
    xp = array_namespace(gradient)
    norm = xp.sum(xp.abs(gradient), axis=(1, 2, 3), keepdims=True)
    return gradient / xp.where(norm > 0, norm, xp.ones_like(norm))


def _diversity(x: Array, settings: InputDiversity | None, random: Randomness) -> Transform | None:
    """Draw the resize and shift of a step: four random numbers for each image, also for one that is not shrunk."""
    if settings is None:
        return None
    chance, share, down, right = np.asarray(random.uniform(0.0, 1.0, (x.shape[0], 4))).T
    scale = np.where(chance < settings.probability, settings.smallest + share * (1 - settings.smallest), 1.0)
    matrices = []
    for length, place in zip(map(int, x.shape[2:]), (down, right), strict=True):
        size = np.maximum(1, np.rint(length * scale)).astype(int)
        matrices.append(placed(length, size, (place * (length - size + 1)).astype(int)))
    return Separable(*matrices)
