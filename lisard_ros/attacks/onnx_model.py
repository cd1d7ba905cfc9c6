"""A bundle under attack without torch: its losses and their gradients from the file of `lisard build --gradient`.

The file is run by ONNX Runtime, so that a vehicle needs nothing more than it has. ONNX Runtime runs all of a file
whatever is wanted of it, so the model's own output comes from the bundle's model, which costs less than half.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from lisard_ros.attacks import box_targets, gradient_file
from lisard_ros.attacks.gradient import required
from lisard_ros.attacks.gradient_file import (
    BOXES,
    CLASS_LOSSES,
    CLASSES,
    GRADIENT,
    IMAGES,
    LABELS,
    LOSS,
    TARGETS,
    WEIGHTS,
)
from lisard_ros.attacks.model import (
    Array,
    BoxCriterion,
    ClassCriterion,
    Criterion,
    ModelAnswer,
    Targeted,
    Transform,
    like,
    numbers,
    of_rows,
    pick,
)
from lisard_ros.attacks.objective import check, check_boxes, of_classes
from lisard_ros.backends import default_threads
from lisard_ros.backends.onnx_runtime import CPU, OnnxRuntime, load_session
from lisard_ros.bundle import Bundle
from lisard_ros.bundle import read as read_bundle
from lisard_ros.errors import AttackError, BackendError, one_line
from lisard_ros.inference.postprocess import scores_of
from lisard_ros.inference.preprocess import normalise

Floats = NDArray[np.float32]
Feed = dict[str, NDArray[Any]]
MOST_PIXELS, MOST_IMAGES = 1_600_000, 256  # of the images that go through at once
BOX_WEIGHT = 5.0  # of the location in the joint loss, as the trainer weighs it
# Weights of BOX_TERMS for each loss of a box criterion.
BOX_LOSSES = {
    "class": (1.0, 0.0, 0.0, 0.0),
    "location": (0.0, 1.0, 0.0, 0.0),
    "joint": (1.0, BOX_WEIGHT, 0.0, 0.0),
    "vanish": (0.0, 0.0, 1.0, 0.0),
    "fabricate": (0.0, 0.0, 0.0, 1.0),
    "mislabel": (-1.0, -1.0, 0.0, 0.0),
}
NO_BOX = -1  # the label of a place without a box


class OnnxAttackModel:
    """White box to the fp32 model of a bundle, classifier or detector, by its gradient file."""

    def __init__(self, bundle: Bundle, file: Path | None = None, threads: int = 0, provider: str = CPU) -> None:
        """Load the file and hold its key against the bundle's.

        Args:
            bundle: Whose model it is.
            file: A gradient file to use instead of the one in the cache.
            threads: How many to compute with; 0: `backends.default_threads()`.
            provider: Of ONNX Runtime.

        Raises:
            AttackError: There is no such file.
            BundleError: It is the gradient of another model.
            BackendError: ONNX Runtime refuses the file.
        """
        self.bundle, self._key = bundle, gradient_file.key_of(bundle)
        where = str(file or gradient_file.path_of(self._key))
        content = gradient_file.read(bundle, file)
        self.file_sha256 = hashlib.sha256(content).hexdigest()
        self._threads, self._provider = threads or default_threads(), provider
        self._session = load_session(content, where, self._threads, provider)
        gradient_file.require_key(bundle, self._session.get_modelmeta().custom_metadata_map, where)
        batch = next(value.shape[0] for value in self._session.get_inputs() if value.name == IMAGES)
        self._fixed = batch if isinstance(batch, int) else 0
        width, height = self._key.size_px
        self._chunk = self._fixed or max(1, min(MOST_IMAGES, MOST_PIXELS // (width * height)))
        self._taken = {value.name for value in self._session.get_inputs()}

    @functools.cached_property
    def _model(self) -> OnnxRuntime:
        """The bundle's model; loaded when first asked; an attack with true labels never does that."""
        return OnnxRuntime(self.bundle, self._threads, gradient_file.model_of(self.bundle), self._provider)

    def evaluate(
        self, x: Array, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Answer an attack.

        Args:
            x: Images [N, 3, H, W] in [0, 1], of NumPy or another array library; computed in float32.
            criterion: What the attacker wants, of the N images: of boxes for a detector, of classes else.
            transform: Change applied to x before the model, with an `adjoint` that turns the gradient back.
            gradient: False leaves the gradient out; it costs no less.

        Returns:
            Loss [N], scores [N, K] (for boxes the share found, [N, 1]), and the gradient like x.

        Raises:
            AttackError: The criterion does not fit the images or the model, or the transform has no `adjoint`.
            BackendError: ONNX Runtime failed on the images.
        """
        self._check(x, criterion)
        answers = []
        for start in range(0, max(1, len(x)), self._chunk):
            rows = slice(start, start + self._chunk)
            answers.append(self._evaluate(x[rows], pick(criterion, rows), of_rows(transform, rows), gradient))
        if len(answers) == 1:
            return answers[0]
        xp = array_namespace(x)
        return ModelAnswer(
            xp.concat([answer.loss for answer in answers]),
            xp.concat([answer.scores for answer in answers]),
            xp.concat([required(answer) for answer in answers]) if gradient else None,
            answers[0].cost,
        )

    def output(self, x: Array) -> Floats:
        """Return the model's own output for images [N, 3, H, W] in [0, 1]."""
        images = np.ascontiguousarray(numbers(x), np.float32)
        starts = range(0, max(1, len(images)), self._chunk)
        spec = self.bundle.manifest.input
        parts = [self._model.infer(normalise(images[at : at + self._chunk], spec)) for at in starts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _evaluate(self, x: Array, criterion: Criterion, transform: Transform | None, gradient: bool) -> ModelAnswer:
        seen = transform(x) if transform else x
        images = np.ascontiguousarray(numbers(seen), np.float32)
        feed = _box_feed(criterion) if isinstance(criterion, BoxCriterion) else self._class_feed(of_classes(criterion))
        wanted = [self._key.output, LOSS, *([GRADIENT] if gradient else [])]
        output, loss, *slopes = self._run(wanted, {IMAGES: images, **feed})
        slope = like(slopes[0], x) if slopes else None
        if slope is not None and transform is not None:
            slope = _turned_back(transform, slope)
        return ModelAnswer(like(loss, x), like(self._scores(output, criterion), x), slope)

    def _class_feed(self, criterion: ClassCriterion) -> Feed:
        targeted = isinstance(criterion, Targeted)
        loss = criterion.loss
        if loss == "dlr_targeted" and not targeted:
            loss = "dlr"  # without a target it is the untargeted loss (objective.py)
        weights = np.zeros(len(self._key.losses), np.float32)
        weights[CLASS_LOSSES.index(loss)] = -1 if targeted and loss != "dlr_targeted" else 1
        labels, targets = criterion.classes, criterion.classes
        if isinstance(criterion, Targeted) and criterion.labels is not None and loss == "dlr_targeted":
            labels = criterion.labels
        return {WEIGHTS: weights, CLASSES: labels, TARGETS: targets}

    def _scores(self, output: Floats, criterion: Criterion) -> Floats:
        if not isinstance(criterion, BoxCriterion):
            return scores_of(output, "softmax" if self._key.activation == "sigmoid" else self._key.activation)
        decoded = box_targets.decode_rows(output, self._key)
        return box_targets.found_share(decoded, criterion.boxes_xyxy_px, criterion.labels)[:, None]

    def _run(self, wanted: list[str], feed: Feed) -> list[Floats]:
        """Run the file; one of a fixed batch is filled up with zeros."""
        count = len(feed[IMAGES])
        given = {name: value for name, value in feed.items() if name in self._taken}
        if self._fixed > count:
            given = {name: value if name == WEIGHTS else _filled(value, self._fixed) for name, value in given.items()}
        try:
            outputs = self._session.run(wanted, given)
        except Exception as error:  # ONNX Runtime raises its own untyped family; none of it is ours
            raise BackendError("ONNX Runtime failed on a batch of an attack", found=one_line(error)) from error
        return [np.asarray(output[:count], np.float32) for output in outputs]

    def _check(self, x: Array, criterion: Criterion) -> None:
        """Refuse a criterion of the other task, or one that does not fit the images."""
        width, height = self._key.size_px
        if tuple(x.shape[1:]) != (3, height, width):
            raise AttackError(
                f"these images do not fit the model of bundle {self.bundle.manifest.name}",
                found=f"shape {tuple(x.shape)}",
                expected=f"[N, 3, {height}, {width}]",
                cure="attack with a surrogate of the same input size",
            )
        if self._key.layout is None:
            check(of_classes(criterion), len(x), self._key.classes)
        elif isinstance(criterion, BoxCriterion):
            check_boxes(criterion, len(x))
            if criterion.loss == "mislabel" and self._key.layout == "xyxy_score_class":
                raise AttackError(
                    "mislabel needs scores of every class",
                    found=f"layout {self._key.layout}",
                    expected="another loss, such as vanish",
                )
        else:
            raise AttackError(
                "a class criterion for a detector", found=type(criterion).__name__, expected="BoxCriterion"
            )


def from_bundle(
    bundle: Bundle | Path | str, *, file: Path | None = None, threads: int = 0, provider: str = CPU
) -> OnnxAttackModel:
    """Make a bundle ready to be attacked without torch, by the gradient that `lisard build --gradient` has derived.

    Args:
        bundle: A bundle, or its folder or .zip.
        file: A gradient file to use instead of the one in the cache.
        threads: How many to compute with; 0: every core, at most 8.
        provider: Of ONNX Runtime.

    Returns:
        An attack model for every attack of this package: white-box to this bundle, gray-box to another one of the
        same classes and input size.

    Raises:
        AttackError: There is no gradient file.
        BundleError: The bundle is damaged, or the file is the gradient of another model.
        BackendError: ONNX Runtime refuses the file.

    Examples:
        >>> surrogate = attacks.from_bundle("models/traffic_signs")  # doctest: +SKIP
        >>> adversarial = attacks.PGD()(surrogate, images, attacks.Untargeted(labels))  # doctest: +SKIP
    """
    ready = bundle if isinstance(bundle, Bundle) else read_bundle(Path(bundle))
    return OnnxAttackModel(ready, file, threads, provider)


def require_surrogate(bundle: Bundle, surrogate: Bundle) -> None:
    """Refuse a surrogate whose images or answers mean something else than the bundle's.

    Raises:
        AttackError: Another task, other classes, another input size or order of channels, or the same model.
    """
    ours, theirs = bundle.manifest, surrogate.manifest
    for what, wanted, found in (
        ("task", ours.task, theirs.task),
        ("classes", ours.labels, theirs.labels),
        ("input size", (ours.input.width, ours.input.height), (theirs.input.width, theirs.input.height)),
        ("order of channels", ours.input.colour, theirs.input.colour),
    ):
        if wanted != found:
            shown = (f"{len(found)} classes" if what == "classes" else found) if len(wanted) != len(found) else found
            raise AttackError(
                f"bundle {theirs.name} cannot be the surrogate of {ours.name}: another {what}",
                found=shown,
                expected=f"{len(wanted)} classes" if what == "classes" and len(wanted) != len(found) else wanted,
                cure="take a model that was trained on the same classes and input size",
            )
    if gradient_file.model_of(bundle).sha256 == gradient_file.model_of(surrogate).sha256:
        raise AttackError(
            f"bundle {theirs.name} cannot be the surrogate of {ours.name}: it holds the same model",
            found=gradient_file.model_of(surrogate).sha256[:12],
            expected="other weights, since who has these knows the model (white-box)",
            cure="leave the surrogate out, or take a model of another training",
        )


def _box_feed(criterion: BoxCriterion) -> Feed:
    """True boxes with the labels that the attack wants to see, at least one for each image."""
    labels, boxes = criterion.labels, criterion.boxes_xyxy_px
    if criterion.targets is not None:
        labels = np.where(labels >= 0, criterion.targets, labels)
    if not labels.shape[1]:
        labels, boxes = np.full((len(labels), 1), NO_BOX), np.zeros((len(labels), 1, 4))
    weights = np.array(BOX_LOSSES[criterion.loss], np.float32)
    return {WEIGHTS: weights, BOXES: np.asarray(boxes, np.float32), LABELS: np.asarray(labels, np.int64)}


def _turned_back(transform: Transform, slope: Array) -> Array:
    adjoint = getattr(transform, "adjoint", None)
    if adjoint is None:
        raise AttackError(
            "this transform cannot be turned back",
            found=type(transform).__name__,
            expected="a transform with the method `adjoint`",
            cure="use from_torch, which differentiates any transform",
        )
    return adjoint(slope)


def _filled(rows: NDArray[np.generic], count: int) -> NDArray[np.generic]:
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])
