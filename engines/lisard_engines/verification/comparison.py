"""Two backends on the same real images, clean and under the bundle's stored perturbations: what does one lose?

Classifiers are compared in accuracy, detectors in AP50. Where nobody says what every image shows, the
reference's own clean answers are the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from lisard_ros import injection as stage
from lisard_ros.backends import Backend
from lisard_ros.bundle import Bundle
from lisard_ros.errors import DataError
from lisard_ros.evaluation.agreement import agreement, shown_boxes
from lisard_ros.evaluation.average_precision import FAINTEST_SCORE, TrueBoxes, ap50s
from lisard_ros.evaluation.average_precision import match as match_all
from lisard_ros.evaluation.statistics import BOOTSTRAP_ROUNDS, Interval, interval_of, paired_difference, resamples
from lisard_ros.frames import Frame
from lisard_ros.inference import postprocess
from lisard_ros.inference.preprocess import fit, normalise, prepare

from ..image_sets import ImageSet, keys

BATCH = 32
BOOTSTRAP_SEED = 0
Metric = Literal["accuracy", "AP50"]
Outputs = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class InjectionComparison:
    """One injection: accuracy or AP50 of both on the n images it applied to, and the paired loss in points."""

    injection: str
    knowledge: str
    n: int
    not_applicable: int
    reference: float
    judged: float
    loss_points: Interval


@dataclass(frozen=True, slots=True)
class EngineComparison:
    """Everything measured. labelled: whether the truth is what the images show, not what the reference said of them.

    agreement: share of all answers, clean and attacked, with the same class (or boxes).
    """

    reference: str
    judged: str
    pictures: int
    pictures_sha256: str
    metric: Metric
    labelled: bool
    max_abs_difference: float
    agreement: float
    rows: tuple[InjectionComparison, ...]

    def row(self, injection: str) -> InjectionComparison:
        """Return the row of one injection."""
        return next(row for row in self.rows if row.injection == injection)


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    largest: float
    same: float
    answers: int


def injections(bundle: Bundle) -> tuple[str, ...]:
    """Return what every comparison runs: clean images, and each stored perturbation of the bundle."""
    return (stage.CLEAN, *(p.name for p in bundle.manifest.perturbations))


def compare(
    bundle: Bundle, reference: Backend, judged: Backend, images: ImageSet, names: Sequence[str] = ()
) -> EngineComparison:
    """Run both backends on all images under each injection (default: `injections`); DataError without images."""
    require_images(images)
    spec = bundle.manifest.input
    x = prepare([frame.rgb() for frame in images.frames], spec)
    image_keys = keys(images)
    truth = _truth(bundle, infer(reference, normalise(x, spec)), images)
    rows, sums = [], []
    for name in names or injections(bundle):
        injected = stage.make(bundle, name).apply(x, image_keys)
        attacked = normalise(injected.x[injected.applied], spec)
        outputs = infer(reference, attacked), infer(judged, attacked)
        rows.append(_row(bundle, name, injected.applied, outputs, truth, images))
        sums.append(_sums(bundle, *outputs))
    answers = sum(part.answers for part in sums)
    return EngineComparison(
        reference.description,
        judged.description,
        len(images),
        images.sha256,
        truth.metric,
        images.labelled if truth.metric == "accuracy" else images.boxed,
        max(part.largest for part in sums),
        sum(part.same for part in sums) / max(answers, 1),
        tuple(rows),
    )


def require_images(images: ImageSet) -> None:
    """DataError when there is nothing that a comparison could be made on."""
    if not len(images):
        raise DataError(
            "no images to compare on",
            found="an empty set",
            expected="real images",
            cure="the bundle has no self test: give --images FOLDER",
        )


def infer(backend: Backend, x: NDArray[np.float32]) -> Outputs:
    """Run a backend in batches on float32 [N, 3, H, W]; an empty array for N = 0."""
    parts = [backend.infer(x[start : start + BATCH]) for start in range(0, len(x), BATCH)]
    return np.concatenate(parts) if parts else np.empty((0, 1), np.float32)


def _row(
    bundle: Bundle,
    name: str,
    applied: NDArray[np.bool_],
    outputs: tuple[Outputs, Outputs],
    truth: _Truth,
    images: ImageSet,
) -> InjectionComparison:
    places = np.flatnonzero(applied)
    loss = truth.loss(*outputs, places, [images.groups[place] for place in places]) if len(places) else _NOTHING
    points = Interval(100 * loss.lost.value, 100 * loss.lost.low, 100 * loss.lost.high)
    knowledge = stage.make(bundle, name).knowledge
    return InjectionComparison(
        name, knowledge, len(places), len(applied) - len(places), loss.reference, loss.judged, points
    )


def _sums(bundle: Bundle, reference: Outputs, judged: Outputs) -> _Sums:
    if not len(reference):
        return _Sums(0.0, 0.0, 0)
    postprocess.require_finite(judged)
    largest = float(np.abs(reference - judged).max(initial=0))
    return _Sums(largest, float(agreement(bundle, reference, judged).sum()), len(judged))


@dataclass(frozen=True, slots=True)
class _Loss:
    """Scores of both in [0, 1], and their paired difference with its interval over whole groups."""

    reference: float
    judged: float
    lost: Interval


_NOTHING = _Loss(float("nan"), float("nan"), Interval(0.0, 0.0, 0.0))


class _Truth(Protocol):
    """What answers are compared with. metric: what is measured by it."""

    metric: Metric

    def loss(self, reference: Outputs, judged: Outputs, places: NDArray[np.intp], groups: Sequence[str]) -> _Loss:
        """Hold the answers to the images at `places` against what they show."""


class _Classes:
    metric: Metric = "accuracy"

    def __init__(self, classes: NDArray[np.intp]) -> None:
        self._classes = classes

    def loss(self, reference: Outputs, judged: Outputs, places: NDArray[np.intp], groups: Sequence[str]) -> _Loss:
        """Share of right classes."""
        classes = self._classes[places]
        ours, theirs = ((out.argmax(axis=1) == classes).astype(np.float64) for out in (reference, judged))
        lost = paired_difference(ours, theirs, groups, BOOTSTRAP_SEED)
        return _Loss(float(ours.mean()), float(theirs.mean()), lost)


class _Boxed:
    metric: Metric = "AP50"

    def __init__(self, bundle: Bundle, truths: Sequence[TrueBoxes]) -> None:
        self._bundle, self._truths = bundle, truths

    def loss(self, reference: Outputs, judged: Outputs, places: NDArray[np.intp], groups: Sequence[str]) -> _Loss:
        """AP50 over the images; nothing can be lost where none of them shows anything."""
        truths = [self._truths[place] for place in places]
        if not any(len(truth.classes) for truth in truths):
            return _NOTHING
        weights = np.concatenate([np.ones((1, len(places))), resamples(groups, BOOTSTRAP_ROUNDS, BOOTSTRAP_SEED)])
        ours, theirs = (self._ap50s(out, truths, weights) for out in (reference, judged))
        return _Loss(float(ours[0]), float(theirs[0]), interval_of(ours - theirs))

    def _ap50s(
        self, outputs: Outputs, truths: Sequence[TrueBoxes], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        manifest = self._bundle.manifest
        assert manifest.decode is not None  # a detection bundle without it is refused when it is read
        decode = msgspec.structs.replace(manifest.decode, score_threshold=FAINTEST_SCORE)  # however faint, for AP
        size_px, classes = (manifest.input.width, manifest.input.height), len(manifest.labels)
        ranked = [
            postprocess.detect(output, decode, manifest.output.activation, 0.0, size_px=size_px, classes=classes)
            for output in outputs
        ]
        return ap50s(match_all(ranked, truths, classes), weights)


def _truth(bundle: Bundle, clean: Outputs, images: ImageSet) -> _Truth:
    """What the images show, or what the reference says of them."""
    if not bundle.manifest.runtime_task.finds_boxes:
        return _Classes(images.labels if images.labelled else clean.argmax(axis=1))
    truths = _known(bundle, images) or [
        TrueBoxes(boxes.boxes_xyxy_px, boxes.classes.astype(np.int64)) for boxes in shown_boxes(bundle, clean)
    ]
    if not any(len(truth.classes) for truth in truths):
        raise DataError(
            "no boxes to compare on",
            found=f"{len(truths)} images that show nothing of the labels",
            expected="images with objects",
            cure="give --images FOLDER with annotations.json (COCO)",
        )
    return _Boxed(bundle, truths)


def _known(bundle: Bundle, images: ImageSet) -> list[TrueBoxes]:
    """The true boxes of all images; empty where those of one are not known."""
    known = [boxes for boxes in images.boxes if boxes is not None]
    if not images.boxed:
        return []
    return [_on_input(bundle, boxes, frame) for boxes, frame in zip(known, images.frames, strict=True)]


def _on_input(bundle: Bundle, true: TrueBoxes, frame: Frame) -> TrueBoxes:
    """True boxes of a frame as they lie on the model's input."""
    laid = fit(frame.width_px, frame.height_px, bundle.manifest.input)
    boxes, ignored = (laid.to_input(corners) for corners in (true.boxes_xyxy_px, true.ignored_xyxy_px))
    return TrueBoxes(boxes, true.classes, ignored)
