"""Images of a folder with their true boxes, from the COCO list (annotations.json) that lies in it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lisard_ros.errors import DataError
from lisard_ros.evaluation.average_precision import TrueBoxes
from lisard_ros.frames import BoxXyxyPx
from lisard_ros.image_files.coco import Annotation, Instances, list_in, read_instances

SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """An image file and what it shows, in its pixels."""

    path: Path
    boxes: TrueBoxes


def read(path: Path, labels: Sequence[str]) -> tuple[Listed, ...]:
    """Read the images of a list, in the order of their files; crowds become ignored regions.

    DataError, with the first faults, for another class list, boxes that lead nowhere or have no area, missing files.
    """
    instances = read_instances(path)
    names = {category.id: category.name for category in instances.categories}
    places = _places(path)
    files = {image.id: _file(places, image.file_name) for image in instances.images}
    faults = list(_faults(instances, names, labels, files))
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(
            f"list {path}",
            found="; ".join(faults[:SHOWN]) + more,
            expected=f"images of this folder, boxes of {', '.join(labels)}",
            cure="correct the list, or take images of the model's own classes",
        )
    by_image: dict[int, list[Annotation]] = defaultdict(list)
    for annotation in instances.annotations:
        by_image[annotation.image_id].append(annotation)
    indices = {number: list(labels).index(name) for number, name in names.items() if name in labels}
    listed = [Listed(file, _boxes(by_image[number], indices)) for number, file in files.items() if file is not None]
    return tuple(sorted(listed, key=lambda one: one.path))


def find_list(folder: Path) -> Path | None:
    """Return the list of a folder: beside the images, or in `annotations/` as COCO has it; None where there is none.

    DataError where `annotations/` holds several.
    """
    beside = list_in(folder)
    if beside is not None:
        return beside
    several = sorted((folder / "annotations").glob("instances_*.json"))
    if len(several) > 1:
        raise DataError(
            f"folder {folder}",
            found=", ".join(f"annotations/{path.name}" for path in several),
            expected="one list",
            cure="copy the one that is meant to annotations.json beside its images",
        )
    return several[0] if several else None


def _places(path: Path) -> list[Path]:
    """Where the images of a list may lie; a list in `annotations/` names their folder: instances_val2017 -> val2017."""
    folder = path.parent
    places = [folder / "images", folder]
    if folder.name == "annotations":
        name = path.stem.removeprefix("instances_")
        places += [folder.parent / name, folder.parent / "images" / name, folder.parent / "images", folder.parent]
    return places


def _file(places: Sequence[Path], name: str) -> Path | None:
    """The file of a listed name below one of the places; None where there is none, or where the name leads out."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    return next((place / name for place in places if (place / name).is_file()), None)


def _faults(
    instances: Instances, names: dict[int, str], labels: Sequence[str], files: dict[int, Path | None]
) -> Iterator[str]:
    if not instances.images:
        yield "no image"
    if len(files) < len(instances.images):
        yield "an image number twice"
    yield from (f"no image {image.file_name}" for image in instances.images if files[image.id] is None)
    used = {annotation.category_id for annotation in instances.annotations}
    for number in sorted(used):
        if names.get(number) not in labels:
            yield f"boxes of the class {names.get(number, f'number {number}, which is not listed')}"
    for annotation in instances.annotations:
        if annotation.image_id not in files:
            yield f"annotation {annotation.id} in image number {annotation.image_id}, which is not listed"
        if not (all(map(math.isfinite, annotation.bbox)) and min(annotation.bbox[2:]) > 0):
            yield f"annotation {annotation.id} without area"


def _boxes(annotations: Sequence[Annotation], indices: dict[int, int]) -> TrueBoxes:
    single = [annotation for annotation in annotations if not annotation.iscrowd]
    classes = np.array([indices[annotation.category_id] for annotation in single], np.int64)
    crowds = [annotation.corners_xyxy_px for annotation in annotations if annotation.iscrowd]
    return TrueBoxes(_rows([annotation.corners_xyxy_px for annotation in single]), classes, _rows(crowds))


def _rows(corners: Sequence[BoxXyxyPx]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array(corners, np.float64).reshape(-1, 4)
