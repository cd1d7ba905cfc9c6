"""Two backends on the same real pictures, clean and under the bundle's stored perturbations: what does one lose?

A picture's score is 1 for the right class, 0 for another. Without labels, and for detectors, the reference's own clean
answers are the truth; a detector's score is the F1 of its boxes against those (same class, IoU of at least 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lisard_ros import postprocess
from lisard_ros.backends import Backend
from lisard_ros.bundle import Bundle
from lisard_ros.errors import DataError
from lisard_ros.injection import stage
from lisard_ros.postprocess import Boxes
from lisard_ros.preprocess import normalise, prepare
from lisard_ros.scoring import match, named
from lisard_ros.statistics import Interval, paired_difference

from .pictures import PictureSet, keys

BATCH = 32
SHOWN_SCORE = 0.3  # boxes below it are seldom used; they would drown the others in noise
BOOTSTRAP_SEED = 0
Outputs = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Row:
    """One injection: mean scores of both on the n pictures it applied to, and the paired loss in percentage points."""

    injection: str
    knowledge: str
    n: int
    not_applicable: int
    reference: float
    judged: float
    loss_points: Interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything measured. agreement: share of all answers, clean and attacked, with the same class (or boxes)."""

    reference: str
    judged: str
    pictures: int
    pictures_sha256: str
    labelled: bool
    max_abs_difference: float
    agreement: float
    rows: tuple[Row, ...]

    def row(self, injection: str) -> Row:
        """Return the row of one injection."""
        return next(row for row in self.rows if row.injection == injection)


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    largest: float
    same: float
    answers: int


def injections(bundle: Bundle) -> tuple[str, ...]:
    """Return what every comparison runs: clean pictures, and each stored perturbation of the bundle."""
    return (stage.CLEAN, *(p.name for p in bundle.manifest.perturbations))


def compare(
    bundle: Bundle, reference: Backend, judged: Backend, pictures: PictureSet, names: Sequence[str] = ()
) -> Comparison:
    """Run both backends on all pictures under each injection (default: `injections`); DataError without pictures."""
    if not len(pictures):
        raise DataError("no pictures to compare on", found="an empty set", expected="real pictures",
                        cure="the bundle has no self test: give --pictures FOLDER")
    spec = bundle.manifest.input
    x = prepare([frame.rgb() for frame in pictures.frames], spec)
    own = keys(pictures)
    truth = _truth(bundle, infer(reference, normalise(x, spec)), pictures)
    rows, sums = [], []
    for name in names or injections(bundle):
        injected = stage.make(bundle, name).apply(x, own)
        attacked = normalise(injected.x[injected.applied], spec)
        outputs = infer(reference, attacked), infer(judged, attacked)
        rows.append(_row(bundle, name, injected.applied, outputs, truth, pictures))
        sums.append(_sums(bundle, *outputs))
    answers = sum(part.answers for part in sums)
    return Comparison(
        reference.description, judged.description, len(pictures), pictures.sha256,
        pictures.labelled and bundle.manifest.task == "classification", max(part.largest for part in sums),
        sum(part.same for part in sums) / max(answers, 1), tuple(rows),
    )


def infer(backend: Backend, x: NDArray[np.float32]) -> Outputs:
    """Run a backend in batches on float32 [N, 3, H, W]; an empty array for N = 0."""
    parts = [backend.infer(x[start : start + BATCH]) for start in range(0, len(x), BATCH)]
    return np.concatenate(parts) if parts else np.empty((0, 1), np.float32)


def _row(
    bundle: Bundle, name: str, applied: NDArray[np.bool_], outputs: tuple[Outputs, Outputs], truth: _Truth,
    pictures: PictureSet,
) -> Row:
    places = np.flatnonzero(applied)
    ours, theirs = (truth.scores(bundle, output, places) for output in outputs)
    groups = [pictures.groups[place] for place in places]
    loss = paired_difference(ours, theirs, groups, BOOTSTRAP_SEED) if len(places) else Interval(0.0, 0.0, 0.0)
    points = Interval(100 * loss.value, 100 * loss.low, 100 * loss.high)
    means = [float(part.mean()) if len(places) else float("nan") for part in (ours, theirs)]
    knowledge = stage.make(bundle, name).knowledge
    return Row(name, knowledge, len(places), len(applied) - len(places), means[0], means[1], points)


def _sums(bundle: Bundle, reference: Outputs, judged: Outputs) -> _Sums:
    if not len(reference):
        return _Sums(0.0, 0.0, 0)
    postprocess.require_finite(judged)
    largest = float(np.abs(reference - judged).max(initial=0))
    truth = _truth_of(bundle, reference)
    return _Sums(largest, float(truth.scores(bundle, judged, np.arange(len(judged))).sum()), len(judged))


class _Truth(Protocol):
    """What each picture's answer is held against."""

    def scores(self, bundle: Bundle, outputs: Outputs, places: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the score in [0, 1] of each answer; `places` says which pictures they are for."""


class _Classes:
    def __init__(self, classes: NDArray[np.intp]) -> None:
        self._classes = classes

    def scores(self, bundle: Bundle, outputs: Outputs, places: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return 1 where the highest output is the picture's class."""
        if not len(places):
            return np.empty(0)
        return np.asarray(outputs.argmax(axis=1) == self._classes[places], np.float64)


class _Detections:
    def __init__(self, boxes: Sequence[Boxes]) -> None:
        self._boxes = boxes

    def scores(self, bundle: Bundle, outputs: Outputs, places: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the F1 of the boxes found in each picture."""
        found = [_detect(bundle, output) for output in outputs] if len(places) else []
        pairs = zip(found, places, strict=True)
        return np.array([f1(boxes, self._boxes[place]) for boxes, place in pairs], np.float64)


def _truth(bundle: Bundle, clean: Outputs, pictures: PictureSet) -> _Truth:
    if bundle.manifest.task == "classification" and pictures.labelled:
        return _Classes(pictures.labels)
    return _truth_of(bundle, clean)


def _truth_of(bundle: Bundle, outputs: Outputs) -> _Truth:
    if bundle.manifest.task == "classification":
        return _Classes(outputs.argmax(axis=1))
    return _Detections([_detect(bundle, output) for output in outputs])


def _detect(bundle: Bundle, output: NDArray[np.float32]) -> Boxes:
    decode = bundle.manifest.decode
    assert decode is not None  # a detection bundle without it is refused when it is read
    return postprocess.detect(output, decode, bundle.manifest.output.activation, SHOWN_SCORE)


def f1(found: Boxes, truth: Boxes) -> float:
    """Return the harmonic mean of precision and recall; 1 when both are empty. Boxes are matched as in `scoring`."""
    if not len(found.scores) and not len(truth.scores):
        return 1.0
    matched = sum(place is not None for place in match(named(found), named(truth)))
    return 2 * matched / (len(found.scores) + len(truth.scores))
