"""From the recipe section `data:` of a detector to scenes: training and validation parts, or the test part."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lisard_ros.errors import DataError, unknown_name

from .. import checks, reader
from .annotation import AnnotationReader, Annotations
from .coco import Coco
from .kitti import Kitti
from .loading import load as load_scenes
from .scenes import Scenes, SceneSplit, input_spec
from .settings import DetectionData
from .voc import Voc
from .yolo import Yolo

# In the order in which `auto` asks them.
READERS: dict[str, AnnotationReader] = {"coco": Coco(), "yolo": Yolo(), "voc": Voc(), "kitti": Kitti()}
EXPECTED_LISTS = "images with lists of boxes: COCO, YOLO, Pascal VOC or KITTI"
FEWEST_IMAGES = 2


def load(settings: DetectionData, folder: str | None) -> SceneSplit:
    """Training and validation scenes of the folder (empty: the recipe's, then LISARD_DATA).

    Validation images are the data set's own where it has some, else a share of the images drawn by split_seed.
    """
    root, kind = find(settings, folder)
    training = kind.read(root, "train")
    if training is None or not training.images:
        raise DataError(f"detection data {root}", found="no images of train", expected=kind.expected)
    classes = chosen(training, settings)
    held_back = kind.read(root, "val")
    scenes = _scenes(training, classes, settings)
    empty = [name for name, count in zip(scenes.classes, scenes.counts(), strict=True) if not count]
    if empty:  # a class without a box cannot be learnt
        raise DataError(
            training.source,
            found=f"no box of {', '.join(empty)}",
            expected="boxes of every class",
            cure="name the classes to learn in data.classes",
        )
    if held_back is None:
        return divide(scenes, settings.validation_share, settings.split_seed)
    # Formats without a list of classes may lack some.
    if isinstance(kind, Coco | Yolo) or set(held_back.classes) - set(training.classes):
        checks.same_classes(training.classes, held_back.classes, held_back.source)
    return SceneSplit(scenes, _scenes(held_back, classes, settings))


def evaluation(settings: DetectionData, folder: str | None, classes: tuple[str, ...]) -> tuple[Scenes, str]:
    """What a model of these classes is judged on, and its name: the test part, else the validation part."""
    root, kind = find(settings, folder)
    for part in ("test", "val"):
        found = kind.read(root, part)  # type: ignore[arg-type]
        if found is not None and found.images:
            unknown = sorted(set(classes) - set(found.classes))
            if unknown:
                checks.same_classes(classes, found.classes, found.source)
            return _scenes(found, classes, settings), f"{part} images"
    return load(settings, folder).validation, "held-back training images"


def find(settings: DetectionData, folder: str | None) -> tuple[Path, AnnotationReader]:
    """The data folder (empty: the recipe's, then LISARD_DATA) and the reader of what lies in it."""
    return reader.find(READERS, settings.kind, folder or settings.folder, EXPECTED_LISTS)


def chosen(annotations: Annotations, settings: DetectionData) -> tuple[str, ...]:
    """The classes of the recipe in its order, else all of the list."""
    for name in settings.wanted:
        if name not in annotations.classes:
            raise unknown_name("class in recipe key data.classes", name, annotations.classes, DataError)
    classes = settings.wanted or annotations.classes
    if not classes or len(set(classes)) < len(classes):
        raise DataError(annotations.source, found=f"classes {classes}", expected="one or more, each once")
    return classes


def divide(scenes: Scenes, share: float, seed: int) -> SceneSplit:
    """Holds back a share of the images; the same seed gives the same split."""
    if len(scenes) < FEWEST_IMAGES:
        raise DataError("detection data", found=f"{len(scenes)} image", expected=f"{FEWEST_IMAGES} or more")
    order = np.random.default_rng(seed).permutation(len(scenes))
    count = min(max(1, round(share * len(scenes))), len(scenes) - 1)
    return SceneSplit(scenes.take(np.sort(order[count:])), scenes.take(np.sort(order[:count])))


def _scenes(annotations: Annotations, classes: tuple[str, ...], settings: DetectionData) -> Scenes:
    return load_scenes(annotations, classes, input_spec(settings.width_px, settings.height_px), settings)
