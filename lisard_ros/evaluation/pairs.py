"""Answers beside what they are compared with: true labels, or the clean answer to the same image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lisard_ros.evaluation.average_precision import hits_by_iou
from lisard_ros.evaluation.scoring import Named, match
from lisard_ros.frames import BoxXyxyPx, Result
from lisard_ros.inference.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Label:
    """A class that something has: `image` of the frame, or for a detector the object at `box_xyxy_px`.

    track: id of its track, '' where nothing is tracked.
    """

    image: int
    box_xyxy_px: BoxXyxyPx | None
    name: str
    score: float = 1.0
    track: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """An answer and its reference. answer None: missed; reference None: nothing is known there, or nothing is there (a
    detector's false box). right: whether both agree, None where there is no reference.
    """

    answer: Label | None
    reference: Label | None
    right: bool | None


def answered(result: Result, detector: bool, tracked: bool = False) -> tuple[Label, ...]:
    """Return the first hypothesis of the frame or of each of its boxes. tracked: ids are those of tracks."""
    if result.detections is not None:
        items = enumerate(result.detections.items)
        return tuple(
            Label(
                0 if detector else n,
                d.box_xyxy_px,
                d.hypotheses[0].label,
                d.hypotheses[0].score,
                d.id if tracked else "",
            )
            for n, d in items
            if d.hypotheses
        )
    hypotheses = result.classification.hypotheses if result.classification else ()
    return (Label(0, None, hypotheses[0].label, hypotheses[0].score),) if hypotheses else ()


def compared(references: Sequence[Label], answers: Sequence[Label], pipeline: Pipeline) -> tuple[Pair, ...]:
    """Compare answers with references: a detector's by place and class, others image by image."""
    groups = pipeline.bundle.manifest.roi_groups
    if not pipeline.finds_boxes:
        by_image = {answer.image: answer for answer in answers}
        pairs = []
        for reference in references:
            answer = by_image.get(reference.image)
            right = answer is not None and _fits(answer.name, reference.name, groups)
            pairs.append(Pair(answer, reference, right))
        return tuple(pairs)
    known = [label for label in references if label.box_xyxy_px is not None]
    places = match(
        [_named(answer, known, groups) for answer in answers],
        [Named(label.box_xyxy_px, label.name) for label in known if label.box_xyxy_px is not None],
    )
    found = [
        Pair(answer, None if place is None else known[place], place is not None)
        for answer, place in zip(answers, places, strict=True)
    ]
    return (*found, *(Pair(None, label, False) for number, label in enumerate(known) if number not in places))


@dataclass(frozen=True, slots=True)
class RankedAnswers:
    """A detector's boxes in one frame, also those too faint for the answer. hits: as of `hits_by_iou`."""

    names: tuple[str, ...]
    scores: tuple[float, ...]
    hits: tuple[int, ...]


def ranked(result: Result, references: Sequence[Label], pipeline: Pipeline) -> RankedAnswers:
    """Match all boxes of an answer with the recorded ones, for AP."""
    groups = pipeline.bundle.manifest.roi_groups
    found = result.detections.items if result.detections is not None else ()
    items = [item for item in (*found, *result.faint) if item.hypotheses]
    labels = [Label(0, item.box_xyxy_px, item.hypotheses[0].label, item.hypotheses[0].score) for item in items]
    known = [label for label in references if label.box_xyxy_px is not None]
    answers = [_named(label, known, groups) for label in labels]
    wanted = [Named(label.box_xyxy_px, label.name) for label in known if label.box_xyxy_px is not None]
    names = tuple(str(answer.name) for answer in answers)
    return RankedAnswers(names, tuple(one.score for one in answers), tuple(hits_by_iou(answers, wanted)))


def _named(answer: Label, references: Sequence[Label], groups: Mapping[str, Sequence[str]]) -> Named:
    """An answer under the name of the reference that it may be: a finer class counts as its group."""
    names = (reference.name for reference in references)
    name = next((name for name in names if _fits(answer.name, name, groups)), answer.name)
    assert answer.box_xyxy_px is not None  # a detector's answers have boxes
    return Named(answer.box_xyxy_px, name, answer.score)


def _fits(name: str, wanted: str, groups: Mapping[str, Sequence[str]]) -> bool:
    return name == wanted or name in groups.get(wanted, ())
