"""The self test of anybody's bundle: reference images of a folder, with their classes or true boxes, and the suite.

Images are kept as the bundle's own preprocessing scales them, so that they are small and answered as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lisard_ros import injection
from lisard_ros.bundle.arrays import dump_arrays
from lisard_ros.bundle.manifest import InputSpec, Manifest, SelfTest, SelfTestCase, TrueBox
from lisard_ros.errors import BundleError, DataError
from lisard_ros.evaluation import references
from lisard_ros.evaluation.average_precision import TrueBoxes
from lisard_ros.evaluation.self_test_report import SelfTestReport
from lisard_ros.frames import Pixels
from lisard_ros.image_files import coco_images
from lisard_ros.image_files.coco import read_instances
from lisard_ros.image_files.folders import UNKNOWN, class_of, image_files, read_rgb
from lisard_ros.inference.preprocess import fit, resize

FRAMES_FILE = "self_test.npz"
DETECTION_IMAGES = 10  # as exported detectors have
PER_CLASS, LEAST_CLASSIFIED, MOST_CLASSIFIED = 2, 30, 200
DIGITS = 2  # of corners in pixels
SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class ProposedSelfTest:
    """The self test with limits of 0, the bytes of the file with its images, and what was left out of the folder."""

    test: SelfTest
    frames: bytes
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Labelled:
    """An image file. truth: the index of its class, or its true boxes in pixels of the file; holds: its classes."""

    path: Path
    truth: int | TrueBoxes
    holds: frozenset[int]


def class_names(folder: Path) -> tuple[str, ...] | None:
    """Return the classes that a folder of images names.

    Args:
        folder: Class folders, or images with a COCO list.

    Returns:
        The categories of the list in the order of their numbers, else the folders that hold images, sorted; None for
        images in one folder.
    """
    coco = coco_images.find_list(folder)
    if coco is not None:
        return tuple(one.name for one in sorted(read_instances(coco).categories, key=lambda one: one.id)) or None
    names = sorted({path.parent.name for path in image_files(folder) if path.parent != folder})
    return tuple(names) if len(names) > 1 else None


def some_images(folder: Path, count: int) -> list[Pixels]:
    """Read a few images below a folder, spread evenly over its files, as uint8 RGB [h, w, 3]."""
    files = image_files(folder)
    return [read_rgb(files[row]) for row in references.spread(np.arange(len(files)), count)]


def choose(folder: Path, manifest: Manifest, count: int = 0) -> ProposedSelfTest:
    """Make a self test of the images of a folder.

    Args:
        folder: For a classifier folders that are named as the labels (or their indices); for a detector images with a
            COCO list.
        manifest: The bundle that will hold the self test.
        count: How many images; 0 means two for each class (at least 30, at most 200), or 10 for a detector.

    Returns:
        The self test; its limits are not measured yet.

    Raises:
        DataError: The folder holds no images of the bundle's classes.
    """
    detects = manifest.runtime_task.finds_boxes
    labelled, notes = _with_boxes(folder, manifest.labels) if detects else _with_classes(folder, manifest.labels)
    classes = len(manifest.labels)
    usual = DETECTION_IMAGES if detects else min(max(PER_CLASS * classes, LEAST_CLASSIFIED), MOST_CLASSIFIED)
    holds = np.array([[number in one.holds for number in range(classes)] for one in labelled], bool)
    chosen = [labelled[row] for row in references.of_each_class(holds, count or usual)]
    frames, truths = [], []
    for one in chosen:
        rgb = read_rgb(one.path)
        frames.append(resize(rgb, manifest.input))
        truths.append(_truth(one.truth, rgb, manifest.input))
    if detects and not any(truths):
        raise _nothing_there(folder, "no box that is visible", manifest.labels)
    suite = tuple(SelfTestCase(injection=name, min_accuracy=0.0) for name in references.SUITE)
    test = SelfTest(frames=FRAMES_FILE, labels=tuple(truths), suite=suite)
    return ProposedSelfTest(test, dump_arrays({"frames": np.stack(frames)}), notes)


def require_right_answers(measured: SelfTestReport, folder: Path) -> None:
    """Refuse a self test in which the bundle is right about nothing: its limits would be 0 and always hold.

    Raises:
        BundleError: No clean image has the right answer.
    """
    clean = next(case for case in measured.cases if case.injection == injection.CLEAN)
    if clean.accuracy.n and not clean.accuracy.hits:
        what = "classes" if clean.counted == "images" else "true boxes"
        raise BundleError(
            f"the bundle is right about none of the images in {folder}",
            found=f"0 of {clean.accuracy.n} {what}" + (f", {clean.false_boxes} false boxes" * bool(clean.false_boxes)),
            expected="some right answers",
            cure="check --colour, --mean, --std, --resize, --layout, --score-threshold and the order of --labels",
        )


def _with_classes(folder: Path, labels: Sequence[str]) -> tuple[list[_Labelled], tuple[str, ...]]:
    files = image_files(folder)
    classes = [class_of(path, labels) for path in files]
    strange = sorted(
        {path.parent.name for path, class_index in zip(files, classes, strict=True) if class_index == UNKNOWN}
    )
    labelled = [
        _Labelled(path, class_index, frozenset([class_index]))
        for path, class_index in zip(files, classes, strict=True)
        if class_index != UNKNOWN
    ]
    shown = ", ".join(strange[:SHOWN]) + (f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else "")
    if not labelled:
        raise DataError(
            f"no image of the bundle's classes in {folder}",
            found=f"folders {shown}",
            expected="folders named " + ", ".join(labels[:SHOWN]) + (", ..." if len(labels) > SHOWN else ""),
            cure="name each folder after a label or its index, or give --labels in the order of the model",
        )
    left_out = len(files) - len(labelled)
    note = f"{left_out} images are left out, because their folders are no labels: {shown}"
    return labelled, (note,) if left_out else ()


def _with_boxes(folder: Path, labels: Sequence[str]) -> tuple[list[_Labelled], tuple[str, ...]]:
    """Images with true boxes; a self test has no regions that count neither way, so images with such are left out."""
    coco = coco_images.find_list(folder)
    if coco is None:
        raise DataError(
            f"no true boxes in {folder}",
            found="no list of boxes",
            expected="annotations.json (COCO instances) beside the images, or annotations/instances_NAME.json",
            cure="write the boxes of some images as COCO instances",
        )
    listed = coco_images.read(coco, labels)
    plain = [one for one in listed if not len(one.boxes.ignored_xyxy_px)]
    labelled = [_Labelled(one.path, one.boxes, frozenset(one.boxes.classes.tolist())) for one in plain]
    if not any(one.holds for one in labelled):
        raise _nothing_there(folder, f"{len(listed)} images without boxes", labels)
    left_out = len(listed) - len(plain)
    return labelled, (f"{left_out} images are left out, because they hold crowds",) if left_out else ()


def _nothing_there(folder: Path, found: str, labels: Sequence[str]) -> DataError:
    return DataError(
        f"no true boxes in {folder}",
        found=found,
        expected="boxes of " + ", ".join(labels[:SHOWN]) + (", ..." if len(labels) > SHOWN else ""),
        cure="take images that show the model's classes",
    )


def _truth(truth: int | TrueBoxes, rgb: Pixels, spec: InputSpec) -> int | tuple[TrueBox, ...]:
    """What the scaled image shows: boxes are moved with it, and cut at its border."""
    if isinstance(truth, int):
        return truth
    moved: NDArray[np.float64] = fit(rgb.shape[1], rgb.shape[0], spec).to_input(truth.boxes_xyxy_px)
    limits = np.array([spec.width, spec.height] * 2, np.float64)
    corners = np.clip(moved, 0, limits).round(DIGITS)
    visible = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    return tuple(
        TrueBox(label=int(label), box_xyxy_px=(box[0], box[1], box[2], box[3]))
        for label, box in zip(truth.classes[visible], corners[visible].tolist(), strict=True)
    )
