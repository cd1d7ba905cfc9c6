"""Auto-PGD: PGD with momentum that sets its own step, on any loss of a criterion, and its targeted form.

Source: Croce & Hein 2020 (arXiv 2003.01690), algorithm 1 with conditions 1 and 2 and section 4.2; constants as there.
One detail follows the authors' program, which published figures rest on: condition 1 counts "at most" a share of rho.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from lisard_ros.attacks.attacked import AttackResult, Best
from lisard_ros.attacks.gradient import check_budget, project, random_start, required
from lisard_ros.attacks.model import (
    Array,
    AttackModel,
    Criterion,
    Loss,
    Randomness,
    Targeted,
    Untargeted,
    like,
    numbers,
    pick,
    rows_of,
    seeded,
    whole_numbers,
)
from lisard_ros.errors import AttackError

_FIRST_STEP = 2.0  # in units of eps
_FIRST_PERIOD, _PERIOD_FALL, _SHORTEST_PERIOD = 22, 3, 6  # per cent of the steps


@dataclass(frozen=True, slots=True)
class APGD:
    """Auto-PGD (Croce and Hein 2020, arXiv 2003.01690, algorithm 1), whose step halves by itself.

    The loss is the criterion's: `Untargeted(labels)` is APGD-CE, `Untargeted(labels, "dlr")` APGD-DLR.

    Attributes:
        eps: Budget, the largest change of a pixel (Linf), above 0 and at most 1.
        steps: How many steps of each restart, 1 or more.
        restarts: How many random starts, 1 or more.
        rho: A step is halved where at most this share of its moves raised the loss, between 0 and 1.
        momentum: Weight of the new move, above 0 and at most 1.
        stop_when_fooled: Spend nothing more on an image that fools the model; False looks for the highest loss.
    """

    eps: float = 8 / 255
    steps: int = 100
    restarts: int = 1
    rho: float = 0.75
    momentum: float = 0.75
    stop_when_fooled: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that cannot attack."""
        check_budget("APGD", self.eps)
        if not (self.steps >= 1 and self.restarts >= 1 and 0 < self.rho < 1 and 0 < self.momentum <= 1):
            raise AttackError(
                "impossible APGD settings",
                found=self,
                expected="steps, restarts >= 1, 0 < rho < 1 and 0 < momentum <= 1",
            )

    def __call__(
        self, model: AttackModel, images: Array, criterion: Criterion, random: Randomness | None = None
    ) -> Array:
        """Attack images; the answer is the best step of all restarts. `apgd` gives the losses and costs too.

        Args:
            model: The model under attack, e.g. `from_torch(network)`.
            images: [N, C, H, W] in [0, 1], of NumPy or of the model's array library. They are not changed.
            criterion: What the attacker wants: `Untargeted`, `Targeted`, or `BoxCriterion` for a detector.
            random: Source of the random starts; None: `numpy.random.default_rng(0)`.

        Returns:
            The attacked images, an array like `images`, within eps of them and in [0, 1].

        Raises:
            AttackError: Images outside [0, 1] or NaN, a criterion that does not fit, or a model without gradients.

        Examples:
            >>> adversarial = attacks.APGD(steps=20)(model, images, attacks.Untargeted(labels, "dlr"))
            >>> adversarial.shape == images.shape
            True
        """
        return apgd(model, images, criterion, self, seeded(random)).x


@dataclass(frozen=True, slots=True)
class APGDTargeted:
    """Settings of APGD-T: pushes towards each of the `targets` likeliest other classes (or all, if there are fewer).

    loss: dlr_targeted as published, which needs four classes; margin and cross_entropy do with two.
    """

    apgd: APGD = APGD(stop_when_fooled=True)
    targets: int = 9
    loss: Loss = "dlr_targeted"

    def __post_init__(self) -> None:
        """Refuse settings that cannot attack."""
        if self.targets < 1 or self.loss == "dlr":
            raise AttackError(
                "impossible APGD-T settings", found=self, expected="targets >= 1 and a loss that knows a target"
            )


def apgd(model: AttackModel, x: Array, criterion: Criterion, settings: APGD, random: Randomness) -> AttackResult:
    """Attack images; spends restarts * (steps + 1) gradients at most on each.

    Args:
        model: The model under attack.
        x: Images [N, 3, H, W] in [0, 1].
        criterion: What the attacker wants, of the N images.
        settings: Budget, steps and restarts.
        random: Source of the random starts.

    Raises:
        AttackError: The images are out of range, the criterion does not fit, or the model has no gradients.
    """
    best = Best(x)
    _restart(model, x, criterion, settings, random, best)
    return best.attacked()


def apgd_targeted(
    model: AttackModel, x: Array, own: NDArray[np.integer], settings: APGDTargeted, random: Randomness
) -> AttackResult:
    """Attack images whose true classes are `own`, [N], by way of one target after the other."""
    best, truth = Best(x), whole_numbers(own)
    clean = model.evaluate(x, Untargeted(truth), gradient=False)
    best.charge(np.arange(len(truth)), clean.cost, gradient=False)
    for aims in likeliest_others(clean.scores, truth)[: settings.targets]:
        _restart(model, x, Targeted(aims, settings.loss, truth), settings.apgd, random, best)
    return best.attacked()


def likeliest_others(scores: Array, own: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    """Return K - 1 arrays [N]: for each image the likeliest class but its own, the second likeliest, and so on."""
    ranked = numbers(scores).astype(np.float64)
    ranked[np.arange(len(own)), own] = -np.inf
    order = np.argsort(-ranked, axis=1, kind="stable").astype(np.int64)
    return [order[:, place] for place in range(order.shape[1] - 1)]


def checkpoints(steps: int) -> frozenset[int]:
    """Return after how many steps the step size is reviewed: the periods shorten from 22 % to 6 % of all steps."""
    period, share, reviews = _FIRST_PERIOD, _FIRST_PERIOD, set()
    while share <= 100:
        reviews.add(-(-share * steps // 100))
        period = max(period - _PERIOD_FALL, _SHORTEST_PERIOD)
        share += period
    return frozenset(reviews)


@dataclass(slots=True, eq=False)
class _Walk:
    """Where the images under way are, one entry of every field for each; `top` is the highest loss of this start.

    rises and reviewed_at: since the last review, how many moves raised the loss, and the top loss it found.
    """

    rows: NDArray[np.intp]
    centre: Array
    current: Array
    previous: Array
    gradient: Array
    top: Array
    top_gradient: Array
    loss: NDArray[np.float64]
    top_loss: NDArray[np.float64]
    reviewed_at: NDArray[np.float64]
    rises: NDArray[np.int64]
    step: NDArray[np.float64]
    halved: NDArray[np.bool_]

    def only(self, chosen: NDArray[np.intp]) -> _Walk:
        """Return the walk of some of the images."""
        if len(chosen) == len(self.rows):
            return self
        values = (getattr(self, field.name) for field in fields(self))
        return _Walk(*(v[chosen] if isinstance(v, np.ndarray) else rows_of(v, chosen) for v in values))


def _restart(
    model: AttackModel, x: Array, criterion: Criterion, settings: APGD, random: Randomness, best: Best
) -> None:
    """Run all restarts of one criterion on what is not fooled yet, or on everything."""
    for _ in range(settings.restarts):
        rows, start = np.arange(int(x.shape[0])), random_start(x, settings.eps, random)
        if settings.stop_when_fooled:
            rows = best.open(rows)
        if len(rows):
            _ascend(model, criterion, settings, best, _begin(model, x, criterion, rows, start, settings, best))


def _begin(
    model: AttackModel, x: Array, criterion: Criterion, rows: NDArray[np.intp], start: Array, settings: APGD, best: Best
) -> _Walk:
    at, count = rows_of(start, rows), len(rows)
    answer = best.ask(model, rows, at, pick(criterion, rows))
    gradient, loss = required(answer), numbers(answer.loss).astype(np.float64)
    return _Walk(
        rows,
        rows_of(x, rows),
        at,
        at,
        gradient,
        at,
        gradient,
        loss,
        loss.copy(),
        loss.copy(),
        np.zeros(count, np.int64),
        np.full(count, _FIRST_STEP * settings.eps),
        np.zeros(count, bool),
    )


def _ascend(model: AttackModel, criterion: Criterion, settings: APGD, best: Best, walk: _Walk) -> None:
    reviews, last = checkpoints(settings.steps), 0
    for step in range(1, settings.steps + 1):
        if settings.stop_when_fooled:
            walk = walk.only(best.open(walk.rows))
        if not len(walk.rows):
            return
        following = _move(walk, settings, 1.0 if step == 1 else settings.momentum)
        final = step == settings.steps
        answer = best.ask(model, walk.rows, following, pick(criterion, walk.rows), gradient=not final)
        if final:
            return
        walk = _arrive(walk, following, required(answer), numbers(answer.loss).astype(np.float64))
        if step in reviews:
            walk, last = _review(walk, settings.rho * (step - last)), step


def _move(walk: _Walk, settings: APGD, weight: float) -> Array:
    """Algorithm 1, lines 7 and 8: a signed step, mixed with the last move."""
    xp = array_namespace(walk.current)
    step = like(walk.step, walk.current)[:, None, None, None]
    ahead = project(walk.current + step * xp.sign(walk.gradient), walk.centre, settings.eps)
    if weight == 1:
        return ahead
    mixed = walk.current + weight * (ahead - walk.current) + (1 - weight) * (walk.current - walk.previous)
    return project(mixed, walk.centre, settings.eps)


def _arrive(walk: _Walk, following: Array, gradient: Array, loss: NDArray[np.float64]) -> _Walk:
    higher = loss > walk.top_loss
    return replace(
        walk,
        current=following,
        previous=walk.current,
        gradient=gradient,
        loss=loss,
        top=_choose(higher, following, walk.top),
        top_gradient=_choose(higher, gradient, walk.top_gradient),
        top_loss=np.where(higher, loss, walk.top_loss),
        rises=walk.rises + (loss > walk.loss),
    )


def _review(walk: _Walk, enough: float) -> _Walk:
    """Halve the step and go back to the top where the loss rose too seldom or the top has not moved since last time."""
    stuck = ~walk.halved & (walk.reviewed_at >= walk.top_loss)
    halve = (walk.rises <= enough) | stuck
    return replace(
        walk,
        step=np.where(halve, walk.step / 2, walk.step),
        halved=halve,
        reviewed_at=walk.top_loss,
        rises=np.zeros_like(walk.rises),
        loss=np.where(halve, walk.top_loss, walk.loss),
        current=_choose(halve, walk.top, walk.current),
        gradient=_choose(halve, walk.top_gradient, walk.gradient),
    )


def _choose(mask: NDArray[np.bool_], chosen: Array, otherwise: Array) -> Array:
    xp = array_namespace(chosen)
    return xp.where(like(mask, chosen)[:, None, None, None], chosen, otherwise)
