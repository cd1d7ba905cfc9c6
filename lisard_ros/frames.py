"""The types that travel through the package: camera frames, regions, answers and stage times.

Small and frozen, with units in their names, so that node, bag replay, trainer and tests speak of the same things.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.errors import ImageError

Colour = Literal["rgb", "bgr", "mono"]
Pixels = NDArray[np.uint8]
GREY_LEVELS = 255  # steps of an 8-bit channel: a pixel of 1.0 in [0, 1] is level 255
BoxXyxyPx = tuple[float, float, float, float]

_TO_RGB = {"bgr": cv2.COLOR_BGR2RGB, "mono": cv2.COLOR_GRAY2RGB}


def to_rgb(pixels: Pixels, colour: Colour) -> Pixels:
    """Return `pixels` as contiguous uint8 RGB [H, W, 3]; a copy unless they are that already."""
    if colour == "rgb":
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), _TO_RGB[colour]), np.uint8)


def pixels_sha256(rgb: Pixels) -> str:
    """Hash RGB pixels together with their size, so that equal bytes of another shape differ.

    rgb: uint8 [H, W, 3]. A stored perturbation is keyed by this value.
    """
    digest = hashlib.sha256(f"rgb8 {rgb.shape[1]}x{rgb.shape[0]}\n".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One camera image, usually a view on the message that brought it.

    image: uint8 [H, W, 3] ('rgb' or 'bgr') or [H, W] ('mono'); rows may be strided; the message owns the buffer,
    so nobody writes into it. stamp_ns: the camera's time in nanoseconds (ROS time of the header).
    """

    image: Pixels = field(repr=False)
    colour: Colour
    stamp_ns: int
    frame_id: str
    camera: str

    def __post_init__(self) -> None:
        """Refuse an array that is not an image of the declared colour order."""
        shape = self.image.shape
        channels_fit = len(shape) == 2 if self.colour == "mono" else len(shape) == 3 and shape[2] == 3
        if self.image.dtype != np.uint8 or not channels_fit or 0 in shape:
            raise ImageError(
                f"not a {self.colour} image",
                found=f"{self.image.dtype} {list(shape)}",
                expected="uint8 [H, W]" if self.colour == "mono" else "uint8 [H, W, 3], not empty",
            )

    @property
    def width_px(self) -> int:
        """Image width in pixels."""
        return int(self.image.shape[1])

    @property
    def height_px(self) -> int:
        """Image height in pixels."""
        return int(self.image.shape[0])

    def rgb(self) -> Pixels:
        """Return the image as contiguous uint8 RGB [H, W, 3]."""
        return to_rgb(self.image, self.colour)

    def sha256(self) -> str:
        """Hash of the RGB pixels of the whole frame."""
        return pixels_sha256(self.rgb())


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One possible class of an object: its label, its index in the bundle's label list and a score in [0, 1].

    `index` is -1 for a label that another detector gave and the bundle does not know.
    """

    label: str
    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a frame to look at; `box_xyxy_px` None means the whole frame.

    label and score: of the detector that found the box, if it gave them.
    """

    box_xyxy_px: BoxXyxyPx | None = None
    label: str | None = None
    score: float | None = None
    id: str = ""

    def __post_init__(self) -> None:
        """Refuse a box that holds NaN or infinity."""
        if self.box_xyxy_px is not None and not all(map(math.isfinite, self.box_xyxy_px)):
            raise ImageError("a region's box is not finite", found=self.box_xyxy_px, expected="four finite pixels")


WHOLE_FRAME = Region()


@dataclass(frozen=True, slots=True)
class Classification:
    """What the whole frame shows; hypotheses by falling score, possibly none."""

    hypotheses: tuple[Hypothesis, ...]


@dataclass(frozen=True, slots=True)
class Detection:
    """An object at a box in pixels of the source frame; the first hypothesis is the finest one."""

    box_xyxy_px: BoxXyxyPx
    hypotheses: tuple[Hypothesis, ...]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Detections:
    """All objects of one frame; an empty tuple is a valid answer."""

    items: tuple[Detection, ...]


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Where the time of one frame went, in milliseconds of a steady clock.

    wait: arrival to start of processing. Stages that work on a batch count the whole batch for each of its frames,
    because that is how long the frame waited for them.
    """

    wait_ms: float = 0.0
    decode_ms: float = 0.0
    preprocess_ms: float = 0.0
    inject_ms: float = 0.0
    infer_ms: float = 0.0
    postprocess_ms: float = 0.0

    @property
    def total_ms(self) -> float:
        """Sum of all stages."""
        return self.wait_ms + self.decode_ms + self.preprocess_ms + self.inject_ms + self.infer_ms + self.postprocess_ms

    def plus(
        self, *, preprocess_ms: float = 0.0, inject_ms: float = 0.0, infer_ms: float = 0.0, postprocess_ms: float = 0.0
    ) -> StageTimes:
        """Return these times with more of some stages."""
        return StageTimes(
            self.wait_ms,
            self.decode_ms,
            self.preprocess_ms + preprocess_ms,
            self.inject_ms + inject_ms,
            self.infer_ms + infer_ms,
            self.postprocess_ms + postprocess_ms,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The answer for one frame: a classification (whole frame looked at), detections (boxes looked at), or both.

    faint: boxes of a detector whose score is too low for the answer, best first, for a tracker; only where asked for.
    """

    frame: Frame
    classification: Classification | None
    detections: Detections | None
    times: StageTimes = field(default_factory=StageTimes)
    faint: tuple[Detection, ...] = ()
