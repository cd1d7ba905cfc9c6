"""COCO instances in JSON: <part>/annotations.json with the images beside it, or annotations/instances_<part>.json."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from .. import coco as crops
from ..folders import LISTED_PARTS, PartName
from .annotation import Annotated, AnnotationReader, Annotations, Box


class Coco(AnnotationReader):
    """Any COCO-style data set; crowds are ignored regions."""

    expected = "train/annotations.json (COCO instances) with train/images, or annotations/instances_train2017.json"

    def holds(self, root: Path) -> bool:
        """Whether there is a list of training boxes."""
        return crops.find_part(root, LISTED_PARTS["train"]) is not None

    def read(self, root: Path, part: PartName) -> Annotations | None:
        """The list of a part; numbers that repeat or lead nowhere are faults of the list."""
        found = crops.find_part(root, LISTED_PARTS[part])
        if found is None:
            return None
        instances = crops.read_list(found)
        names = {category.id: category.name for category in instances.categories}
        boxes: dict[int, list[Box]] = defaultdict(list)
        for annotation in sorted(instances.annotations, key=lambda a: a.id):
            name, where = names[annotation.category_id], f"annotation {annotation.id}"
            box = Box(name, annotation.corners_xyxy_px, where, bool(annotation.iscrowd))
            boxes[annotation.image_id].append(box)
        images = tuple(
            Annotated(image.file_name, tuple(boxes[image.id]), (image.width, image.height))
            for image in instances.images
        )
        ordered = tuple(names[number] for number in sorted(names))
        # The folder that holds most of the listed images; one that is missing is named later.
        place = max(found.places, key=lambda folder: sum((folder / image.file).is_file() for image in images))
        return Annotations(place, ordered, images, f"list {found.path}")
