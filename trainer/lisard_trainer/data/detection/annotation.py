"""One typed annotation for every format of detection data, what makes a box a bad one, and what a reader answers.

Readers fill these; nothing behind them knows the format that a box came from.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from lisard_ros.frames import BoxXyxyPx

from ..checks import is_below, refuse, repeated
from ..folders import PartName
from ..reader import FolderKind

SLACK_PX = 2.0  # how far rounding in a list may push a box out of its image; it is clipped
LEAST_PX = 1.0  # a narrower box shows nothing
MOST_ELONGATED = 100.0  # longer side over shorter


@dataclass(frozen=True)
class Box:
    """A box in pixels of the source image, or, where the list gives shares, in shares of its size.

    where: what to look for in the list, for messages. ignored: a crowd or a region that is not labelled; nothing is
    learnt from it, and what is found there counts neither way.
    """

    label: str
    xyxy: BoxXyxyPx
    where: str
    ignored: bool = False


@dataclass(frozen=True)
class Annotated:
    """An image, its file below the root, its boxes, and its size if the list gives one.

    in_shares: boxes are given in shares of width and height (YOLO).
    """

    file: str
    boxes: tuple[Box, ...]
    width_height_px: tuple[int, int] | None = None
    in_shares: bool = False


@dataclass(frozen=True)
class Annotations:
    """The list of one part of a data set: images below `root`, names of its classes."""

    root: Path
    classes: tuple[str, ...]
    images: tuple[Annotated, ...]
    source: str


def in_pixels(image: Annotated, width: int, height: int) -> tuple[Box, ...]:
    """The boxes in pixels of an image of this size."""
    if not image.in_shares:
        return image.boxes
    shares = ((box, *box.xyxy) for box in image.boxes)
    return tuple(
        replace(box, xyxy=(left * width, top * height, right * width, bottom * height))
        for box, left, top, right, bottom in shares
    )


def fault_of(box: Box, width: int, height: int) -> str | None:
    """What is wrong with a box in pixels of its image; None for a good one."""
    left, top, right, bottom = box.xyxy
    if not all(map(math.isfinite, box.xyxy)):
        return "numbers that are not finite"
    wide, high = right - left, bottom - top
    if wide <= 0 or high <= 0:
        return f"zero area ({wide:g} x {high:g} px)"
    if min(left, top) < -SLACK_PX or right > width + SLACK_PX or bottom > height + SLACK_PX:
        return f"outside its image of {width}x{height} px"
    if min(wide, high) < LEAST_PX:
        return f"less than {LEAST_PX:g} px across"
    if max(wide, high) > MOST_ELONGATED * min(wide, high):
        return f"a degenerate aspect ratio ({wide:g} x {high:g} px)"
    return None


def clipped(box: Box, width: int, height: int) -> Box:
    """The box, no farther than the border of its image."""
    left, top, right, bottom = box.xyxy
    return replace(box, xyxy=(max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)))


def check_files(annotations: Annotations) -> None:
    """Every listed image lies below the root and is there, once."""
    names = [image.file for image in annotations.images]
    faults = [f"{name} leads out of the folder" for name in names if not is_below(PurePosixPath(name))]
    faults += [f"image {name} twice" for name in repeated(names)]
    faults += [f"no image {name}" for name in names if not (annotations.root / name).is_file()]
    if faults:
        raise refuse(annotations.source, faults, f"images of {annotations.root}", "take list and images together")


class AnnotationReader(FolderKind):
    """One format of lists of boxes."""

    @abstractmethod
    def read(self, root: Path, part: PartName) -> Annotations | None:
        """The list of a part, None where the data set has none; DataError names what is wrong with it."""
