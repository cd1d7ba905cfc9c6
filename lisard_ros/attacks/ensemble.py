"""Attack models made of others: several surrogates at once, and the expectation over a random one.

Sources: ensembles, Liu et al. 2017 (arXiv 1611.02770), here as the mean of the losses; expectation over
transformations, Athalye et al. 2018 (arXiv 1707.07397) eq. 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lisard_ros.attacks.model import Array, AttackModel, Criterion, ModelAnswer, Transform, like
from lisard_ros.errors import AttackError


class GaussianNoise:
    """Noise of a fixed standard deviation, not clipped: the disturbance under which `EOT` takes the mean."""

    def __init__(self, sigma: float, random: np.random.Generator) -> None:
        """Keep the settings.

        Args:
            sigma: Standard deviation in the unit of the images, above 0 and at most 1.
            random: Source of the noise.

        Raises:
            AttackError: sigma is out of range.
        """
        if not 0 < sigma <= 1:
            raise AttackError("noise out of range", found=sigma, expected="0 < sigma <= 1")
        self._sigma, self._random = sigma, random

    def __call__(self, x: Array) -> Array:
        """Return noisy images."""
        return x + self._sigma * like(self._random.standard_normal(tuple(x.shape)), x)


class Ensemble:
    """Several surrogates as one attack model: mean loss, mean scores, gradient of the mean loss."""

    def __init__(self, models: Sequence[AttackModel]) -> None:
        """Join models.

        Args:
            models: One or more that know the same classes.

        Raises:
            AttackError: There is no model.

        Examples:
            >>> both = attacks.Ensemble([model, model])
            >>> attacks.FGSM()(both, images, attacks.Untargeted(labels)).shape == images.shape
            True
        """
        if not models:
            raise AttackError("an ensemble without members", found=0, expected="one attack model or more")
        self._models = tuple(models)

    def evaluate(
        self, x: Array, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Ask every member."""
        return _mean([model.evaluate(x, criterion, transform, gradient=gradient) for model in self._models])


class EOT:
    """A model's mean answer over `samples` draws: of `noise` on its input, or of its own randomness without any.

    Wrap the network with whatever randomness it is used with; then any attack of this package is its EOT form.
    """

    def __init__(self, model: AttackModel, samples: int, noise: Transform | None = None) -> None:
        """Wrap a model.

        Args:
            model: A model that answers at random, or any model together with `noise`.
            samples: Draws for each question, 1 or more; 20 is usual.
            noise: Random change of the images with derivative 1, e.g. `GaussianNoise`.

        Raises:
            AttackError: There are no samples.

        Examples:
            >>> noise = attacks.GaussianNoise(4 / 255, np.random.default_rng(0))
            >>> attacks.PGD()(attacks.EOT(model, 5, noise), images, attacks.Untargeted(labels)).shape == images.shape
            True
        """
        if samples < 1:
            raise AttackError("an expectation without samples", found=samples, expected=">= 1")
        self._model, self._samples, self._noise = model, samples, noise

    def evaluate(
        self, x: Array, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Ask `samples` times."""
        seen = (self._noise(x) if self._noise else x for _ in range(self._samples))
        return _mean([self._model.evaluate(one, criterion, transform, gradient=gradient) for one in seen])


def _mean(answers: Sequence[ModelAnswer]) -> ModelAnswer:
    known = [answer.gradient for answer in answers if answer.gradient is not None]
    count = len(answers)
    return ModelAnswer(
        sum(answer.loss for answer in answers) / count,
        sum(answer.scores for answer in answers) / count,
        sum(known) / count if len(known) == count else None,
        sum(answer.cost for answer in answers),
    )
