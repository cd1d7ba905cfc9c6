"""COCO instances in JSON: what is used of the format, and where such a list lies beside its images."""

from __future__ import annotations

import codecs
from pathlib import Path

import msgspec

from lisard_ros.errors import DataError, one_line

BESIDE = ("annotations.json", "_annotations.coco.json", "instances.json")


class Image(msgspec.Struct, frozen=True):
    """An image of the list."""

    id: int
    file_name: str
    width: int
    height: int


class Category(msgspec.Struct, frozen=True):
    """A class of boxes."""

    id: int
    name: str


class Annotation(msgspec.Struct, frozen=True):
    """A box (left, top, width, height in pixels) in an image; iscrowd: a region that is not labelled one by one."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0

    @property
    def corners_xyxy_px(self) -> tuple[float, float, float, float]:
        """The box as left, top, right, bottom."""
        left, top, width, height = self.bbox
        return left, top, left + width, top + height


class Instances(msgspec.Struct, frozen=True):
    """What is used of a COCO instances file."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


def list_in(folder: Path) -> Path | None:
    """Return the list that lies in a folder, None where there is none."""
    return next((folder / name for name in BESIDE if (folder / name).is_file()), None)


def read_instances(path: Path) -> Instances:
    """Read a list; DataError for what is none."""
    try:
        return msgspec.json.decode(path.read_bytes().removeprefix(codecs.BOM_UTF8), type=Instances)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(
            f"list {path}", found=one_line(error), expected="COCO instances: images, annotations, categories"
        ) from error
