"""The pictures an evaluation is made on: the data set's test or held-back pictures, or a folder of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from lisard_ros.errors import DataError, UsageError, unknown_name

from .. import data
from ..checkpoint import Checkpoint
from .run import spread


def unseen(saved: Checkpoint, folder: str | None) -> tuple[data.Pictures, str]:
    """Pictures that a checkpoint was not trained on, and what they are in words: the test set where there is one."""
    found = data.evaluation(saved.recipe.data, folder)
    return found.pictures, f"tracks that no model was trained on ({found.name})"


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
    check_limit(limit)
    return pictures if limit is None else pictures.take(spread(len(pictures), limit))


def check_limit(limit: int | None) -> None:
    """A limit of nothing is refused."""
    if limit is not None and limit < 1:
        raise UsageError("--limit", found=limit, expected="1 or more pictures", cure="leave it out for all")


def strangers(saved: Mapping[str, Checkpoint]) -> tuple[str, ...]:
    """Names of checkpoints trained on other pictures than the first: held-back tracks may be known to them."""

    def split(checkpoint: Checkpoint) -> tuple[object, ...]:
        settings = checkpoint.recipe.data
        return checkpoint.data_sha256, settings.split_seed, settings.validation_share

    first = next(iter(saved.values()))
    return tuple(name for name, checkpoint in saved.items() if split(checkpoint) != split(first))
