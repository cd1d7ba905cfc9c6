"""Training images: data sets of several kinds, read once into one uint8 array, split by track, given in batches."""

from .dataset import DataSplit, ImageDataset, Split, batches, check_batch, to_unit
from .folders import DATA_VARIABLE, read
from .kinds import JudgedImages, evaluation, load
from .settings import Crops, Data
from .splitting import split_by_track

__all__ = [
    "DATA_VARIABLE", "Crops", "Data", "DataSplit", "ImageDataset", "JudgedImages", "Split", "batches", "check_batch",
    "evaluation", "load", "read", "split_by_track", "to_unit",
]  # fmt: skip
