"""The recipe section `data:`: which images are trained on, how they are read and split, and the words for the card.

Typed and frozen like every part of a recipe; recipes.py reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lisard_ros.bundle.manifest import MAX_SIDE_PX
from lisard_ros.errors import UsageError

MAX_MARGIN = 2  # as in a bundle
Kind = Literal["auto", "folder", "gtsrb", "cifar10", "cifar100", "tiny_imagenet", "coco"]


@dataclass(frozen=True)
class Crops:
    """Crops of detection boxes (kind `coco`).

    classes: category names with commas between (empty: all that have boxes). margin: how far a crop reaches beyond its
    box on each side, as a share of the box. min_px: boxes with a shorter side are left out.
    """

    classes: str = ""
    margin: float = 0.15
    min_px: int = 12

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        _check("crops.margin", self.margin, 0 <= self.margin <= MAX_MARGIN, f"0 to {MAX_MARGIN}")
        _check("crops.min_px", self.min_px, self.min_px >= 1, "1 or more")


@dataclass(frozen=True)
class Data:
    """Which images: a folder (empty: --data or LISARD_DATA), its kind, the input size, the split, words for the card.

    kind `auto` looks at the folder. tracks (kind `folder`): `name` splits by the track in <track>_<frame>, `none` by
    image, `auto` by track when all names are two numbers. gtsrb_roi cuts the sign out of the original GTSRB images.
    """

    folder: str = ""
    kind: Kind = "auto"
    size_px: int = 32
    validation_share: float = 0.1
    split_seed: int = 0
    tracks: Literal["auto", "name", "none"] = "auto"
    gtsrb_roi: bool = False
    crops: Crops = field(default_factory=Crops)
    labels: str = ""
    source: str = ""
    licence: str = ""
    attribution: str = ""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        share = self.validation_share
        _check("size_px", self.size_px, 1 <= self.size_px <= MAX_SIDE_PX, f"1 to {MAX_SIDE_PX}")
        _check("split_seed", self.split_seed, self.split_seed >= 0, "0 or more")
        _check("validation_share", share, 0 < share < 1, "more than 0 and less than 1")


def _check(key: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise UsageError(f"recipe key data.{key}", found=value, expected=expected)
