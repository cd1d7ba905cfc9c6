"""What each kind of data set answers: does a folder hold it, and which images are for training, choosing, judging."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from lisard_ros.errors import DataError

from . import folders
from .dataset import ImageDataset
from .settings import Data

K = TypeVar("K", bound="FolderKind")
SHOWN = 5  # names of what lies in a folder


class FolderKind(ABC):
    """One kind of data set, or format of its lists. expected: the files that a folder of it holds."""

    expected: str

    @abstractmethod
    def holds(self, root: Path) -> bool:
        """Whether the folder looks like this kind."""


def find(kinds: Mapping[str, K], wanted: str, folder: str | None, expected: str) -> tuple[Path, K]:
    """The data folder, and the kind of what lies in it.

    Args:
        kinds: By the name that the recipe key data.kind has for each, in the order in which `auto` asks them.
        wanted: The recipe's data.kind.
        folder: The data folder; empty: LISARD_DATA.
        expected: What lies in such a folder, where the kind is left open.

    Raises:
        DataError: There is no folder, or what lies in it is not what the recipe says.
    """
    kind = kinds.get(wanted)
    root = folders.find_root(folder, kind.expected if kind else expected)
    looks_like = next((name for name, one in kinds.items() if one.holds(root)), None)
    if kind is None and looks_like:
        return root, kinds[looks_like]
    if kind and kind.holds(root):
        return root, kind
    names = sorted(path.name for path in root.iterdir())
    more = ", ..." if len(names) > SHOWN else ""
    found = f"only {', '.join(names[:SHOWN])}{more}" if names else "an empty folder"
    if kind is None:
        every = "; or ".join(f"{name}: {one.expected}" for name, one in kinds.items())
        raise DataError(f"training data {root}", found=found, expected=every, cure="check --data")
    found = f"what looks like {looks_like}" if looks_like else found
    cure = f"set data.kind: {looks_like} in the recipe, or check --data" if looks_like else "check --data"
    raise DataError(f"{wanted} data {root}", found=found, expected=kind.expected, cure=cure)


class Reader(FolderKind):
    """One kind of labelled images. title: its name in texts."""

    title: str
    test_title = "official test set"

    @abstractmethod
    def training(self, root: Path, settings: Data) -> ImageDataset:
        """The training images; DataError names what is wrong with the files."""

    @abstractmethod
    def test(self, root: Path, settings: Data) -> ImageDataset | None:
        """The official test images, None if the folder has none."""

    def test_name(self, root: Path) -> str:
        """What to call the test images of this folder."""
        return self.test_title

    def validation(self, root: Path, settings: Data) -> ImageDataset | None:
        """Images that the data set itself holds back for choosing a model; None: a share of the training part."""
        return None
