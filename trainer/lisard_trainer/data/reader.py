"""What each kind of data set answers: does a folder hold it, and which images are for training, choosing, judging."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from .dataset import ImageDataset
from .settings import Data


class Reader(ABC):
    """One kind of data set. title: its name in texts. expected: the files that a folder of it holds."""

    title: str
    expected: str
    test_title = "official test set"

    @abstractmethod
    def holds(self, root: Path) -> bool:
        """Whether the folder looks like this kind."""

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
