"""The recipe section `data:` of a detector: which images and boxes, the input size, the split, words for the card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lisard_ros.errors import UsageError

from ...bounds import NOT_NEGATIVE, PART, RecipeSection, bounded

STRIDE_PX = 32  # of the coarsest level: input sides are multiples of it
MAX_SIDE_PX = 4096


@dataclass(frozen=True)
class DetectionData(RecipeSection, section="data"):
    """A folder (empty: --data or LISARD_DATA), its kind, and the input, to which images are letterboxed.

    classes: names with commas between (empty: all of the list), in the order of the bundle's labels; boxes of other
    classes are left out. bad_boxes: `refuse` ends with the names of all bad boxes, `drop` leaves them out and says so.
    validation_share: of the training images, where the data set holds back none itself.
    """

    folder: str = ""
    kind: Literal["auto", "coco", "kitti", "yolo", "voc"] = "auto"
    width_px: int = 320
    height_px: int = 320
    classes: str = ""
    bad_boxes: Literal["refuse", "drop"] = "refuse"
    validation_share: float = bounded(0.15, PART)
    split_seed: int = bounded(0, NOT_NEGATIVE)
    source: str = ""
    licence: str = ""
    attribution: str = ""

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        super().__post_init__()
        for key in ("width_px", "height_px"):
            side = getattr(self, key)
            if side % STRIDE_PX or not STRIDE_PX <= side <= MAX_SIDE_PX:
                raise UsageError(
                    f"recipe key data.{key}",
                    found=side,
                    expected=f"a multiple of {STRIDE_PX} px",
                    cure=f"use {max(STRIDE_PX, round(side / STRIDE_PX) * STRIDE_PX)}",
                )

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the classes that are asked for; none means all."""
        return tuple(name.strip() for name in self.classes.split(",") if name.strip())
