"""What attacks raise: losses of logits, written once for every array library, and when a picture counts as fooled.

Sources: margin, Carlini & Wagner 2017 (arXiv 1608.04644) f6 without its clamp; DLR, Croce & Hein 2020 (arXiv
2003.01690) eq. 6; targeted DLR, the same eq. 7. Gradients are the array library's (torch: autograd).
"""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from lisard_ros.attacks.model import Array, Boxes, ClassGoal, Goal, Label, Loss, Target, like, numbers, whole_numbers
from lisard_ros.errors import AttackError

LOSSES: tuple[Loss, ...] = ("cross_entropy", "margin", "dlr", "dlr_targeted")
_FEWEST_CLASSES = {"cross_entropy": 1, "margin": 2, "dlr": 3, "dlr_targeted": 4}
_TINY = 1e-12  # keeps the ratio of DLR finite where the largest logits are equal


def objective(logits: Array, goal: Goal) -> Array:
    """Return the loss to raise, [N], from logits [N, K]: minus the class's own loss where a target is sought."""
    goal = of_classes(goal)
    check(goal, int(logits.shape[0]), int(logits.shape[1]))
    if isinstance(goal, Target) and goal.loss == "dlr_targeted":
        return -_gap(logits, goal.own, goal.indices) / _targeted_spread(logits)
    loss = _away_from(logits, goal.indices, goal.loss)
    return -loss if isinstance(goal, Target) else loss


def fooled(scores: Array, goal: Goal) -> NDArray[np.bool_]:
    """Tell for each picture whether the attack succeeded: the answer left its class, or became the target.

    With a goal of boxes: whether any true box is no longer found.
    """
    if isinstance(goal, Boxes):
        return np.asarray(numbers(scores)[:, 0] < 1)
    answer = numbers(scores).argmax(axis=1)
    if isinstance(goal, Label):
        return np.asarray(answer != whole_numbers(goal.indices))
    if goal.own is not None:
        return np.asarray(answer != whole_numbers(goal.own))
    return np.asarray(answer == whole_numbers(goal.indices))


def of_classes(goal: Goal) -> ClassGoal:
    """Return the goal, or refuse one of boxes: a classifier has none."""
    if isinstance(goal, Boxes):
        raise AttackError(
            "a goal of boxes for a classifier",
            found="Boxes",
            expected="Label or Target",
            cure="attack a detector's oracle with it",
        )
    return goal


def check(goal: ClassGoal, pictures: int, classes: int) -> None:
    """Refuse a goal that does not fit the pictures or the network's classes."""
    fewest = _FEWEST_CLASSES.get(goal.loss)
    if fewest is None:
        raise AttackError("unknown loss of a goal", found=goal.loss, expected=", ".join(LOSSES))
    if classes < fewest:
        raise AttackError(
            f"the loss {goal.loss} compares classes that the network does not have",
            found=f"{classes} classes",
            expected=f">= {fewest}",
            cure="use margin or cross_entropy",
        )
    own = goal.own if isinstance(goal, Target) else None
    if goal.loss == "dlr_targeted" and own is None:
        raise AttackError(
            "the loss dlr_targeted pushes from one class to another",
            found="no own classes",
            expected="Target(indices, 'dlr_targeted', own)",
        )
    for indices in (goal.indices, own):
        if indices is not None:
            _check_indices(whole_numbers(indices), pictures, classes)


def _check_indices(indices: NDArray[np.int64], pictures: int, classes: int) -> None:
    if indices.shape != (pictures,):
        raise AttackError(
            "a goal needs one class for each picture", found=f"shape {indices.shape}", expected=f"({pictures},)"
        )
    if pictures and not (0 <= indices.min() and indices.max() < classes):
        raise AttackError(
            "a goal names a class that the network does not have",
            found=f"classes {indices.min()} to {indices.max()}",
            expected=f"0 to {classes - 1}",
        )


def _away_from(logits: Array, indices: NDArray[np.integer], loss: Loss) -> Array:
    xp = array_namespace(logits)
    own = _own(logits, indices)
    value = xp.sum(xp.where(own, logits, 0.0), axis=1)
    if loss == "cross_entropy":
        return _log_sum_exp(logits) - value
    margin = xp.max(xp.where(own, -xp.inf, logits), axis=1) - value
    if loss == "margin":
        return margin
    ranked = xp.sort(logits, axis=1, descending=True)
    return margin / xp.clip(ranked[:, 0] - ranked[:, 2], _TINY)


def _gap(logits: Array, own: NDArray[np.integer] | None, other: NDArray[np.integer]) -> Array:
    xp = array_namespace(logits)
    assert own is not None, "checked before"
    first, second = (xp.sum(xp.where(_own(logits, i), logits, 0.0), axis=1) for i in (own, other))
    return first - second


def _targeted_spread(logits: Array) -> Array:
    xp = array_namespace(logits)
    ranked = xp.sort(logits, axis=1, descending=True)
    return xp.clip(ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2, _TINY)


def _own(logits: Array, indices: NDArray[np.integer]) -> Array:
    xp = array_namespace(logits)
    classes = xp.arange(logits.shape[1], device=device(logits))
    return like(whole_numbers(indices), logits)[:, None] == classes[None, :]


def _log_sum_exp(logits: Array) -> Array:
    xp = array_namespace(logits)
    largest = xp.max(logits, axis=1, keepdims=True)
    return xp.log(xp.sum(xp.exp(logits - largest), axis=1)) + largest[:, 0]
