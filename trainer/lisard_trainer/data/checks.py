"""What every data set must hold, whatever its format: all its classes, equally many of each where that is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import torch

from lisard_ros.errors import DataError

from .dataset import ImageDataset

FROM_PUBLISHER = "take the data from its publisher again"
SHOWN = 20  # faults of a list


def every_class(dataset: ImageDataset, where: object) -> ImageDataset:
    """The images, if each class has one."""
    empty = [name for name, count in zip(dataset.classes, _counts(dataset), strict=True) if not count]
    if empty:
        raise DataError(
            f"class {empty[0]} of {where}",
            found="no images",
            expected="at least one",
            cure="fill or remove the class",
        )
    return dataset


def balanced(dataset: ImageDataset, where: object) -> ImageDataset:
    """The images, if each class has equally many, as CIFAR and Tiny ImageNet are published."""
    counts = _counts(dataset)
    fewest, most = min(counts), max(counts)
    if fewest != most:
        name = dataset.classes[counts.index(fewest)]
        raise DataError(
            f"data set {where}",
            found=f"{fewest} images of class {name} and {most} of others",
            expected="equally many of each class, as published",
            cure=f"{FROM_PUBLISHER}, or read it as any image folder with data.kind: folder",
        )
    return every_class(dataset, where)


def same_classes(first: Sequence[str], second: Sequence[str], where: object) -> None:
    """Refuse two lists of classes that differ, naming where they do."""
    if tuple(first) == tuple(second):
        return
    missing, extra = sorted(set(first) - set(second)), sorted(set(second) - set(first))
    found = [f"without {_some(missing)}"] * bool(missing) + [f"with {_some(extra)}"] * bool(extra)
    raise DataError(
        f"classes of {where}",
        found=", ".join(found) or "another order",
        expected=f"the {len(first)} classes of the training part",
        cure="both parts must come from one data set",
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _counts(dataset: ImageDataset) -> list[int]:
    return list(torch.bincount(dataset.labels.cpu(), minlength=len(dataset.classes)).tolist())


def refuse(source: str, faults: Sequence[str], expected: str, cure: str) -> DataError:
    """The error that names every fault of a list (the first ones in full when there are very many)."""
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    shown = "; ".join(faults[:SHOWN]) + more
    return DataError(f"{source}: {len(faults)} faults", found=shown, expected=expected, cure=cure)


def is_below(name: PurePosixPath) -> bool:
    """Whether a name stays in the folder that it is relative to."""
    return not name.is_absolute() and ".." not in name.parts


def repeated(values: Iterable[object]) -> list[str]:
    """Values that occur more than once, as text, in order."""
    seen: set[object] = set()
    twice: dict[object, None] = {}
    for value in values:
        if value in seen:
            twice[value] = None
        seen.add(value)
    return [str(value) for value in twice]
