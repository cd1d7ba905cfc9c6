"""The images an evaluation is made on: the data set's test or held-back images, or a folder of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lisard_ros.errors import DataError, unknown_name
from lisard_ros.evaluation.references import spread

from .... import data
from ....evaluation.models import SHIPPED
from ....training import checkpoint
from ....training.checkpoint import Checkpoint


def unseen(saved: Checkpoint, folder: str | None) -> tuple[data.ImageDataset, str]:
    """Images that a checkpoint was not trained on, and what they are in words: the test set where there is one.

    DataError where the data set is not that of the training, so that what it holds back may have been learnt from.
    """
    found = data.evaluation(saved.recipe.data, folder)
    check_classes(saved, found.dataset)
    if found.training_sha256:
        what, cure = f"data to evaluate {saved.recipe.name} on", "give the training's own --data, or other --images"
        checkpoint.check_images(saved, found.training_sha256, what, cure)
    return found.dataset, f"{unit(found.dataset)} that no model was trained on ({found.name})"


def unit(dataset: data.ImageDataset) -> str:
    """What is drawn independently: tracks where several images are of one, else images."""
    return "tracks" if len(set(dataset.tracks)) < len(dataset) else "images"


def check_classes(saved: Checkpoint, dataset: data.ImageDataset) -> None:
    """DataError unless the images have the classes of the training, in their order."""
    checkpoint.check_classes(saved, dataset.classes, f"data to evaluate {saved.recipe.name} on", "check --data")


def of_folder(folder: Path, saved: Checkpoint) -> data.ImageDataset:
    """Images <class>/<track>_<frame>.png; class folders are named as in training, some may be missing."""
    if not folder.is_dir():
        raise DataError("--images", found=f"no folder {folder}", expected="<folder>/<class>/<track>_<frame>.png")
    read = data.read(folder, saved.recipe.data.size_px)
    for name in read.classes:
        if name not in saved.classes:
            raise unknown_name(f"class folder of {folder}", name, saved.classes, DataError)
    place = torch.tensor([saved.classes.index(name) for name in read.classes])
    return replace(read, labels=place[read.labels], classes=saved.classes)


def limited(dataset: data.ImageDataset, limit: int | None) -> data.ImageDataset:
    """So many images, evenly spread; all of them without a limit."""
    return dataset if limit is None else dataset.take(spread(np.arange(len(dataset)), limit))


def split_mismatch(saved: Mapping[str, Checkpoint], shipped_sha256: str = "") -> tuple[str, ...]:
    """Names of models trained on other images than the first: held-back tracks may be known to them.

    shipped_sha256: of the images that the bundle was trained on, by its card (empty: not known).
    """

    def split(one: Checkpoint) -> tuple[object, ...]:
        return one.data_sha256, one.recipe.data.split_seed, one.recipe.data.validation_share

    first = next(iter(saved.values()))
    own = (SHIPPED,) if shipped_sha256 not in ("", first.data_sha256) else ()
    return own + tuple(name for name, one in saved.items() if split(one) != split(first))
