"""What each format of detection data answers: does a folder hold it, and the list of one part."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

from .annotation import Annotations

Part = Literal["train", "val", "test"]
FOLDERS: dict[Part, tuple[str, ...]] = {
    "train": ("train", "training", "train2017", "train2014"),
    "val": ("val", "valid", "validation", "val2017", "val2014"),
    "test": ("test", "testing"),
}


class AnnotationReader(ABC):
    """One format. expected: the files that a folder of it holds."""

    expected: str

    @abstractmethod
    def holds(self, root: Path) -> bool:
        """Whether the folder looks like this format."""

    @abstractmethod
    def read(self, root: Path, part: Part) -> Annotations | None:
        """The list of a part, None where the data set has none; DataError names what is wrong with it."""
