"""What attacks raise: losses of logits, written once for every array library, and when an image counts as fooled.

Sources: margin, Carlini & Wagner 2017 (arXiv 1608.04644) f6 without its clamp; DLR, Croce & Hein 2020 (arXiv
2003.01690) eq. 6; targeted DLR, the same eq. 7. Gradients are the array library's (torch: autograd).
"""

from __future__ import annotations

from typing import get_args

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from lisard_ros.attacks.model import (
    Array,
    BoxCriterion,
    BoxLoss,
    ClassCriterion,
    Criterion,
    Loss,
    Targeted,
    Untargeted,
    like,
    numbers,
    whole_numbers,
)
from lisard_ros.errors import AttackError

LOSSES: tuple[Loss, ...] = ("cross_entropy", "margin", "dlr", "dlr_targeted")
_FEWEST_CLASSES = {"cross_entropy": 1, "margin": 2, "dlr": 3, "dlr_targeted": 4}
_TINY = 1e-12  # keeps the ratio of DLR finite where the largest logits are equal


def objective(logits: Array, criterion: Criterion) -> Array:
    """Return the loss that an attack raises: with a target, minus the target's own loss.

    Args:
        logits: [N, K].
        criterion: What the attacker wants, of the N images.

    Returns:
        One loss for each image, [N].

    Raises:
        AttackError: The criterion is for boxes, or does not fit the images or the network's classes.
    """
    criterion = of_classes(criterion)
    check(criterion, int(logits.shape[0]), int(logits.shape[1]))
    if isinstance(criterion, Targeted) and criterion.loss == "dlr_targeted":
        assert criterion.labels is not None, "checked before"
        xp = array_namespace(logits)
        own, aim = (
            xp.sum(xp.where(_one_hot(logits, classes), logits, 0.0), axis=1)
            for classes in (criterion.labels, criterion.targets)
        )
        ranked = xp.sort(logits, axis=1, descending=True)
        return -(own - aim) / xp.clip(ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2, _TINY)
    loss = _away_from(logits, criterion.classes, criterion.loss)
    return -loss if isinstance(criterion, Targeted) else loss


def check_boxes(criterion: BoxCriterion, images: int) -> None:
    """Raise AttackError unless a criterion has the boxes of so many images, a known loss, and targets if need be."""
    shape = (*criterion.labels.shape, 4)
    if len(criterion.labels) != images or criterion.boxes_xyxy_px.shape != shape:
        raise AttackError(
            "a criterion needs the boxes of each image",
            found=f"{criterion.boxes_xyxy_px.shape}, {criterion.labels.shape}",
            expected=f"({images}, M, 4) and ({images}, M)",
        )
    known = get_args(BoxLoss)
    if criterion.loss not in known:
        raise AttackError("unknown loss of a box criterion", found=criterion.loss, expected=", ".join(known))
    if (criterion.loss == "mislabel") != (criterion.targets is not None):
        raise AttackError("targets of a box criterion", found=criterion.loss, expected="with mislabel, and only then")


def fooled(scores: Array, criterion: Criterion) -> NDArray[np.bool_]:
    """Tell for each image whether the attack succeeded: the answer left its class, or became the target.

    With a box criterion: whether any true box is no longer found.
    """
    if isinstance(criterion, BoxCriterion):
        return np.asarray(numbers(scores)[:, 0] < 1)
    answer = numbers(scores).argmax(axis=1)
    if isinstance(criterion, Untargeted):
        return np.asarray(answer != whole_numbers(criterion.classes))
    if criterion.labels is not None:
        return np.asarray(answer != whole_numbers(criterion.labels))
    return np.asarray(answer == whole_numbers(criterion.classes))


def of_classes(criterion: Criterion) -> ClassCriterion:
    """Return the criterion, or refuse one of boxes: a classifier has none."""
    if isinstance(criterion, BoxCriterion):
        raise AttackError(
            "a box criterion for a classifier",
            found="BoxCriterion",
            expected="Untargeted or Targeted",
            cure="use it with an attack model of a detector",
        )
    return criterion


def check(criterion: ClassCriterion, images: int, classes: int) -> None:
    """Refuse a criterion that does not fit the images or the network's classes."""
    fewest = _FEWEST_CLASSES.get(criterion.loss)
    if fewest is None:
        raise AttackError("unknown loss of a criterion", found=criterion.loss, expected=", ".join(LOSSES))
    if classes < fewest:
        raise AttackError(
            f"the loss {criterion.loss} compares more classes than the network has",
            found=f"{classes} classes",
            expected=f">= {fewest}",
            cure="use margin or cross_entropy",
        )
    labels = criterion.labels if isinstance(criterion, Targeted) else None
    if criterion.loss == "dlr_targeted" and labels is None:
        raise AttackError(
            "the loss dlr_targeted pushes from one class to another",
            found="no true classes",
            expected="Targeted(targets, 'dlr_targeted', labels)",
        )
    for indices in (criterion.classes, labels):
        if indices is not None:
            _check_indices(whole_numbers(indices), images, classes)


def _check_indices(indices: NDArray[np.int64], images: int, classes: int) -> None:
    if indices.shape != (images,):
        raise AttackError(
            "a criterion needs one class for each image", found=f"shape {indices.shape}", expected=f"({images},)"
        )
    if images and not (indices.min() >= 0 and indices.max() < classes):
        raise AttackError(
            "a criterion names a class that the network does not have",
            found=f"classes {indices.min()} to {indices.max()}",
            expected=f"0 to {classes - 1}",
        )


def _away_from(logits: Array, indices: NDArray[np.integer], loss: Loss) -> Array:
    xp = array_namespace(logits)
    of_class = _one_hot(logits, indices)
    value = xp.sum(xp.where(of_class, logits, 0.0), axis=1)
    if loss == "cross_entropy":
        return _log_sum_exp(logits) - value
    margin = xp.max(xp.where(of_class, -xp.inf, logits), axis=1) - value
    if loss == "margin":
        return margin
    ranked = xp.sort(logits, axis=1, descending=True)
    return margin / xp.clip(ranked[:, 0] - ranked[:, 2], _TINY)


def _one_hot(logits: Array, indices: NDArray[np.integer]) -> Array:
    xp = array_namespace(logits)
    classes = xp.arange(logits.shape[1], device=device(logits))
    return like(whole_numbers(indices), logits)[:, None] == classes[None, :]


def _log_sum_exp(logits: Array) -> Array:
    xp = array_namespace(logits)
    largest = xp.max(logits, axis=1, keepdims=True)
    return xp.log(xp.sum(xp.exp(logits - largest), axis=1)) + largest[:, 0]
