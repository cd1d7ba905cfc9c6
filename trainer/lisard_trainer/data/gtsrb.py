"""GTSRB (Stallkamp et al. 2012), as published or as class folders of rescaled images; tracks are never divided.

Published: Final_Training/Images/<class>/<track>_<frame>.ppm with GT-<class>.csv, Final_Test/Images/<number>.ppm with
GT-final_test.csv. Rescaled: train/<class>/<track>_<frame>.png, with train.csv (path, class_id, track) or without.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lisard_ros.errors import DataError, one_line
from lisard_ros.frames import BoxXyxyPx

from . import checks, files, folders
from .dataset import ImageDataset
from .files import ListedImage, Listing
from .reader import Reader
from .settings import Data

CURE = "take images and list from one release"
_HOMES = ("", "GTSRB")
_TRAINING = ("Final_Training/Images", "Training")
_TEST = "Final_Test/Images"
_TEST_LABELS = "GT-final_test.csv"
_CLASS = re.compile(r"\d{5}")
_COLUMNS = ("Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId")


@dataclass(frozen=True)
class ListedSign:
    """One line of a published list. roi_xyxy_px: the sign, end exclusive (the border is alike on all four sides)."""

    file_name: str
    width_height_px: tuple[int, int]
    roi_xyxy_px: BoxXyxyPx
    class_id: int


class Gtsrb(Reader):
    """The data set in either layout."""

    title = "GTSRB"
    expected = "Final_Training/Images/00000/00000_00000.ppm with GT-00000.csv, or train/00000/<track>_<frame>.png"

    def holds(self, root: Path) -> bool:
        """Whether the folder looks like this set."""
        return _published(root) is not None or _rescaled(root)

    def training(self, root: Path, settings: Data) -> ImageDataset:
        """The training images, in tracks unless the recipe says `tracks: none`."""
        folder = _published(root)
        listing = _list_rescaled(root) if folder is None else _list_published(folder, settings.gtsrb_roi)
        named = listing if settings.tracks == "none" else folders.by_name(listing)
        return checks.every_class(files.decode(named, settings.size_px), listing.root)

    def test(self, root: Path, settings: Data) -> ImageDataset | None:
        """The official test images, if they are there."""
        folder = next((root / home / _TEST for home in _HOMES if (root / home / _TEST).is_dir()), None)
        training = _published(root)
        if folder is None or training is None:
            return None
        # The list of the test images that has their classes; the one beside the images has none.
        places = (folder, folder.parent, folder.parent.parent, root)
        labels = next((place / _TEST_LABELS for place in places if (place / _TEST_LABELS).is_file()), None)
        if labels is None:
            raise DataError(
                f"GTSRB test part {folder}",
                found=f"no {_TEST_LABELS}",
                expected="the list with the column ClassId",
                cure=f"unpack GTSRB_Final_Test_GT.zip there, or take {folder.parent} away",
            )
        listing = _list_test(folder, labels, _class_numbers(training), settings.gtsrb_roi)
        return checks.every_class(files.decode(listing, settings.size_px), folder)


def _published(root: Path) -> Path | None:
    """The folder of the published training classes."""
    places = (root / home / name for home in _HOMES for name in _TRAINING)
    return next((place for place in places if any(place.glob("*/GT-*.csv"))), None)


def _rescaled(root: Path) -> bool:
    """Whether class folders and files are named as in GTSRB: five digits, and two numbers."""
    training = folders.training_folder(root)
    classes = folders.subfolders(training)
    if len(classes) < folders.FEWEST_CLASSES or not all(_CLASS.fullmatch(name) for name in classes):
        return False
    return all(folders.is_numbers(files.first_image_in(training / name) or "0_0") for name in classes)


def _class_numbers(folder: Path) -> tuple[str, ...]:
    """Names of the class folders, which are numbers."""
    names = tuple(folders.class_names(folder))
    strange = next((name for name in names if not _CLASS.fullmatch(name)), None)
    if strange:
        raise DataError(f"class folder {strange}", found="a name that is no number", expected="00000 to 00042")
    return names


def _list_published(folder: Path, cut_roi: bool) -> Listing:
    _class_numbers(folder)
    listing = folders.list_classes(folder)
    rows = {name: _rows(folder / name / f"GT-{name}.csv") for name in listing.classes}
    for label, name in enumerate(listing.classes):
        own = {_file_name(entry) for entry in listing.entries if entry.label == label}
        _check_same_files(folder / name / f"GT-{name}.csv", rows[name], own, folder / name)
        other = next((row for row in rows[name].values() if row.class_id != int(name)), None)
        if other:
            found = f"class {other.class_id} for {other.file_name}"
            raise _disagree(folder / name / f"GT-{name}.csv", found, f"class {int(name)}, that of its folder")
    entries = (_as_listed(entry, rows[listing.classes[entry.label]], cut_roi) for entry in listing.entries)
    return replace(listing, entries=tuple(entries))


def _as_listed(entry: ListedImage, rows: Mapping[str, ListedSign], cut_roi: bool) -> ListedImage:
    row = rows[_file_name(entry)]
    return replace(entry, width_height_px=row.width_height_px, box_xyxy_px=row.roi_xyxy_px if cut_roi else None)


def _list_test(folder: Path, labels: Path, classes: tuple[str, ...], cut_roi: bool) -> Listing:
    names, rows = files.images_in(folder), _rows(labels)
    _check_same_files(labels, rows, set(names), folder)
    known = {int(name): label for label, name in enumerate(classes)}
    strange = next((row for row in rows.values() if row.class_id not in known), None)
    if strange:
        raise _disagree(labels, f"class {strange.class_id} for {strange.file_name}", "a class of the training part")
    entries = (ListedImage(name, known[rows[name].class_id], name) for name in names)
    return Listing(folder, classes, tuple(_as_listed(entry, rows, cut_roi) for entry in entries))


def _rows(path: Path) -> dict[str, ListedSign]:
    """The lines of a published list by file name."""
    rows = [_row(path, line, values) for line, values in _table(path, ";", _COLUMNS)]
    by_name = {row.file_name: row for row in rows}
    if len(by_name) < len(rows):
        names = [row.file_name for row in rows]
        raise _disagree(path, f"{next(n for n in names if names.count(n) > 1)} twice", "one line for each image")
    return by_name


def _row(path: Path, line: int, values: Mapping[str, str]) -> ListedSign:
    try:
        width, height, left, top, right, bottom, class_id = (int(values[name]) for name in _COLUMNS[1:])
    except (TypeError, ValueError):
        raise _disagree(path, f"{dict(values)} in line {line}", "whole numbers after the file name") from None
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        found = f"sign {left},{top} to {right},{bottom} of {width}x{height} pixels in line {line}"
        raise _disagree(path, found, "a sign within its image")
    return ListedSign(values["Filename"], (width, height), (left, top, right, bottom), class_id)


def _table(path: Path, delimiter: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and lines of a CSV file that has at least these columns."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DataError(f"list {path}", found="no readable text", expected="a CSV file", cure=CURE) from None
    reader = csv.DictReader(lines, delimiter=delimiter)
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise _disagree(path, f"no column {missing[0]}", delimiter.join(columns))
        for values in reader:
            short = next((name for name in columns if values[name] is None), None)
            if short:
                raise _disagree(path, f"no {short} in line {reader.line_num}", delimiter.join(columns))
            yield reader.line_num, {name: values[name] for name in columns}
    except csv.Error as error:
        raise _disagree(path, f"{one_line(error)} after line {reader.line_num}", "a CSV file") from error


def _check_same_files(path: Path, rows: Mapping[str, object], present: set[str], folder: Path) -> None:
    absent, unlisted = sorted(set(rows) - present), sorted(present - set(rows))
    if absent:
        raise _disagree(path, f"{absent[0]}, which is not in {folder} ({len(absent)} such)", "images that are there")
    if unlisted:
        raise _disagree(path, f"no line for {unlisted[0]} ({len(unlisted)} such)", f"every image of {folder}")


def _list_rescaled(root: Path) -> Listing:
    training = folders.training_folder(root)
    listing = folders.list_classes(training)
    path = training.parent / "train.csv"
    if path.is_file():
        _check_shared_list(path, listing)
    return listing


def _check_shared_list(path: Path, listing: Listing) -> None:
    """The list of the rescaled images must name them all, each in its class and track."""
    rows: dict[str, dict[str, str]] = {}
    for line, values in _table(path, ",", ("path", "class_id", "track")):
        if values["path"] in rows:
            raise _disagree(path, f"{values['path']} twice, in line {line} again", "one line for each image")
        rows[values["path"]] = values
    home = "" if listing.root == path.parent else listing.root.name + "/"
    present = {home + entry.name: entry for entry in listing.entries}
    _check_same_files(path, rows, set(present), listing.root)
    for name, values in rows.items():
        entry = present[name]
        folder, track = listing.classes[entry.label], folders.stem_of(name).rpartition("_")[0]
        if not values["class_id"].isdecimal() or int(values["class_id"]) != int(folder) or values["track"] != track:
            found = f"class {values['class_id']}, track {values['track']} for {name}"
            raise _disagree(path, found, f"class {int(folder)}, track {track}")


def _file_name(entry: ListedImage) -> str:
    return entry.name.rpartition("/")[2]


def _disagree(path: Path, found: str, expected: str) -> DataError:
    return DataError(f"list {path}", found=found, expected=expected, cure=CURE)
