"""The pictures an evaluation is made on: the data set's test or held-back pictures, or a folder of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from lisard_ros.errors import DataError, unknown_name

from .... import data
from ....data.subset import spread
from ....evaluation.models import SHIPPED
from ....training import checkpoint
from ....training.checkpoint import Checkpoint


def unseen(saved: Checkpoint, folder: str | None) -> tuple[data.Pictures, str]:
    """Pictures that a checkpoint was not trained on, and what they are in words: the test set where there is one.

    DataError where the data set is not that of the training, so that what it holds back may have been learnt from.
    """
    found = data.evaluation(saved.recipe.data, folder)
    check_classes(saved, found.pictures)
    if found.training_sha256:
        what, cure = f"data to evaluate {saved.recipe.name} on", "give the training's own --data, or other --pictures"
        checkpoint.check_pictures(saved, found.training_sha256, what, cure)
    return found.pictures, f"{unit(found.pictures)} that no model was trained on ({found.name})"


def unit(pictures: data.Pictures) -> str:
    """What is drawn independently: tracks where several pictures are of one, else pictures."""
    return "tracks" if len(set(pictures.tracks)) < len(pictures) else "pictures"


def check_classes(saved: Checkpoint, pictures: data.Pictures) -> None:
    """DataError unless the pictures have the classes of the training, in their order."""
    checkpoint.check_classes(saved, pictures.classes, f"data to evaluate {saved.recipe.name} on", "check --data")


def of_folder(folder: Path, saved: Checkpoint) -> data.Pictures:
    """Pictures <class>/<track>_<frame>.png; class folders are named as in training, some may be missing."""
    if not folder.is_dir():
        raise DataError("--pictures", found=f"no folder {folder}", expected="<folder>/<class>/<track>_<frame>.png")
    read = data.read(folder, saved.recipe.data.size_px)
    for name in read.classes:
        if name not in saved.classes:
            raise unknown_name(f"class folder of {folder}", name, saved.classes, DataError)
    place = torch.tensor([saved.classes.index(name) for name in read.classes])
    return replace(read, labels=place[read.labels], classes=saved.classes)


def limited(pictures: data.Pictures, limit: int | None) -> data.Pictures:
    """So many pictures, evenly spread; all of them without a limit."""
    return pictures if limit is None else pictures.take(spread(len(pictures), limit))


def split_mismatch(saved: Mapping[str, Checkpoint], shipped_sha256: str = "") -> tuple[str, ...]:
    """Names of models trained on other pictures than the first: held-back tracks may be known to them.

    shipped_sha256: of the pictures that the bundle was trained on, by its card (empty: not known).
    """

    def split(one: Checkpoint) -> tuple[object, ...]:
        return one.data_sha256, one.recipe.data.split_seed, one.recipe.data.validation_share

    first = next(iter(saved.values()))
    own = (SHIPPED,) if shipped_sha256 not in ("", first.data_sha256) else ()
    return own + tuple(name for name, one in saved.items() if split(one) != split(first))
