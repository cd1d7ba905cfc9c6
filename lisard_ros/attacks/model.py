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
IMAGE_DIMS = 4
RANGE_SLACK = 1e-5  # what rounding may add to an image in [0, 1]


Loss = Literal["cross_entropy", "margin", "dlr", "dlr_targeted"]


@dataclass(frozen=True, slots=True, eq=False)
class Untargeted:
    """Drive each image away from its true class.

    Attributes:
        labels: True classes, whole numbers [N] of any array library; kept as NumPy int64.
        loss: What to raise: cross_entropy, margin or dlr. `objective.py` has the formulas and their sources.

    Raises:
        AttackError: The labels are not whole numbers.

    Examples:
        >>> attacks.Untargeted([3, 0, 1]).labels
        array([3, 0, 1])
    """

    labels: Array
    loss: Loss = "cross_entropy"

    def __post_init__(self) -> None:
        """Bring the labels to NumPy."""
        object.__setattr__(self, "labels", class_numbers("labels", self.labels))

    @property
    def classes(self) -> NDArray[np.int64]:
        """The class of each image whose loss counts, int64 [N]."""
        labels: NDArray[np.int64] = self.labels
        return labels


@dataclass(frozen=True, slots=True, eq=False)
class Targeted:
    """Drive each image towards a class.

    With `labels` any answer but the true class counts as fooled, and the target only gives the direction. Without them
    only the target itself counts.

    Attributes:
        targets: The class to reach, whole numbers [N] of any array library; kept as NumPy int64.
        loss: What to lower for that class: cross_entropy, margin, dlr or dlr_targeted. `objective.py` has the formulas
            and their sources.
        labels: True classes, likewise [N], or None; `dlr_targeted` needs them.

    Raises:
        AttackError: The targets or labels are not whole numbers.
    """

    targets: Array
    loss: Loss = "cross_entropy"
    labels: Array | None = None

    def __post_init__(self) -> None:
        """Bring the classes to NumPy."""
        object.__setattr__(self, "targets", class_numbers("targets", self.targets))
        if self.labels is not None:
            object.__setattr__(self, "labels", class_numbers("labels", self.labels))

    @property
    def classes(self) -> NDArray[np.int64]:
        """The class of each image whose loss counts, int64 [N]."""
        targets: NDArray[np.int64] = self.targets
        return targets


BoxLoss = Literal["class", "location", "joint", "vanish", "fabricate", "mislabel"]


@dataclass(frozen=True, slots=True, eq=False)
class BoxCriterion:
    """Against a detector: drive it away from the true boxes, or towards an answer of the attacker's.

    `class`, `location` and `joint` raise the detector's own loss or a part of it (Zhang and Wang 2019, arXiv
    1907.10310). `vanish` wants no object, `fabricate` objects everywhere, `mislabel` the classes `targets` at the true
    boxes (TOG, Chow et al. 2020, arXiv 2004.04320).

    Attributes:
        boxes_xyxy_px: Corners of the true boxes, numbers [N, M, 4] of any array library, in pixels of the model's
            input; kept as NumPy.
        labels: Their classes, whole numbers [N, M]; negative where there is no box.
        loss: One of the six above.
        targets: Classes for `mislabel`, whole numbers [N, M], else None.

    Raises:
        AttackError: The labels or targets are not whole numbers.
    """

    boxes_xyxy_px: Array
    labels: Array
    loss: BoxLoss = "joint"
    targets: Array | None = None

    def __post_init__(self) -> None:
        """Bring the arrays to NumPy."""
        object.__setattr__(self, "boxes_xyxy_px", numbers(self.boxes_xyxy_px))
        object.__setattr__(self, "labels", class_numbers("labels", self.labels))
        if self.targets is not None:
            object.__setattr__(self, "targets", class_numbers("targets", self.targets))


ClassCriterion = Untargeted | Targeted
Criterion = ClassCriterion | BoxCriterion


@dataclass(frozen=True, slots=True, eq=False)
class ModelAnswer:
    """A model's answer to an attack, detached and never reduced over the batch.

    Attributes:
        loss: What the attacker wants to raise, [N].
        scores: Of the classes, [N, K]; for a box criterion the share of the true boxes that are still found, [N, 1] (1
            where there are none).
        gradient: d loss[i] / d x[i], like x; None when the model can only be queried or was not asked for it.
        cost: How often the network saw each image for it.
    """

    loss: Array
    scores: Array
    gradient: Array | None
    cost: int = 1


class AttackModel(Protocol):
    """A model under attack: any object with this method. `from_torch` makes one of a torch network."""

    def evaluate(
        self, x: Array, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Answer an attack.

        Args:
            x: Images [N, C, H, W] in [0, 1].
            criterion: What the attacker wants, of the N images.
            transform: Differentiable change applied to x before the model (for expectation over transformations). A
                model that asks in parts gives each part its own of it (`of_rows`). A model without automatic
                differentiation turns its gradient back with the transform's `adjoint`.
            gradient: False spares the work of the gradient for attacks that only need loss and scores.

        Returns:
            Loss, scores and, if the model knows it and it is wanted, the gradient.
        """


class Randomness(Protocol):
    """A source of random numbers that gives NumPy arrays, so that every array library sees the same draws."""

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> NDArray[np.float64]:
        """Draw from [low, high); numpy.random.Generator fits."""


@runtime_checkable
class OfEach(Protocol):
    """A transform that changes each image in a way of its own."""

    def __call__(self, x: Array) -> Array:
        """Apply to all the images that it was made for."""

    def of_rows(self, rows: slice) -> Transform:
        """The changes of some of them."""


def of_rows(transform: Transform | None, rows: slice) -> Transform | None:
    """Return what a transform is for some of the rows."""
    return transform.of_rows(rows) if isinstance(transform, OfEach) else transform


def seeded(random: Randomness | None) -> Randomness:
    """Return the source of random numbers, or without one a generator of seed 0."""
    return np.random.default_rng(0) if random is None else random


def require_images(x: Array) -> None:
    """Refuse what is no batch of images, or what an attack would clip to [0, 1] and so destroy.

    Args:
        x: Images [N, C, H, W] of any array library.

    Raises:
        AttackError: Not an array of floating-point numbers with four axes, or a value lies outside [0, 1] by more than
            rounding, or is NaN.
    """
    if not is_array_api_obj(x) or x.ndim != IMAGE_DIMS:
        raise AttackError(
            "an attack needs a batch of images",
            found=f"shape {tuple(x.shape)}" if is_array_api_obj(x) else type(x).__name__,
            expected="an array or tensor [N, C, H, W]",
            cure="put one image into a batch with x[None], and channels before rows and columns",
        )
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        raise AttackError(
            "the images of an attack are not floating-point numbers",
            found=x.dtype,
            expected="numbers from 0 to 1",
            cure="divide 8-bit images by 255",
        )
    if 0 in x.shape:
        return
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


def class_numbers(what: str, values: Array) -> NDArray[np.int64]:
    """Return class indices of whatever array library, or a list of them, as NumPy int64.

    Args:
        what: What they are, for the message.
        values: Whole numbers of any shape.

    Raises:
        AttackError: They are not whole numbers.
    """
    array = np.asarray(numbers(values))
    if array.size and array.dtype.kind not in "iu":
        raise AttackError(
            f"the {what} of a criterion are not classes",
            found=array.dtype,
            expected="whole numbers",
            cure="give the index of each class, not its scores",
        )
    return array.astype(np.int64, copy=False)


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
    """Return some images of `x`; `x` itself when it is all of them in order."""
    if len(rows) == x.shape[0]:
        return x
    return array_namespace(x).take(x, like(rows, x), axis=0)
