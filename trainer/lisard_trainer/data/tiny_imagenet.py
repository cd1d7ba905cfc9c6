"""Tiny ImageNet (200 classes, 64 x 64) as published, or as class folders; its validation part is the official test.

Published: train/<wnid>/images/*.JPEG, val/images/*.JPEG with val/val_annotations.txt, wnids.txt. Images may also lie
directly in the class folder, and val/ may hold class folders. The published test part has no labels and is not read.
"""

from __future__ import annotations

import re
from pathlib import Path

from lisard_ros.errors import DataError

from . import checks, files, folders
from .dataset import ImageDataset
from .files import ListedImage, Listing
from .reader import Reader
from .settings import Data

_HOMES = ("", "tiny-imagenet-200")
_INNER = "images"
_LABELS = "val_annotations.txt"
_CLASS = re.compile(r"n\d{8}")


class TinyImageNet(Reader):
    """The data set in either layout."""

    title = "Tiny ImageNet"
    test_title = "validation part (its official test)"
    expected = "train/n01443537/images/*.JPEG and val/images with val/val_annotations.txt, or class folders in both"

    def holds(self, root: Path) -> bool:
        """Whether the folder looks like this set."""
        return _home(root) is not None

    def training(self, root: Path, settings: Data) -> ImageDataset:
        """The training images."""
        home = _found(root)
        listing = folders.list_classes(home / "train", _INNER)
        names = home / "wnids.txt"
        if names.is_file():
            listed = sorted(names.read_text(encoding="utf-8-sig", errors="replace").split())
            checks.same_classes(listing.classes, listed, names)
        return checks.balanced(files.decode(listing, settings.size_px), home / "train")

    def test(self, root: Path, settings: Data) -> ImageDataset | None:
        """The images of val/, if they are there."""
        home = _found(root)
        folder = home / "val"
        if not folder.is_dir():
            return None
        classes = tuple(folders.class_names(home / "train"))
        if (folder / _LABELS).is_file():
            listing = _list_annotated(folder, classes)
        elif folders.subfolders(folder) == [_INNER]:
            raise _disagree(folder / _LABELS, "no such file", f"the class of each image of {folder / _INNER}")
        else:
            listing = folders.list_classes(folder, _INNER)
            checks.same_classes(classes, listing.classes, folder)
        return checks.balanced(files.decode(listing, settings.size_px), folder)


def _home(root: Path) -> Path | None:
    """The folder with train/, whose classes are all named by wnid."""
    for home in (root / name for name in _HOMES):
        names = folders.subfolders(home / "train")
        if names and all(_CLASS.fullmatch(name) for name in names):
            return home
    return None


def _found(root: Path) -> Path:
    home = _home(root)
    if home is None:
        raise DataError(f"Tiny ImageNet folder {root}", found="no train/<wnid>", expected=TinyImageNet.expected)
    return home


def _list_annotated(folder: Path, classes: tuple[str, ...]) -> Listing:
    """Images in one folder, classes in a list with lines of file name, wnid and box between tabs."""
    path, labels = folder / _LABELS, {name: label for label, name in enumerate(classes)}
    given = _annotations(path)
    strange = next((name for name, wnid in given.items() if wnid not in labels), None)
    if strange:
        raise _disagree(path, f"class {given[strange]} for {strange}", "a class of the training part")
    present = files.images_in(folder / _INNER) if (folder / _INNER).is_dir() else []
    absent, unlisted = sorted(set(given) - set(present)), [name for name in present if name not in given]
    if absent:
        raise _disagree(path, f"{absent[0]}, which is not there ({len(absent)} such)", f"images of {folder / _INNER}")
    if unlisted:
        raise _disagree(path, f"no line for {unlisted[0]} ({len(unlisted)} such)", "a line for each image")
    return Listing(folder, classes, tuple(ListedImage(f"{_INNER}/{n}", labels[given[n]], n) for n in present))


def _annotations(path: Path) -> dict[str, str]:
    """Wnid by file name."""
    given: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0].strip()
        if not line.strip():
            continue
        if not wnid or name in given:
            raise _disagree(path, f"line {number}: {line[:60]!r}", "file name and class, each file once")
        given[name] = wnid
    return given


def _disagree(path: Path, found: str, expected: str) -> DataError:
    return DataError(f"list {path}", found=found, expected=expected, cure=checks.FROM_PUBLISHER)
