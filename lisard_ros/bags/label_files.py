"""Labels beside a recording: a COCO list or a CSV file, and the file that renames classes.

COCO: an image belongs to the frame of its `stamp_ns`, or of the stamp that its file name is
(1700000000123456789.jpg, 1700000000.123456789.png). An annotation without a box is the class of the whole image.

CSV, with a header: `stamp_ns` or `stamp_s`, `label`, and where wanted `x0_px,y0_px,x1_px,y1_px`, `track`, `topic`. A
row with a stamp alone is a frame without any box.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path

import msgspec
import yaml

from lisard_ros.bags.labels import LabelSeries, Truth, in_order
from lisard_ros.errors import DataError, UsageError, one_line, unknown_name
from lisard_ros.frames import Region
from lisard_ros.message_fields import NS_PER_S

CORNERS = ("x0_px", "y0_px", "x1_px", "y1_px")
COLUMNS = ("stamp_ns", "stamp_s", "label", *CORNERS, "track", "topic")
_STAMP_NAME = re.compile(r"(\d{1,19})(?:[._](\d{9}))?")
Found = tuple[str, str, Region | None]  # class, track, box


class StampedImage(msgspec.Struct, frozen=True):
    """An image of a COCO list that is a frame of a recording."""

    id: int
    file_name: str = ""
    stamp_ns: int | None = None
    topic: str = ""


class ImageAnnotation(msgspec.Struct, frozen=True):
    """A class of an image, or of a box in it (left, top, width, height in pixels)."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float] | None = None
    iscrowd: int = 0
    track_id: int | str = ""


class NamedCategory(msgspec.Struct, frozen=True):
    """A class."""

    id: int
    name: str


class StampedList(msgspec.Struct, frozen=True):
    """What is used of a COCO list."""

    images: list[StampedImage]
    annotations: list[ImageAnnotation]
    categories: list[NamedCategory]


def read(path: Path) -> tuple[LabelSeries, ...]:
    """Read the labels of a file, a series for each camera that it names.

    Raises:
        DataError: It is neither a COCO list (.json) nor a CSV file (.csv), or a stamp, class or box cannot be used.
    """
    try:
        if path.suffix.lower() == ".csv":
            labels = _of_csv(path)
        elif path.suffix.lower() == ".json":
            labels = _of_coco(path)
        else:
            raise DataError(f"labels {path}", found=f"a file {path.suffix or path.name}", expected=".json or .csv")
    except OSError as error:
        raise DataError(
            f"labels {path}", found=error.strerror, expected="a COCO list or a CSV file", cure="check the path"
        ) from error
    if not labels:
        raise DataError(f"labels {path}", found="no labels", expected="one label or more")
    by_topic: dict[str, list[tuple[int, Truth]]] = defaultdict(list)
    for (topic, stamp), truth in labels.items():
        by_topic[topic].append((stamp, truth))
    return tuple(in_order(path.name, of_topic, topic) for topic, of_topic in by_topic.items())


def _of_coco(path: Path) -> dict[tuple[str, int], Truth]:
    try:
        listed = msgspec.json.decode(path.read_bytes().removeprefix(codecs.BOM_UTF8), type=StampedList)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"labels {path}", found=one_line(error), expected="a COCO list: images, annotations, categories"
        ) from error
    names = {category.id: category.name for category in listed.categories}
    found: dict[int, list[Found]] = {image.id: [] for image in listed.images}
    for number, one in enumerate(listed.annotations):
        if one.image_id not in found or one.category_id not in names:
            raise DataError(
                f"labels {path}, annotation {number}",
                found=f"image {one.image_id}, category {one.category_id}",
                expected="numbers that the list has",
            )
        if one.iscrowd:
            continue
        region = None
        if one.bbox is not None:
            left, top, width, height = one.bbox
            region = _region(
                (left, top, left + width, top + height), names[one.category_id], str(one.track_id), f"labels {path}"
            )
        found[one.image_id].append((names[one.category_id], str(one.track_id), region))
    labels: dict[tuple[str, int], Truth] = {}
    for image in listed.images:
        key = (image.topic, _stamp_of(image, path))
        if key in labels:
            raise DataError(f"labels {path}", found=f"stamp {key[1]} ns twice", expected="one image for each frame")
        labels[key] = _truth(found[image.id], f"labels {path}, image {image.id}")
    return labels


def _stamp_of(image: StampedImage, path: Path) -> int:
    if image.stamp_ns is not None:
        return _in_range(image.stamp_ns, f"labels {path}, image {image.id}")
    fits = _STAMP_NAME.fullmatch(Path(image.file_name).stem)
    if fits is None:
        raise DataError(
            f"labels {path}, image {image.id}",
            found=f"file_name {image.file_name!r}",
            expected="`stamp_ns`, or a file name that is the stamp in ns or as SECONDS.NANOSECONDS",
        )
    whole, part = fits.groups()
    stamp = int(whole) if part is None else int(whole) * NS_PER_S + int(part)
    return _in_range(stamp, f"labels {path}, image {image.id}")


def _in_range(stamp_ns: int, where: str) -> int:
    if not 0 <= stamp_ns < 2**63:
        raise DataError(where, found=f"stamp {stamp_ns} ns", expected="0 to 2^63 - 1")
    return stamp_ns


def _of_csv(path: Path) -> dict[tuple[str, int], Truth]:
    found: dict[tuple[str, int], list[Found]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            header = [name.strip() for name in rows.fieldnames or ()]
            _require_columns(path, header)
            rows.fieldnames = header
            for row in rows:
                where = f"labels {path}, line {rows.line_num}"
                if None in row or None in row.values():
                    raise DataError(where, found="another number of fields", expected=", ".join(header))
                key, one = _of_row({name: text.strip() for name, text in row.items()}, where)
                found.setdefault(key, []).extend([] if one is None else [one])
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"labels {path}", found=one_line(error), expected="a CSV file in UTF-8") from error
    return {key: _truth(labels, f"labels {path}, stamp {key[1]} ns") for key, labels in found.items()}


def _require_columns(path: Path, header: list[str]) -> None:
    for name in header:
        if name not in COLUMNS:
            raise unknown_name(f"column of labels {path}", name, COLUMNS, DataError)
    corners = [name for name in CORNERS if name in header]
    stamps = [name for name in ("stamp_ns", "stamp_s") if name in header]
    if "label" not in header or len(stamps) != 1 or len(corners) not in (0, len(CORNERS)):
        raise DataError(
            f"labels {path}",
            found=", ".join(header) or "no header",
            expected="stamp_ns or stamp_s, label, and all or none of " + ", ".join(CORNERS),
        )


def _of_row(row: Mapping[str, str], where: str) -> tuple[tuple[str, int], Found | None]:
    text = row.get("stamp_ns") or row.get("stamp_s", "")
    try:
        stamp = int(text) if "stamp_ns" in row else int(Decimal(text) * NS_PER_S)
    except (ValueError, InvalidOperation, OverflowError) as error:
        raise DataError(where, found=f"stamp {text!r}", expected="a number") from error
    key, label, track = (row.get("topic", ""), _in_range(stamp, where)), row["label"], row.get("track", "")
    corners = [row.get(name, "") for name in CORNERS]
    if not any(corners):
        if not label and CORNERS[0] not in row:
            raise DataError(where, found="no label", expected="the class of the frame")
        return key, (label, track, None) if label else None
    try:
        x0, y0, x1, y1 = map(float, corners)
    except ValueError as error:
        raise DataError(where, found=f"box {', '.join(corners)}", expected="four numbers") from error
    if not label:
        raise DataError(where, found="a box without a label", expected="a label")
    return key, (label, track, _region((x0, y0, x1, y1), label, track, where))


def _region(corners: tuple[float, float, float, float], label: str, track: str, where: str) -> Region:
    x0, y0, x1, y1 = corners
    if not all(map(math.isfinite, corners)) or x1 <= x0 or y1 <= y0:
        raise DataError(where, found=f"box {corners}", expected="finite corners, right of left and below top")
    return Region(corners, label, 1.0, track)


def _truth(found: Iterable[Found], where: str) -> Truth:
    """Join what is known of one frame: its boxes, or one class of the whole."""
    labels = list(found)
    boxes = [region for _, _, region in labels if region is not None]
    whole = {(label, track) for label, track, region in labels if region is None}
    if len(whole) > 1 or (whole and boxes):
        raise DataError(
            where,
            found=f"{len(whole)} classes of the whole frame, {len(boxes)} boxes",
            expected="one class, or boxes alone",
        )
    if whole:
        ((label, track),) = whole
        return Truth(label, None, track)
    return Truth(None, tuple(boxes))


def read_map(words: str) -> dict[str, str]:
    """Read `--label-map`: RECORDED=NAME,... or a YAML or JSON file with such pairs; NAME empty leaves a class out.

    Raises:
        UsageError: A word has no `=`, a name stands twice, or the file holds something else.
    """
    if "=" not in words:
        return _map_of_file(Path(words))
    pairs: dict[str, str] = {}
    for word in filter(None, map(str.strip, words.split(","))):
        old, equals, new = (part.strip() for part in word.partition("="))
        if not (equals and old) or old in pairs:
            raise UsageError(
                "--label-map", found=repr(word), expected="RECORDED=NAME,..., each recorded name once, or a file"
            )
        pairs[old] = new
    return pairs


def _map_of_file(path: Path) -> dict[str, str]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"--label-map {path}", found=one_line(error), expected="RECORDED=NAME,..., or a YAML or JSON file"
        ) from error
    values = content.values() if isinstance(content, dict) else ()
    if not isinstance(content, dict) or not all(value is None or isinstance(value, str) for value in values):
        raise UsageError(f"--label-map {path}", found=type(content).__name__, expected="pairs of RECORDED: NAME")
    return {str(old): new or "" for old, new in content.items()}
