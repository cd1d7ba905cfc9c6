"""From the recipe section `data:` to images: training and validation parts, and what an evaluation uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import checks, files, folders, reader
from .cifar import Cifar
from .coco import CocoCrops
from .dataset import ImageDataset, Split
from .gtsrb import Gtsrb
from .reader import Reader
from .settings import Data
from .splitting import split
from .tiny_imagenet import TinyImageNet


class Folder(Reader):
    """Any class folders, with or without parts for training, validation and test."""

    title = "image folder"
    expected = folders.EXPECTED_LAYOUT
    test_title = "test folder"

    def holds(self, root: Path) -> bool:
        """Whether there are folders that may be classes."""
        return bool(folders.subfolders(folders.training_folder(root)))

    def training(self, root: Path, settings: Data) -> ImageDataset:
        """The images of train/, or of the folder itself."""
        listing = folders.with_tracks(folders.list_classes(folders.training_folder(root)), settings)
        return files.decode(listing, settings.size_px)

    def validation(self, root: Path, settings: Data) -> ImageDataset | None:
        """The images of val/."""
        return self._other(root, folders.VALIDATION_NAMES, settings)

    def test(self, root: Path, settings: Data) -> ImageDataset | None:
        """The images of test/."""
        return self._other(root, folders.TEST_NAMES, settings)

    def _other(self, root: Path, names: tuple[str, ...], settings: Data) -> ImageDataset | None:
        folder = folders.part_of(root, names)
        if folder is None or folders.training_folder(root) == root:
            return None
        listing = folders.with_tracks(folders.list_classes(folder), settings)
        checks.same_classes(folders.class_names(folders.training_folder(root)), listing.classes, folder)
        return files.decode(listing, settings.size_px)


# In the order in which `auto` asks them; `folder` takes all that is left.
READERS: dict[str, Reader] = {
    "cifar10": Cifar(10),
    "cifar100": Cifar(100),
    "tiny_imagenet": TinyImageNet(),
    "coco": CocoCrops(),
    "gtsrb": Gtsrb(),
    "folder": Folder(),
}


@dataclass(frozen=True)
class JudgedImages:
    """Images that a model is judged on, and what to call them.

    training_sha256: where they were held back from training, of the images that were not (empty: a test set).
    """

    name: str
    dataset: ImageDataset
    training_sha256: str = ""


def load(settings: Data, folder: str | None) -> Split:
    """Training and validation images of the folder (empty: the recipe's, then LISARD_DATA).

    Validation images are the data set's own where it has some beside its test set, else a share of the tracks.
    """
    root, kind = find(settings, folder)
    dataset, own = kind.training(root, settings), kind.validation(root, settings)
    return Split(dataset, own) if own else split(dataset, settings.validation_share, settings.split_seed)


def evaluation(settings: Data, folder: str | None) -> JudgedImages:
    """The official test set when the data set has one and it is there, else the validation images of `load`."""
    root, kind = find(settings, folder)
    test = kind.test(root, settings)
    if test is not None:
        return JudgedImages(f"{kind.title}, {kind.test_name(root)}", test)
    parts = load(settings, folder)
    return JudgedImages(f"{kind.title}, validation images", parts.validation, parts.train.sha256())


def find(settings: Data, folder: str | None) -> tuple[Path, Reader]:
    """The data folder (empty: the recipe's, then LISARD_DATA) and the reader for what lies in it."""
    return reader.find(READERS, settings.kind, folder or settings.folder, folders.EXPECTED_LAYOUT)
