"""What the stored attacks on a classifier are made on: images and their true classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lisard_ros.attacks.model import Untargeted
from lisard_ros.bundle import Bundle
from lisard_ros.errors import DataError
from lisard_ros.evaluation import references
from lisard_ros.frames import pixels_sha256

from ... import data
from ..base import AttackTargets


def known(bundle: Bundle, classes: Sequence[str], folder: Path | None) -> AttackTargets:
    """The bundle's self-test images and, if given, those of a folder; each image once."""
    images: list[np.ndarray] = []
    labels: list[int] = []
    if bundle.manifest.self_test is not None:
        reference = references.load(bundle, bundle.manifest.self_test)
        images += [np.ascontiguousarray(frame.image) for frame in reference.frames]
        labels += reference.labels.tolist()
    if folder is not None:
        more = data.read(folder, bundle.manifest.input.width)
        for name in (more.classes[label] for label in more.labels.tolist()):
            if name not in classes:
                raise DataError("class folder of the images", found=name, expected="a class of the training data")
            labels.append(list(classes).index(name))
        images += list(more.images.permute(0, 2, 3, 1).contiguous().numpy())
    first = {pixels_sha256(image): position for position, image in reversed(list(enumerate(images)))}
    chosen = sorted(first.values())
    x = np.stack([images[position] for position in chosen]).transpose(0, 3, 1, 2)
    keys = tuple(pixels_sha256(images[position]) for position in chosen)
    criterion = Untargeted(np.array([labels[position] for position in chosen]))
    return AttackTargets(data.to_unit(torch.from_numpy(x)), criterion, keys)


def of_dataset(dataset: data.ImageDataset) -> AttackTargets:
    """Training images."""
    return AttackTargets(data.to_unit(dataset.images), Untargeted(dataset.labels.numpy()))
