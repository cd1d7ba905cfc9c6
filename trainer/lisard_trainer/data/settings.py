"""The recipe section `data:`: which pictures are trained on, how they are read and split, and the words for the card.

Typed and frozen like every part of a recipe; recipes.py reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

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


@dataclass(frozen=True)
class Data:
    """Which pictures: a folder (empty: --data or LISARD_DATA), its kind, the input size, the split, words for the card.

    kind `auto` looks at the folder. tracks (kind `folder`): `name` splits by the track in <track>_<frame>, `none` by
    picture, `auto` by track when all names are two numbers. gtsrb_roi cuts the sign out of the original GTSRB pictures.
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
