"""From a list of annotations to scenes: images decoded and letterboxed, every box checked against its image."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.frames import Pixels
from lisard_ros.inference.preprocess import fit, resize

from .. import files
from ..checks import refuse
from . import annotation
from .annotation import Annotated, Annotations, Box
from .scenes import IGNORED, NOTHING, Scenes
from .settings import DetectionData

EXPECTED = "boxes of known classes with an area, inside their images"
CURE = "mend the list, or set data.bad_boxes: drop in the recipe to leave these boxes out"


@dataclass(frozen=True, eq=False)
class Loaded:
    """One image in the input, its good boxes [m,4] in input pixels with labels [m], and the faults of the others."""

    pixels: Pixels
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    content: tuple[float, float, float, float]
    size_px: tuple[int, int]
    faults: tuple[str, ...]


def load(annotations: Annotations, classes: tuple[str, ...], spec: InputSpec, settings: DetectionData) -> Scenes:
    """Reads every image of a list; DataError names every missing image and, unless dropped, every bad box."""
    annotation.check_files(annotations)
    loaded = _load_all(annotations, classes, spec, every=not settings.wanted)
    faults = [fault for one in loaded for fault in one.faults]
    if faults and settings.bad_boxes == "refuse":
        raise refuse(annotations.source, faults, EXPECTED, CURE)
    if faults:
        tqdm.write(f"lisard: {annotations.source}: left out {len(faults)} boxes: {'; '.join(faults)}", file=sys.stderr)
    return _stack(loaded, tuple(image.file for image in annotations.images), classes)


def _load_all(annotations: Annotations, classes: tuple[str, ...], spec: InputSpec, every: bool) -> list[Loaded]:
    def one(image: Annotated) -> Loaded:
        entry = files.ListedImage(image.file, 0, "", (0, 0, 0, 0), image.width_height_px)  # a box: as it is stored
        pixels = files.decode_one(str(annotations.root / image.file), entry)
        return _lay(pixels, image, classes, spec, every)

    with ThreadPoolExecutor(min(files.MAX_THREADS, os.cpu_count() or 1)) as pool:
        rows = pool.map(one, annotations.images)
        count = len(annotations.images)
        title = f"reading {annotations.root.name}"
        return list(tqdm(rows, title, count, unit=" images", delay=files.QUIET_S, leave=False, disable=None))


def _lay(pixels: Pixels, image: Annotated, classes: tuple[str, ...], spec: InputSpec, every: bool) -> Loaded:
    """A decoded image in the input, with its boxes. every: a class that is not in `classes` is a fault."""
    height, width = pixels.shape[:2]
    good: list[Box] = []
    faults: list[str] = []
    for box in annotation.in_pixels(image, width, height):
        known = box.ignored or box.label in classes
        if not known and not every:
            continue  # the recipe does not ask for this class
        fault = annotation.fault_of(box, width, height) if known else f"of the unknown class {box.label!r}"
        if fault is None:
            good.append(annotation.clipped(box, width, height))
        elif not box.ignored:
            faults.append(f"{box.where} in {image.file}: {fault}")
    laid = fit(width, height, spec)
    corners = laid.to_input(np.array([box.xyxy for box in good], np.float64).reshape(-1, 4))
    (content,) = laid.to_input(np.array([[0, 0, width, height]], np.float64))
    labels = np.array([IGNORED if box.ignored else classes.index(box.label) for box in good], np.int64)
    left, top, right, bottom = content.tolist()
    return Loaded(
        resize(pixels, spec),
        corners.astype(np.float32),
        labels,
        (left, top, right, bottom),
        (width, height),
        tuple(faults),
    )


def _stack(loaded: Sequence[Loaded], paths: tuple[str, ...], classes: tuple[str, ...]) -> Scenes:
    most = max((len(one.labels) for one in loaded), default=0)
    boxes = np.zeros((len(loaded), most, 4), np.float32)
    labels = np.full((len(loaded), most), NOTHING, np.int64)
    for row, one in enumerate(loaded):
        boxes[row, : len(one.labels)], labels[row, : len(one.labels)] = one.boxes, one.labels
    images = torch.from_numpy(np.stack([one.pixels for one in loaded])).permute(0, 3, 1, 2)  # channels last
    return Scenes(
        images,
        torch.from_numpy(boxes),
        torch.from_numpy(labels),
        torch.tensor([one.content for one in loaded]),
        torch.tensor([one.size_px for one in loaded]),
        paths,
        classes,
    )
