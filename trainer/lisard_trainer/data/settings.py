"""The recipe section `data:`: which images are trained on, how they are read and split, and the words for the card.

Typed and frozen like every part of a recipe; recipes.py reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lisard_ros.bundle.manifest import MAX_SIDE_PX

from ..bounds import NOT_NEGATIVE, PART, SHARE, Bounds, RecipeSection, bounded

MAX_MARGIN = 2  # as in a bundle
Kind = Literal["auto", "folder", "gtsrb", "cifar10", "cifar100", "tiny_imagenet", "coco"]


@dataclass(frozen=True)
class Crops(RecipeSection, section="data.crops"):
    """Crops of detection boxes (kind `coco`).

    classes: category names with commas between (empty: all that have boxes). margin: how far a crop reaches beyond its
    box on each side, as a share of the box. min_px: boxes with a shorter side are left out.
    """

    classes: str = ""
    margin: float = bounded(0.15, Bounds(high=MAX_MARGIN))
    min_px: int = bounded(12, Bounds(1))


@dataclass(frozen=True)
class Data(RecipeSection, section="data"):
    """Which images: a folder (empty: --data or LISARD_DATA), its kind, the input size, the split, words for the card.

    kind `auto` looks at the folder. tracks (kinds `folder` and `gtsrb`): `name` splits by the track in
    <track>_<frame>, `none` by image, `auto` by track when all names are two numbers. gtsrb_roi cuts the sign out of
    the original GTSRB images. balance: 0 trains on each image once in an epoch, 1 on each class equally often; between,
    a class of n images is seen in proportion to n ** (1 - balance). An epoch stays as long as it is.
    """

    folder: str = ""
    kind: Kind = "auto"
    size_px: int = bounded(32, Bounds(1, MAX_SIDE_PX))
    validation_share: float = bounded(0.1, PART)
    split_seed: int = bounded(0, NOT_NEGATIVE)
    tracks: Literal["auto", "name", "none"] = "auto"
    gtsrb_roi: bool = False
    balance: float = bounded(0.0, SHARE)
    crops: Crops = field(default_factory=Crops)
    labels: str = ""
    source: str = ""
    licence: str = ""
    attribution: str = ""
