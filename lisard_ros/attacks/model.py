"""What an attack may ask of a model: criteria, the evaluation it gets back, and the protocol between them.

Arrays are of whatever array library the attack model uses (NumPy, torch); attacks find out through array-api-compat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, to_device
from numpy.typing import NDArray

from lisard_ros.errors import AttackError

Array = Any
Transform = Callable[[Array], Array]
RANGE_SLACK = 1e-5  # what rounding may add to an image in [0, 1]


Loss = Literal["cross_entropy", "margin", "dlr", "dlr_targeted"]


@dataclass(frozen=True, slots=True, eq=False)
class Untargeted:
    """Drive each image away from its true class.

    Attributes:
        labels: True classes, int [N].
        loss: What to raise; `objective.py` has the formulas and their sources.
    """

    labels: NDArray[np.integer]
    loss: Loss = "cross_entropy"

    @property
    def classes(self) -> NDArray[np.integer]:
        """The class of each image whose loss counts, int [N]."""
        return self.labels


@dataclass(frozen=True, slots=True, eq=False)
class Targeted:
    """Drive each image towards a class.

    With `labels` any answer but the true class counts as fooled, and the target only gives the direction. Without them
    only the target itself counts.

    Attributes:
        targets: The class to reach, int [N].
        loss: What to lower for that class; `objective.py` has the formulas and their sources.
        labels: True classes, int [N]; `dlr_targeted` needs them.
    """

    targets: NDArray[np.integer]
    loss: Loss = "cross_entropy"
    labels: NDArray[np.integer] | None = None

    @property
    def classes(self) -> NDArray[np.integer]:
        """The class of each image whose loss counts, int [N]."""
        return self.targets


BoxLoss = Literal["class", "location", "joint", "vanish", "fabricate", "mislabel"]


@dataclass(frozen=True, slots=True, eq=False)
class BoxCriterion:
    """Against a detector: drive it away from the true boxes, or towards an answer of the attacker's.

    boxes_xyxy_px: float [N, M, 4] in input pixels. labels: int [N, M], negative where there is no box. loss: `class`,
    `location` and `joint` raise the detector's own loss or a part of it (Zhang and Wang 2019, arXiv 1907.10310);
    `vanish` wants no object, `fabricate` objects everywhere, `mislabel` the classes `targets` [N, M] at the true boxes
    (TOG, Chow et al. 2020, arXiv 2004.04320).
    """

    boxes_xyxy_px: NDArray[np.floating]
    labels: NDArray[np.integer]
    loss: BoxLoss = "joint"
    targets: NDArray[np.integer] | None = None


ClassCriterion = Untargeted | Targeted
Criterion = ClassCriterion | BoxCriterion


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A model's answer to an attack, detached and never reduced over the batch.

    loss: [N], what the attacker wants to raise. scores: [N, K]; for a box criterion [N, 1], the share of the true boxes
    that are still found (1 where there are none). gradient: d loss[i] / d x[i] like x, or None when the
    attack model can only be queried or was not asked for it. cost: how often the network saw each picture for it.
    """

    loss: Array
    scores: Array
    gradient: Array | None
    cost: int = 1


class AttackModel(Protocol):
    """A model under attack. x: [N, 3, H, W] in [0, 1].

    transform: differentiable change applied to x before the model (for expectation over transformations). A model that
    asks in parts gives each part its own of it (`of_rows`).
    gradient: False spares the work of the gradient for attacks that only look at loss and scores.
    """

    def evaluate(
        self, x: Array, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> Evaluation:
        """Return loss, scores and, if the attack model knows it and it is wanted, the gradient."""


class Randomness(Protocol):
    """A source of random numbers that gives NumPy arrays, so that every array library sees the same draws."""

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Draw from [low, high); numpy.random.Generator fits."""


@runtime_checkable
class OfEach(Protocol):
    """A transform that changes each picture in a way of its own."""

    def __call__(self, x: Array) -> Array:
        """Apply to all the pictures that it was made for."""

    def of_rows(self, rows: slice) -> Transform:
        """The changes of some of them."""


def of_rows(transform: Transform | None, rows: slice) -> Transform | None:
    """Return what a transform is for some of the rows."""
    return transform.of_rows(rows) if isinstance(transform, OfEach) else transform


def require_images(x: Array) -> None:
    """Refuse what an attack would otherwise clip to [0, 1], and so destroy before it is attacked.

    Args:
        x: Images [N, 3, H, W].

    Raises:
        AttackError: A value lies outside [0, 1] by more than rounding, or is NaN.
    """
    if 0 in x.shape:
        return
    xp = array_namespace(x)
    lowest, highest = float(xp.min(x)), float(xp.max(x))
    if not (lowest >= -RANGE_SLACK and highest <= 1 + RANGE_SLACK):
        raise AttackError(
            "the images of an attack are out of range",
            found=f"{lowest:.4g} to {highest:.4g}",
            expected="0 to 1",
            cure="divide 8-bit images by 255, and let the model normalise them (mean and std) itself",
        )


def pick(criterion: Criterion, rows: NDArray[np.integer] | slice) -> Criterion:
    """Return the same criterion for some of the rows."""
    if isinstance(criterion, Untargeted):
        return Untargeted(criterion.labels[rows], criterion.loss)
    if isinstance(criterion, BoxCriterion):
        targets = None if criterion.targets is None else criterion.targets[rows]
        return BoxCriterion(criterion.boxes_xyxy_px[rows], criterion.labels[rows], criterion.loss, targets)
    labels = None if criterion.labels is None else criterion.labels[rows]
    return Targeted(criterion.targets[rows], criterion.loss, labels)


def whole_numbers(values: Any) -> NDArray[np.int64]:
    """Return class indices of whatever array library as NumPy int64."""
    return np.asarray(numbers(values), np.int64)


def numbers(values: Array) -> NDArray[Any]:
    """Bring an array of any library and device to NumPy."""
    return np.asarray(to_device(values, "cpu") if is_array_api_obj(values) else values)


def like(values: NDArray[Any], x: Array) -> Array:
    """Bring a NumPy array to the library, device and, unless it holds whole numbers or truths, the type of `x`."""
    xp = array_namespace(x)
    kind = x.dtype if values.dtype.kind == "f" else None
    return xp.asarray(values, dtype=kind, device=device(x))


def rows_of(x: Array, rows: NDArray[np.intp]) -> Array:
    """Return some pictures of `x`; `x` itself when it is all of them in order."""
    if len(rows) == x.shape[0]:
        return x
    return array_namespace(x).take(x, like(rows, x), axis=0)
