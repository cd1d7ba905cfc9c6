"""YOLO text labels: data.yaml names classes and parts; `images` in a path becomes `labels` for the text files.

A line is: class number, centre x, centre y, width, height, in shares of the image. An image without a text file
shows nothing, as in the format's own description.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from lisard_ros.errors import DataError, one_line

from ..folders import LISTED_PARTS, PartName
from .annotation import Annotated, AnnotationReader, Annotations, Box
from .plain_text import images_below, lines

LISTS = ("data.yaml", "dataset.yaml")
IMAGES, LABELS = "images", "labels"


class Yolo(AnnotationReader):
    """Any data set with a YOLO data.yaml whose parts are folders of images."""

    expected = "data.yaml with `names`, `train` and `val` (folders), images/ and labels/"

    def holds(self, root: Path) -> bool:
        """Whether there is a data.yaml with names."""
        return _list(root) is not None

    def read(self, root: Path, part: PartName) -> Annotations | None:
        """The list of a part."""
        path = _list(root)
        if path is None:
            return None
        content = _read(path)
        names = _names(path, content.get("names"))
        folder = _part_folder(path, content, part)
        if folder is None:
            return None
        base = root if folder.is_relative_to(root) else folder
        below = folder.relative_to(base).as_posix()
        prefix = "" if below == "." else below + "/"
        images = tuple(_image(base, prefix + name, names) for name in images_below(folder))
        return Annotations(base, names, images, f"labels of {folder}")


def _list(root: Path) -> Path | None:
    return next((root / name for name in LISTS if (root / name).is_file()), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"list {path}", found=one_line(error), expected="YAML with `names`") from error
    if not isinstance(content, dict):
        raise DataError(f"list {path}", found=type(content).__name__, expected="a mapping with `names`")
    return content


def _names(path: Path, found: object) -> tuple[str, ...]:
    if isinstance(found, dict) and sorted(found) == list(range(len(found))):
        found = [found[number] for number in range(len(found))]
    if not isinstance(found, list) or not found or len({str(name) for name in found}) < len(found):
        raise DataError(f"list {path}", found=f"names: {found!r}", expected="class names, each once, numbered from 0")
    return tuple(str(name) for name in found)


def _part_folder(path: Path, content: dict[str, Any], part: PartName) -> Path | None:
    wanted = next((content[name] for name in (part, *LISTED_PARTS[part]) if content.get(name)), None)
    if wanted is None:
        return None
    if not isinstance(wanted, str):
        raise DataError(f"list {path}", found=f"{part}: {wanted!r}", expected="one folder of images")
    bases = [path.parent / str(content.get("path") or "."), path.parent]
    folder = next((base / wanted for base in bases if (base / wanted).is_dir()), None)
    if folder is None:
        raise DataError(
            f"list {path}",
            found=f"no folder {wanted} of {part}",
            expected="a folder of images",
            cure="check `path` and the parts in it",
        )
    return folder.resolve() if not folder.is_relative_to(path.parent) else folder


def _image(root: Path, name: str, names: tuple[str, ...]) -> Annotated:
    parts = list(PurePosixPath(name).with_suffix(".txt").parts)
    # The last `images` of the path becomes `labels`; without one the text file lies beside the image.
    places = [position for position, part in enumerate(parts) if part == IMAGES]
    if places:
        parts[places[-1]] = LABELS
    label = "/".join(parts)
    boxes = []
    for line in lines(root / label, label) if (root / label).is_file() else ():
        number, x, y, width, height = line.numbers(0, 5)
        if number != int(number) or not 0 <= number < len(names):
            raise line.wrong(f"the unknown class number {line.words[0]}", f"0 to {len(names) - 1}")
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        boxes.append(Box(names[int(number)], corners, line.where))
    return Annotated(name, tuple(boxes), in_shares=True)
