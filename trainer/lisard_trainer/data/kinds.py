"""From the recipe section `data:` to pictures: training and validation parts, and what an evaluation uses."""

from __future__ import annotations

from dataclasses import dataclass

from . import folders
from .pictures import Pictures, Split, split_by_track
from .settings import Data


@dataclass(frozen=True)
class Evaluation:
    """Pictures that a model is judged on, and what to call them."""

    name: str
    pictures: Pictures


def load(settings: Data, folder: str | None) -> Split:
    """Training and validation pictures of the folder (empty: the recipe's, then LISARD_DATA)."""
    pictures = folders.read(folders.find_folder(folder or settings.folder), settings.size_px)
    return split_by_track(pictures, settings.validation_share, settings.split_seed)


def evaluation(settings: Data, folder: str | None) -> Evaluation:
    """The official test set when the data set has one and it is there, else the held-back validation pictures."""
    return Evaluation("held-back validation pictures", load(settings, folder).validation)
