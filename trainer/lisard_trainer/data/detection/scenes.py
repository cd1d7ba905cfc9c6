"""Detection images in memory: letterboxed to the input as uint8, boxes in input pixels, on any device.

Letterboxing is the runtime's own (lisard_ros/inference/preprocess.py), so training and vehicle cannot disagree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lisard_ros.attacks.model import BoxCriterion, BoxLoss
from lisard_ros.bundle.manifest import InputSpec

from ..dataset import DataSplit

NOTHING, IGNORED = -1, -2  # labels of padding, and of regions from which nothing is learnt


@dataclass(frozen=True)
class Scenes:
    """Images with boxes; M is the largest number of boxes in one of them.

    images uint8 [N,3,H,W] RGB, channels last in memory; boxes float32 [N,M,4], corners in input pixels; labels int64
    [N,M], NOTHING for padding, IGNORED for ignored regions. content float32 [N,4]: where in the input the image lies,
    the rest is padding. sizes_px int64 [N,2]: width and height of the source images. paths: below the folder.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    content: Tensor
    sizes_px: Tensor
    paths: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Scenes:
        """The scenes at these positions, in this order."""
        index = torch.as_tensor(np.asarray(positions, np.int64), device=self.images.device)
        return replace(
            self,
            images=self.images[index].contiguous(memory_format=torch.channels_last),
            boxes=self.boxes[index],
            labels=self.labels[index],
            content=self.content[index],
            sizes_px=self.sizes_px[index],
            paths=tuple(self.paths[int(i)] for i in positions),
        )

    def to(self, device: torch.device | str) -> Scenes:
        """The same scenes on a device."""
        names = ("images", "boxes", "labels", "content", "sizes_px")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def sha256(self) -> str:
        """Hash of every pixel, box and label, so that a card can name its data."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for tensor in (self.images, self.boxes, self.labels, self.content):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def criterion(self, loss: BoxLoss = "joint", rows: slice = slice(None)) -> BoxCriterion:
        """What an attack on some of the scenes drives a detector away from: their true boxes."""
        return BoxCriterion(self.boxes[rows].numpy(), self.labels[rows].numpy(), loss)

    def counts(self) -> tuple[int, ...]:
        """Boxes of each class."""
        own = self.labels[self.labels >= 0]
        return tuple(torch.bincount(own.flatten(), minlength=len(self.classes)).tolist())


class SceneSplit(DataSplit[Scenes]):
    """Training and validation scenes; no image is in both."""


def input_spec(width_px: int, height_px: int) -> InputSpec:
    """How a detector's input is laid out, in training and in the bundle."""
    return InputSpec(width=width_px, height=height_px, resize="letterbox")
