"""Class folders, <class>/*.png: where they are, which classes and files they hold, and what belongs to one track."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from lisard_ros.errors import DataError
from lisard_ros.image_files.folders import is_numbered

from . import files
from .dataset import ImageDataset
from .files import ListedImage, Listing
from .settings import Data

DATA_VARIABLE = "LISARD_DATA"
EXPECTED_LAYOUT = "a folder of images for each class, such as IMAGES/red/crossing1_001.jpg"
TRAINING_NAMES = ("train", "training")
VALIDATION_NAMES = ("val", "valid", "validation")
TEST_NAMES = ("test", "testing")
PartName = Literal["train", "val", "test"]
LISTED_PARTS: dict[PartName, tuple[str, ...]] = {  # of data sets with lists of boxes: COCO's releases have a year
    "train": (*TRAINING_NAMES, "train2017", "train2014"),
    "val": (*VALIDATION_NAMES, "val2017", "val2014"),
    "test": TEST_NAMES,
}
FEWEST_CLASSES = 2
_SCENE = re.compile(r".*[^_]_\d+")


def find_root(given: str | os.PathLike[str] | None, expected: str = EXPECTED_LAYOUT) -> Path:
    """The data folder: the given one, else LISARD_DATA."""
    name = given or os.environ.get(DATA_VARIABLE)
    if not name:
        raise DataError(
            "training data", found="nothing given", expected=expected, cure=f"use --data or set {DATA_VARIABLE}"
        )
    folder = Path(name)
    if folder.is_file():
        raise DataError(
            "training data", found=f"a file, {folder}", expected=expected, cure="unpack it, give the folder"
        )
    if not folder.is_dir():
        raise DataError("training data", found=f"no folder {folder}", expected=expected, cure="check --data")
    return folder


def training_folder(root: Path) -> Path:
    """`train/` or `training/` of a data folder, else the folder itself; a class may be called so too."""
    part = part_of(root, TRAINING_NAMES)
    return part if part and subfolders(part) else root


def part_of(root: Path, names: Sequence[str]) -> Path | None:
    """The first of these subfolders that exists, in whatever letters."""
    there = {name.lower(): name for name in reversed(subfolders(root))}
    return next((root / there[name] for name in names if name in there), None)


def read(folder: Path, size_px: int) -> ImageDataset:
    """Reads class folders whose files are named <track>_<frame>; other sizes are brought to size_px x size_px."""
    return files.decode(by_name(list_classes(folder)), size_px)


def list_classes(folder: Path, inner: str = "") -> Listing:
    """Every image of every class, each image a track of its own; `inner`: where in a class folder images lie."""
    classes = class_names(folder)
    entries = []
    for label, name in enumerate(classes):
        entries += [ListedImage(path, label, path) for path in _class_images(folder, name, inner)]
    return Listing(folder, tuple(classes), tuple(entries))


def class_names(folder: Path) -> list[str]:
    """Names of the class folders in order, numbers in theirs; two at least."""
    names = subfolders(folder)
    names = sorted(names, key=int) if all(name.isdecimal() for name in names) else names
    if len(names) < FEWEST_CLASSES:
        raise DataError("training data", found=f"{len(names)} class folders in {folder}", expected=EXPECTED_LAYOUT)
    return names


def subfolders(folder: Path) -> list[str]:
    """Names of the visible folders in a folder, in order; none if it can't be listed. DataError: a link in a loop."""
    try:
        found = list(os.scandir(folder))
    except OSError:
        return []
    return sorted(files.readable(entry) for entry in found if entry.name[0] != "." and _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        found = error.strerror or str(error)
        raise DataError(f"class folder {entry.path}", found=found, expected="images", cure="remove it") from error


def _class_images(folder: Path, name: str, inner: str) -> list[str]:
    """Image files of one class, relative to the folder of the classes."""
    place = f"{name}/{inner}" if inner and (folder / name / inner).is_dir() else name
    found = [f"{place}/{image}" for image in files.images_in(folder / place)]
    if not found:
        raise DataError(f"class folder {name}", found="no images", expected=EXPECTED_LAYOUT, cure="fill or remove it")
    deeper = next((below for below in subfolders(folder / place) if files.first_image_in(folder / place / below)), "")
    if deeper:
        raise DataError(
            f"class folder {folder / place}",
            found=f"images in {deeper}/ too",
            expected=EXPECTED_LAYOUT,
            cure="move them up, or take them away",
        )
    return found


def by_name(listing: Listing) -> Listing:
    """The same images, in tracks by their file names <track>_<frame>."""
    bad = next((entry for entry in listing.entries if "_" not in stem_of(entry.name)), None)
    if bad:
        raise DataError(
            f"class folder {listing.classes[bad.label]}",
            found=f"file name {bad.name.rpartition('/')[2]}",
            expected="<track>_<frame>.png",
            cure="set data.tracks: none in the recipe to split by image",
        )
    return Listing(
        listing.root,
        listing.classes,
        tuple(replace(entry, track=_named_track(entry.name)) for entry in listing.entries),
    )


def _named_track(name: str) -> str:
    return name.partition("/")[0] + "/" + stem_of(name).rpartition("_")[0]


def stem_of(name: str) -> str:
    """A file name without its folders and its suffix."""
    return name.rpartition("/")[2].rpartition(".")[0]


def is_numbers(name: str) -> bool:
    """Whether a file is named <track>_<frame>, all numbers, as in GTSRB."""
    return is_numbered(stem_of(name))


def with_tracks(listing: Listing, settings: Data) -> Listing:
    """The listing, in tracks if the recipe or the file names say so."""
    named = settings.tracks == "name" or (settings.tracks == "auto" and has_tracks(listing))
    return by_name(listing) if named else listing


def has_tracks(listing: Listing) -> bool:
    """Whether all names are numbers, or those of scenes: <scene>_<frame>, several of each class, some of many frames.

    A class whose names have one beginning, red_001 and red_002, is no scene.
    """
    if all(is_numbers(entry.name) for entry in listing.entries):
        return True
    if not all(_SCENE.fullmatch(stem_of(entry.name)) for entry in listing.entries):
        return False
    scenes = {(entry.label, _named_track(entry.name)) for entry in listing.entries}
    several = min(Counter(label for label, _ in scenes).values()) > 1
    return several and len(scenes) < len(listing.entries)
