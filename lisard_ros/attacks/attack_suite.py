"""Attacks one after the other, each on the images that the ones before could not turn: the worst case per image.

The scheme is that of AutoAttack (Croce & Hein 2020, arXiv 2003.01690, section 5); `standard` is its set without FAB-T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from lisard_ros.attacks.apgd import APGD, APGDTargeted, apgd, apgd_targeted
from lisard_ros.attacks.attacked import AttackResult
from lisard_ros.attacks.model import (
    Array,
    AttackModel,
    ModelAnswer,
    Randomness,
    Untargeted,
    like,
    numbers,
    require_images,
    rows_of,
    seeded,
    whole_numbers,
)
from lisard_ros.attacks.objective import fooled
from lisard_ros.attacks.square import Square, square
from lisard_ros.errors import AttackError

Attack = Callable[[AttackModel, Array, NDArray[np.int64], Randomness], AttackResult]
CLEAN = "clean"
NOT_FOOLED = -1


@dataclass(frozen=True, slots=True)
class NamedAttack:
    """One attack of a suite. attack: of (model, x, true classes [N], random)."""

    name: str
    attack: Attack


@dataclass(frozen=True, slots=True, eq=False)
class SuiteResult:
    """Images after all attacks of a suite.

    Attributes:
        attacked: The images; their loss is the margin, and `fooled` holds when the model is asked again.
        names: `clean`, then the attacks in order.
        by: Position in `names` of what fooled the model first, int [N]; -1 where nothing did.
    """

    attacked: AttackResult
    names: tuple[str, ...]
    by: NDArray[np.intp]

    def robust_after(self, name: str) -> NDArray[np.bool_]:
        """Tell which images hold after that attack and all before it, bool [N]."""
        return np.asarray((self.by == NOT_FOOLED) | (self.by > self.names.index(name)))


def apgd_ce(settings: APGD) -> NamedAttack:
    """APGD on the cross entropy."""
    return NamedAttack("apgd-ce", lambda model, x, own, random: apgd(model, x, Untargeted(own), settings, random))


def apgd_t(settings: APGDTargeted) -> NamedAttack:
    """APGD towards one likely class after the other."""
    return NamedAttack("apgd-t", lambda model, x, own, random: apgd_targeted(model, x, own, settings, random))


def square_margin(settings: Square) -> NamedAttack:
    """Square attack on the margin."""
    return NamedAttack(
        "square", lambda model, x, own, random: square(model, x, Untargeted(own, "margin"), settings, random)
    )


@dataclass(frozen=True, slots=True)
class AttackSuite:
    """The worst of APGD-CE, APGD-T and Square for each image: AutoAttack's standard set without FAB-T.

    Source: Croce and Hein 2020 (arXiv 2003.01690), section 5. APGD-T needs a network of four classes or more.

    Attributes:
        eps: Budget, the largest change of a pixel (Linf), above 0 and at most 1.
        steps: Steps of each APGD, 1 or more.
        queries: How often Square asks about each image at most, 1 or more.
    """

    eps: float = 8 / 255
    steps: int = 100
    queries: int = 5000

    def __post_init__(self) -> None:
        """Refuse settings that cannot attack."""
        standard_suite(self.eps, steps=self.steps, queries=self.queries)

    def run(
        self, model: AttackModel, images: Array, labels: NDArray[np.integer], random: Randomness | None = None
    ) -> SuiteResult:
        """Attack images and tell which attack fooled the model first.

        Args:
            model: The model under attack, e.g. `from_torch(network)`.
            images: [N, C, H, W] in [0, 1], of NumPy or of the model's array library. They are not changed.
            labels: True classes, whole numbers [N] of any array library.
            random: Source of starts and squares; None: `numpy.random.default_rng(0)`.

        Returns:
            The attacked images, which of them fool the model, and the attack that did it.

        Raises:
            AttackError: The images are outside [0, 1] or NaN, the labels do not fit, or the model has no gradients.
        """
        suite = standard_suite(self.eps, steps=self.steps, queries=self.queries)
        return run_suite(model, images, Untargeted(labels).classes, suite, seeded(random))

    def __call__(
        self, model: AttackModel, images: Array, criterion: Untargeted, random: Randomness | None = None
    ) -> Array:
        """Attack images; an image that no attack fools stays as it is, or is the last attempt.

        Args:
            model: The model under attack, e.g. `from_torch(network)`.
            images: [N, C, H, W] in [0, 1], of NumPy or of the model's array library. They are not changed.
            criterion: The true classes; its loss is not used, as each attack of the suite has its own.
            random: Source of starts and squares; None: `numpy.random.default_rng(0)`.

        Returns:
            The attacked images, an array like `images`, within eps of them and in [0, 1].

        Raises:
            AttackError: The criterion is not untargeted, or as for `run`.

        Examples:
            >>> suite = attacks.AttackSuite(steps=5, queries=20)
            >>> result = suite.run(model, images, labels)
            >>> result.names
            ('clean', 'apgd-ce', 'apgd-t', 'square')
            >>> result.attacked.fooled.shape
            (4,)
        """
        if not isinstance(criterion, Untargeted):
            raise AttackError("an attack suite has no target", found=type(criterion).__name__, expected="Untargeted")
        return self.run(model, images, criterion.labels, random).attacked.x


def standard_suite(eps: float, *, steps: int = 100, queries: int = 5000) -> tuple[NamedAttack, ...]:
    """Return APGD-CE, APGD-T and Square at this budget: AutoAttack's standard set without FAB-T."""
    plain = APGD(eps, steps, stop_when_fooled=True)
    return apgd_ce(plain), apgd_t(APGDTargeted(plain)), square_margin(Square(eps, queries))


def run_suite(
    model: AttackModel, x: Array, own: NDArray[np.integer], stages: Sequence[NamedAttack], random: Randomness
) -> SuiteResult:
    """Attack images `x` [N, 3, H, W] of classes `own` [N]; what is wrong when clean is left as it is."""
    if not stages or len({CLEAN, *(stage.name for stage in stages)}) <= len(stages):
        raise AttackError(
            "impossible attack suite",
            found=[stage.name for stage in stages],
            expected=f"one stage or more, of different names, none '{CLEAN}'",
        )
    work = _SuiteRun(model, x, whole_numbers(own))
    for place, stage in enumerate(stages, 1):
        work.run(place, stage.attack, random)
    return work.finish((CLEAN, *(stage.name for stage in stages)))


class _SuiteRun:
    """A suite under way."""

    def __init__(self, model: AttackModel, x: Array, own: NDArray[np.int64]) -> None:
        require_images(x)
        self._model, self._clean, self._own = model, x, own
        self._x = array_namespace(x).asarray(x, copy=True)
        self._by = np.full(len(own), NOT_FOOLED, np.intp)
        self._gradients, self._queries = np.zeros(len(own), np.int64), np.zeros(len(own), np.int64)
        self._by[fooled(self._ask(x).scores, Untargeted(own))] = 0

    def run(self, place: int, attack: Attack, random: Randomness) -> None:
        """Run one attack on the images that are not fooled yet."""
        rows = np.flatnonzero(self._by == NOT_FOOLED)
        if not len(rows):
            return
        result = attack(self._model, rows_of(self._clean, rows), self._own[rows], random)
        self._gradients[rows] += result.gradients
        self._queries[rows] += result.queries
        mask = np.zeros(len(self._own), bool)
        mask[rows] = True
        self._x[like(mask, self._x)] = result.x
        self._by[rows[result.fooled]] = place

    def finish(self, names: tuple[str, ...]) -> SuiteResult:
        """Ask about every image once more, so that nothing counts as fooled that is not."""
        answer = self._ask(self._x)
        won = fooled(answer.scores, Untargeted(self._own))
        loss = numbers(answer.loss).astype(np.float64)
        first = np.where(self._by == NOT_FOOLED, len(names) - 1, self._by)
        by = np.where(won, first, NOT_FOOLED).astype(np.intp)
        return SuiteResult(AttackResult(self._x, loss, won, self._gradients, self._queries), names, by)

    def _ask(self, x: Array) -> ModelAnswer:
        answer = self._model.evaluate(x, Untargeted(self._own, "margin"), gradient=False)
        self._queries += answer.cost
        return answer
