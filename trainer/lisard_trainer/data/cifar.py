"""CIFAR-10 and CIFAR-100 as published (Krizhevsky 2009): binary batches, python pickles, or folders by class name.

A binary record is one label byte (CIFAR-100: two, coarse then fine) and 3072 bytes, the red, green and blue plane of
32 x 32 pixels. A pickle holds the same under `data`, with `labels` (CIFAR-100: `coarse_labels`, `fine_labels`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.errors import DataError
from lisard_ros.inference.preprocess import resize

from . import checks, files, folders, pickles
from .dataset import ImageDataset
from .reader import Reader
from .settings import Data

SIZE_PX = 32
PIXEL_BYTES = 3 * SIZE_PX * SIZE_PX
COARSE_CLASSES = 20
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
    "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
    "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
    "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
    "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """Content of one file: pixels uint8 [N,3,32,32] and labels int64 [N]; coarse labels [N] where there are some."""

    pixels: np.ndarray
    labels: np.ndarray
    coarse: np.ndarray | None = None


@dataclass(frozen=True)
class Form:
    """One way in which a set is stored: its folder's usual name, the files of both parts and how to read one.

    names: the file with the names of the classes, plain text, or a pickle that holds them under names_key.
    """

    folder: str
    training: tuple[str, ...]
    test: tuple[str, ...]
    read: Callable[[Path, int], Labelled]
    names: str
    names_key: str = ""


def _binary(path: Path, classes: int) -> Labelled:
    """One file of binary records."""
    label_bytes = 2 if classes > len(CIFAR10_CLASSES) else 1
    raw, record = np.fromfile(path, np.uint8), PIXEL_BYTES + label_bytes
    if not len(raw) or len(raw) % record:
        raise DataError(
            f"CIFAR-{classes} batch {path}",
            found=f"{len(raw)} bytes",
            expected=f"a multiple of {record} bytes",
            cure=f"the file is cut short or of another set: {checks.FROM_PUBLISHER}",
        )
    rows = raw.reshape(-1, record)
    labels = rows[:, :label_bytes].astype(np.int64)
    coarse = labels[:, 0] if label_bytes == 2 else None
    return Labelled(_planes(rows[:, label_bytes:]), labels[:, -1], coarse)


def _pickled(path: Path, classes: int) -> Labelled:
    """One python-pickle batch."""
    content = pickles.read(path)
    key = "fine_labels" if classes > len(CIFAR10_CLASSES) else "labels"
    data = content.get("data")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXEL_BYTES:
        raise _unlike(path, f"data is {_kind(data)}", f"`data` as uint8 [N, {PIXEL_BYTES}]")
    labels = _whole_numbers(path, content, key, len(data))
    coarse = _whole_numbers(path, content, "coarse_labels", len(data)) if key == "fine_labels" else None
    return Labelled(_planes(data), labels, coarse)


def _planes(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows).reshape(-1, 3, SIZE_PX, SIZE_PX)


def _whole_numbers(path: Path, content: dict[str, Any], key: str, count: int) -> np.ndarray:
    if key not in content:
        raise _unlike(path, f"no `{key}` among {', '.join(sorted(content)[:6])}", f"`{key}`, one for each image")
    values = content[key]
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise _unlike(path, f"{key} is {_kind(values)}", f"`{key}` as a list of whole numbers")
    if len(values) != count:
        raise _unlike(path, f"{len(values)} {key} for {count} images", "one label for each image")
    strange = sum(not 0 <= value < 256 for value in values)
    if strange:
        raise _unlike(path, f"{key} of which {strange} are no byte", "labels from 0 to 255")
    return np.array(values, np.int64)


def _kind(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def _unlike(path: Path, found: str, expected: str) -> DataError:
    return DataError(f"CIFAR pickle {path}", found=found, expected=expected, cure=checks.FROM_PUBLISHER)


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_BINARIES = tuple(f"{name}.bin" for name in _BATCHES)
_FORMS = {
    10: (
        Form("cifar-10-batches-bin", _BINARIES, ("test_batch.bin",), _binary, "batches.meta.txt"),
        Form("cifar-10-batches-py", _BATCHES, ("test_batch",), _pickled, "batches.meta", "label_names"),
    ),
    100: (
        Form("cifar-100-binary", ("train.bin",), ("test.bin",), _binary, "fine_label_names.txt"),
        Form("cifar-100-python", ("train",), ("test",), _pickled, "meta", "fine_label_names"),
    ),
}
_CLASSES = {10: CIFAR10_CLASSES, 100: CIFAR100_CLASSES}


class Cifar(Reader):
    """One of the two sets, found in any of its forms."""

    def __init__(self, count: int) -> None:
        """`count`: 10 or 100 classes."""
        self.count, self.classes, self.title = count, _CLASSES[count], f"CIFAR-{count}"
        files_of = " or ".join(f"{form.training[0]} and {form.test[0]}" for form in _FORMS[count])
        self.expected = f"{files_of}, or train/{self.classes[0]} to train/{self.classes[-1]}"

    def holds(self, root: Path) -> bool:
        """Whether the folder looks like this set."""
        classes = folders.subfolders(folders.training_folder(root))
        return self._stored(root) is not None or tuple(classes) == self.classes

    def training(self, root: Path, settings: Data) -> ImageDataset:
        """The training images."""
        return self._part(root, settings, folders.TRAINING_NAMES, lambda form: form.training)

    def test(self, root: Path, settings: Data) -> ImageDataset | None:
        """The official test images; None for class folders without a test part."""
        if self._stored(root) is None and not folders.part_of(root, folders.TEST_NAMES):
            return None
        return self._part(root, settings, folders.TEST_NAMES, lambda form: form.test)

    def test_name(self, root: Path) -> str:
        """Class folders may hold fewer images than the official set, or re-encoded ones."""
        return self.test_title if self._stored(root) else "test folder"

    def _part(
        self, root: Path, settings: Data, names: tuple[str, ...], part: Callable[[Form], tuple[str, ...]]
    ) -> ImageDataset:
        stored = self._stored(root)
        if stored is None:
            listing = folders.list_classes(folders.part_of(root, names) or root)
            checks.same_classes(self.classes, listing.classes, listing.root)
            return checks.balanced(files.decode(listing, settings.size_px), listing.root)
        folder, form = stored
        listed = folder / form.names  # beside the batches, where there is one, it must be the published one
        if listed.is_file():
            checks.same_classes(self.classes, _names(listed, form.names_key), listed)
        return checks.balanced(self._read_files(folder, form, part(form), settings.size_px), folder)

    def _stored(self, root: Path) -> tuple[Path, Form] | None:
        """The folder and form of binary or pickled batches; one file of a form is enough to tell it."""
        for form in _FORMS[self.count]:
            for folder in (root, root / form.folder):
                if any((folder / name).is_file() for name in form.training + form.test):
                    return folder, form
        return None

    def _read_files(self, folder: Path, form: Form, names: tuple[str, ...], size_px: int) -> ImageDataset:
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise DataError(
                f"CIFAR-{self.count} folder {folder}",
                found=f"no {', '.join(missing)}",
                expected=", ".join(names),
                cure=checks.FROM_PUBLISHER,
            )
        parts = [self._checked(form.read(folder / name, self.count), folder / name) for name in names]
        lengths = [len(part.labels) for part in parts]
        if len(set(lengths)) > 1:
            raise DataError(
                f"batch {folder / names[lengths.index(min(lengths))]}",
                found=f"{min(lengths)} images",
                expected=f"{max(lengths)}, as in the others",
                cure=f"the file is cut short: {checks.FROM_PUBLISHER}",
            )
        _check_no_copies(folder, [name for name in form.training + form.test if (folder / name).is_file()])
        paths = [
            f"{name.removesuffix('.bin')}/{row:05d}"
            for name, part in zip(names, parts, strict=True)
            for row in range(len(part.labels))
        ]
        images = np.concatenate([part.pixels for part in parts])
        if size_px != SIZE_PX:
            spec = InputSpec(width=size_px, height=size_px)
            rows = (np.ascontiguousarray(one.transpose(1, 2, 0)) for one in images)
            images = np.stack([resize(row, spec).transpose(2, 0, 1) for row in rows])
        labels = torch.from_numpy(np.concatenate([part.labels for part in parts]))
        return ImageDataset(torch.from_numpy(images), labels, tuple(paths), tuple(paths), self.classes)

    def _checked(self, content: Labelled, path: Path) -> Labelled:
        """The content, if its labels are those of this set."""
        if int(content.labels.max(initial=0)) >= self.count:
            raise DataError(
                f"CIFAR-{self.count} batch {path}",
                found=f"label {int(content.labels.max())}",
                expected=f"0 to {self.count - 1}",
                cure=f"the file is damaged or of another set: {checks.FROM_PUBLISHER}",
            )
        if content.coarse is not None:
            _check_coarse(content.labels, content.coarse, path)
        return content


def _check_coarse(fine: np.ndarray, coarse: np.ndarray, path: Path) -> None:
    """Every fine class lies in one coarse class."""
    pairs = np.unique(np.stack([fine, coarse], 1), axis=0)
    again = np.flatnonzero(np.diff(pairs[:, 0]) == 0)
    if len(again) or int(coarse.max(initial=0)) >= COARSE_CLASSES:
        row = pairs[again[0]] if len(again) else pairs[pairs[:, 1].argmax()]
        raise DataError(
            f"CIFAR-100 batch {path}",
            found=f"fine label {row[0]} under coarse label {row[1]}" + (" and others" if len(again) else ""),
            expected=f"one coarse label below {COARSE_CLASSES} for each fine label",
            cure=f"the file is damaged: {checks.FROM_PUBLISHER}",
        )


def _check_no_copies(folder: Path, names: Sequence[str]) -> None:
    """No file is another's copy, of the other part neither: that would test on images of the training."""
    first: dict[bytes, str] = {}
    for name in names:
        other = first.setdefault(hashlib.sha256((folder / name).read_bytes()).digest(), name)
        if other != name:
            raise DataError(
                f"batch {folder / name}",
                found=f"the images of {other}",
                expected="images of its own",
                cure=f"the file is a copy: {checks.FROM_PUBLISHER}",
            )


def _names(path: Path, key: str) -> list[str]:
    if not key:
        return path.read_text(encoding="utf-8-sig", errors="replace").split()
    names = pickles.read(path).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise _unlike(path, f"{key} is {_kind(names)}", f"`{key}` as a list of names")
    return [name.decode("latin-1") if isinstance(name, bytes) else name for name in names]
