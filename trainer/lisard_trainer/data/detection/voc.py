"""Pascal VOC: Annotations/*.xml, JPEGImages, and the parts in ImageSets/Main/<part>.txt.

Corners count pixels from 1 and include the last one (development kit of VOC2012), so 1 is taken off the first corner.
XML is read by the standard library; a file with a document type is refused, so that no entity is ever expanded.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from lisard_ros.errors import DataError, one_line

from ..files import SUFFIXES
from ..folders import PartName
from .annotation import Annotated, AnnotationReader, Annotations, Box

LISTS, IMAGES, PARTS = "Annotations", "JPEGImages", "ImageSets/Main"
MOST_BYTES = 16 * 2**20


class Voc(AnnotationReader):
    """VOC2007 to VOC2012 and what is built like them; `difficult` boxes are ignored, as in the official evaluation."""

    expected = f"{LISTS}/*.xml with {IMAGES} and {PARTS}/train.txt"

    def holds(self, root: Path) -> bool:
        """Whether there are annotations, here or in the one year of a VOCdevkit."""
        return _base(root) is not None

    def read(self, root: Path, part: PartName) -> Annotations | None:
        """The list of a part; without part files all images are for training."""
        base = _base(root)
        stems = None if base is None else _stems(base, part)
        if base is None or stems is None:
            return None
        images = tuple(_image(base, stem) for stem in stems)
        names = {box.label for image in images for box in image.boxes}
        return Annotations(base / IMAGES, tuple(sorted(names)), images, f"annotations {base / LISTS}")


def _base(root: Path) -> Path | None:
    years = sorted(path.parent for path in root.glob(f"VOC*/{LISTS}")) + sorted(
        path.parent for path in root.glob(f"VOCdevkit/VOC*/{LISTS}")
    )
    return next((base for base in [root, *years] if (base / LISTS).is_dir()), None)


def _stems(base: Path, part: PartName) -> list[str] | None:
    file = base / PARTS / f"{part}.txt"
    if file.is_file():
        return [line.split()[0] for line in file.read_text(encoding="utf-8-sig").splitlines() if line.split()]
    if part == "train" and not list((base / PARTS).glob("*.txt")):
        return sorted(path.stem for path in (base / LISTS).glob("*.xml"))
    return None


def _image(base: Path, stem: str) -> Annotated:
    file = base / LISTS / f"{stem}.xml"
    root = _parse(file)
    name = _text(root, "filename", file) if root.find("filename") is not None else f"{stem}.jpg"
    if not (base / IMAGES / name).is_file():  # many lists kept the name of another format
        name = next((stem + suffix for suffix in SUFFIXES if (base / IMAGES / (stem + suffix)).is_file()), name)
    boxes = tuple(_box(entry, f"{LISTS}/{stem}.xml object {n}", file) for n, entry in enumerate(root.iter("object"), 1))
    size, size_px = root.find("size"), None
    if size is not None:
        width, height = (int(_number(size, side, file)) for side in ("width", "height"))
        size_px = (width, height) if width and height else None  # some writers leave zeros
    return Annotated(name, boxes, size_px)


def _parse(file: Path) -> ElementTree.Element:
    try:
        data = file.read_bytes()
        if len(data) > MOST_BYTES or b"<!DOCTYPE" in data or b"<!ENTITY" in data:
            raise DataError(f"annotation {file}", found="a document type or too many bytes", expected="plain VOC XML")
        return ElementTree.fromstring(data)  # noqa: S314  without a document type there are no entities
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"annotation {file}", found=one_line(error), expected="VOC XML", cure="mend it") from error


def _box(entry: ElementTree.Element, where: str, file: Path) -> Box:
    corners = entry.find("bndbox")
    if corners is None:
        raise DataError(f"annotation {where}", found="no bndbox", expected="xmin, ymin, xmax, ymax")
    left, top, right, bottom = (_number(corners, name, file) for name in ("xmin", "ymin", "xmax", "ymax"))
    difficult = entry.findtext("difficult", "0").strip() == "1"
    return Box(_text(entry, "name", file), (left - 1, top - 1, right, bottom), where, difficult)


def _text(entry: ElementTree.Element, name: str, file: Path) -> str:
    found = entry.findtext(name)
    if found is None or not found.strip():
        raise DataError(f"annotation {file}", found=f"no {name}", expected=f"<{name}> in <{entry.tag}>", cure="mend it")
    return found.strip()


def _number(entry: ElementTree.Element, name: str, file: Path) -> float:
    text = _text(entry, name, file)
    try:
        return float(text)
    except ValueError as error:
        raise DataError(f"annotation {file}", found=f"{name} {text!r}", expected="a number", cure="mend it") from error
