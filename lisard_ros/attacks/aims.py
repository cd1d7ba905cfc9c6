"""What an attack on the vehicle drives an image away from: its true answer, or the model's clean one.

The truth is known for the bundle's reference images and for those that somebody has labelled. Both are recognised by
the hash of their pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lisard_ros.attacks.box_targets import FOUND_SCORE
from lisard_ros.attacks.model import Array, AttackModel, BoxCriterion, Criterion, Untargeted
from lisard_ros.attacks.registry import AttackEntry
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.arrays import reference_images
from lisard_ros.bundle.manifest import InputSpec, Manifest, TrueBox
from lisard_ros.errors import AttackError
from lisard_ros.frames import pixels_sha256
from lisard_ros.inference.postprocess import detect
from lisard_ros.inference.preprocess import fit

Corners = NDArray[np.float64]


class AnsweringModel(AttackModel, Protocol):
    """An attack model that can also be asked what it answers."""

    bundle: Bundle

    def output(self, x: Array) -> NDArray[np.float32]:
        """Return the raw output for images [N, 3, H, W] in [0, 1]."""


# The class of an image, or corners [M, 4] in pixels of the model's input and classes [M] of its objects.
Answer = int | tuple[Corners, NDArray[np.int64]]


class KnownTruths:
    """What images show, by the hash of their pixels. told: of images besides those that were known at first."""

    def __init__(self, own: Mapping[str, Answer]) -> None:
        """own: known at first."""
        self._own = own
        self.told: Mapping[str, Answer] = {}

    def of(self, keys: Sequence[str]) -> list[Answer | None]:
        """Return the true answer to each image, None where it is not known."""
        return [self.told.get(key, self._own.get(key)) for key in keys]


def truths_of(bundle: Bundle) -> Mapping[str, Answer]:
    """Return the true answers of a bundle's reference images, by the hash of their pixels; none without a self test."""
    test = bundle.manifest.self_test
    if test is None:
        return {}
    return answers_of(reference_images(bundle, test), test.labels, bundle.manifest.input)


def answers_of(
    images: Iterable[NDArray[np.uint8]], truths: Iterable[int | Sequence[TrueBox]], spec: InputSpec
) -> dict[str, Answer]:
    """Return the true answers to images, RGB uint8 [H, W, 3], by the hash of their pixels."""
    return {
        pixels_sha256(image): truth if isinstance(truth, int) else _of_input(truth, image, spec)
        for image, truth in zip(images, truths, strict=True)
    }


def _of_input(boxes: Sequence[TrueBox], image: NDArray[np.uint8], spec: InputSpec) -> Answer:
    corners = np.array([box.box_xyxy_px for box in boxes], np.float64).reshape(-1, 4)
    laid = fit(image.shape[1], image.shape[0], spec)
    return laid.to_input(corners), np.array([box.label for box in boxes], np.int64)


def criterion_for(
    entry: AttackEntry, model: AnsweringModel, x: NDArray[np.float32], truths: Sequence[Answer | None]
) -> Criterion:
    """Return what an attack wants of images.

    Args:
        entry: The attack.
        model: Gives the clean answers where no truth is known.
        x: Clean images [N, 3, H, W] in [0, 1].
        truths: The true answer of each image, or None.

    Raises:
        AttackError: Mislabelling where there is one class.
    """
    manifest = model.bundle.manifest
    answers = list(truths)
    unknown = [row for row, answer in enumerate(answers) if answer is None]
    if unknown:
        for row, output in zip(unknown, model.output(x[unknown]), strict=True):
            answers[row] = clean_answer(output, manifest)
    if manifest.decode is None:
        return Untargeted(np.array(answers, np.int64), entry.class_loss)
    boxes = [answer for answer in answers if isinstance(answer, tuple)]
    most = max(1, *(len(labels) for _, labels in boxes))
    corners, classes = np.zeros((len(boxes), most, 4)), np.full((len(boxes), most), -1, np.int64)
    for row, (own, labels) in enumerate(boxes):
        corners[row, : len(labels)], classes[row, : len(labels)] = own, labels
    if entry.box_loss != "mislabel":
        return BoxCriterion(corners, classes, entry.box_loss)
    if len(manifest.labels) == 1:
        raise AttackError("mislabel has no other class to show", found="1 class", expected="2 or more")
    return BoxCriterion(corners, classes, "mislabel", (classes + 1) % len(manifest.labels))


def clean_answer(output: NDArray[np.float32], manifest: Manifest) -> Answer:
    """Return what a model answers to one image: the class that it prefers, or the boxes that it finds."""
    if manifest.decode is None:
        return int(output.argmax())
    size_px, classes = (manifest.input.width, manifest.input.height), len(manifest.labels)
    found = detect(output, manifest.decode, manifest.output.activation, FOUND_SCORE, size_px=size_px, classes=classes)
    return found.boxes_xyxy_px, found.classes.astype(np.int64)
