"""KITTI object detection: training/image_2 with training/label_2, one text file of boxes for each image.

Source of the columns: the readme of the KITTI object development kit (type, truncated, occluded, alpha, box, ...).
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from lisard_ros.errors import DataError

from ..folders import LISTED_PARTS, PartName
from .annotation import Annotated, AnnotationReader, Annotations, Box
from .plain_text import images_below, lines

IMAGES, LABELS = "image_2", "label_2"
DONT_CARE = "DontCare"
BOX_COLUMN = 4


class Kitti(AnnotationReader):
    """KITTI; regions of DontCare are ignored. The published test part has no labels, so it does not count."""

    expected = f"training/{IMAGES}/*.png with training/{LABELS}/*.txt"

    def holds(self, root: Path) -> bool:
        """Whether there are training labels."""
        return _folder(root, "train") is not None

    def read(self, root: Path, part: PartName) -> Annotations | None:
        """The list of a part; an image without a label file is an error, an empty file an image without boxes."""
        folder = _folder(root, part)
        if folder is None:
            return None
        images = tuple(_image(folder, name) for name in images_below(folder / IMAGES))
        names = {box.label for image in images for box in image.boxes if not box.ignored}
        return Annotations(folder / IMAGES, tuple(sorted(names)), images, f"labels {folder / LABELS}")


def _folder(root: Path, part: PartName) -> Path | None:
    return next((root / name for name in LISTED_PARTS[part] if (root / name / LABELS).is_dir()), None)


def _image(folder: Path, name: str) -> Annotated:
    label = PurePosixPath(name).with_suffix(".txt").as_posix()
    file = folder / LABELS / label
    if not file.is_file():
        raise DataError(
            f"image {folder / IMAGES / name}",
            found=f"no {file}",
            expected="a label file, empty if there is nothing to see",
            cure="take images and labels from one release",
        )
    boxes = []
    for line in lines(file, f"{LABELS}/{label}"):
        left, top, right, bottom = line.numbers(BOX_COLUMN, 4)
        boxes.append(Box(line.words[0], (left, top, right, bottom), line.where, line.words[0] == DONT_CARE))
    return Annotated(name, tuple(boxes))
