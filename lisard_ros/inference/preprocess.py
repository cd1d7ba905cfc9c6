"""The one preprocessing of the project: from frames to the model's input, driven by the bundle's `InputSpec`.

Trainer, ONNX, TensorRT, bag replay and node all go through here, so they cannot disagree. Images stay on the 8-bit
grid until they are scaled to [0, 1]; perturbations are added in [0, 1], before normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.errors import ImageError
from lisard_ros.frames import BoxXyxyPx, Colour, Frame, Pixels, Region, to_rgb

Tensor = NDArray[np.float32]
_FAR_PX = 1e9  # farther out than any frame; keeps the arithmetic of absurd boxes finite


@dataclass(frozen=True, slots=True)
class Fit:
    """How an image was laid into the model's input: source = (input - offset) / scale, per axis."""

    scale_x: float
    scale_y: float
    offset_x_px: float
    offset_y_px: float

    def to_source(self, boxes_xyxy_px: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map boxes [M, 4] from input pixels to source pixels."""
        return (np.asarray(boxes_xyxy_px, np.float64) - self._offset) / self._scale

    def to_input(self, boxes_xyxy_px: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map boxes [M, 4] from source pixels to input pixels."""
        return np.asarray(boxes_xyxy_px, np.float64) * self._scale + self._offset

    @property
    def _scale(self) -> NDArray[np.float64]:
        return np.array([self.scale_x, self.scale_y] * 2)

    @property
    def _offset(self) -> NDArray[np.float64]:
        return np.array([self.offset_x_px, self.offset_y_px] * 2)


def crop(frame: Frame, region: Region, margin: float = 0.0) -> Pixels:
    """Cut a region out of a frame as contiguous uint8 RGB [h, w, 3].

    margin: share of the box's width and height added on each side; the crop ends at the frame's border.
    ImageError if nothing of the box lies inside the frame.
    """
    x0, y0, x1, y1 = crop_bounds_px(frame, region.box_xyxy_px, margin)
    return to_rgb(frame.image[y0:y1, x0:x1], frame.colour)


def crop_bounds_px(frame: Frame, box: BoxXyxyPx | None, margin: float) -> tuple[int, int, int, int]:
    """Return the whole pixels (x0, y0, x1, y1), end exclusive, that a box with its margin covers."""
    if box is None:
        return 0, 0, frame.width_px, frame.height_px
    left, top, right, bottom = (min(max(float(v), -_FAR_PX), _FAR_PX) for v in box)
    wide, high = (right - left) * margin, (bottom - top) * margin
    x0, x1 = (min(max(v, 0), frame.width_px) for v in (math.floor(left - wide), math.ceil(right + wide)))
    y0, y1 = (min(max(v, 0), frame.height_px) for v in (math.floor(top - high), math.ceil(bottom + high)))
    if x1 <= x0 or y1 <= y0:
        raise ImageError(
            "a box covers no pixel of the frame",
            found=tuple(round(v, 1) for v in box),
            expected=f"x0 < x1, y0 < y1 inside {frame.width_px}x{frame.height_px}",
        )
    return x0, y0, x1, y1


def fit(width_px: int, height_px: int, spec: InputSpec) -> Fit:
    """Compute how an image of this size is laid into the input."""
    if spec.resize == "stretch":
        return Fit(spec.width / width_px, spec.height / height_px, 0.0, 0.0)
    new_width, new_height = _letterbox_size(width_px, height_px, spec)
    left, top = (spec.width - new_width) // 2, (spec.height - new_height) // 2
    return Fit(new_width / width_px, new_height / height_px, float(left), float(top))


def resize(rgb: Pixels, spec: InputSpec) -> Pixels:
    """Bring an image to uint8 [spec.height, spec.width, 3], as `spec.resize` and `spec.interpolation` say.

    Channels are scaled alike, so their order does not matter.
    """
    scaled, top, left = _laid(rgb, spec)
    height, width = scaled.shape[:2]
    if (height, width) == (spec.height, spec.width):
        return scaled
    canvas = np.full((spec.height, spec.width, 3), spec.pad, np.uint8)
    canvas[top : top + height, left : left + width] = scaled
    return canvas


def prepare(crops: Sequence[Pixels], spec: InputSpec, colours: Sequence[Colour] | None = None) -> Tensor:
    """Turn crops of any size into float32 [N, 3, H, W] in [0, 1], channels in the order of `spec.colour`.

    colours: of each crop; None means that all are RGB. Crops may be views: nothing of their full size is copied.
    Every value is k/255 with a whole k, so that stored perturbations meet exactly the pixels they were made for.
    """
    batch = np.empty((len(crops), 3, spec.height, spec.width), np.float32)
    usual: Colour = "rgb"
    orders = [usual] * len(crops) if colours is None else colours
    for row, (pixels, colour) in enumerate(zip(crops, orders, strict=True)):
        coloured = to_rgb(pixels, colour) if colour == "mono" else pixels
        scaled, top, left = _laid(coloured, spec)
        height, width = scaled.shape[:2]
        if (height, width) != (spec.height, spec.width):
            batch[row] = spec.pad
        planes = scaled.transpose(2, 0, 1)
        turn = (colour == "bgr") != (spec.colour == "bgr")
        batch[row, :, top : top + height, left : left + width] = planes[::-1] if turn else planes
    return np.divide(batch, np.float32(255), out=batch)


def normalise(x: Tensor, spec: InputSpec) -> Tensor:
    """Apply (x - mean) / std per channel; returns `x` itself when that changes nothing."""
    if spec.mean == (0.0, 0.0, 0.0) and spec.std == (1.0, 1.0, 1.0):
        return x
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (spec.mean, spec.std))
    return np.asarray((x - mean) / std, np.float32)


def _letterbox_size(width_px: int, height_px: int, spec: InputSpec) -> tuple[int, int]:
    scale = min(spec.width / width_px, spec.height / height_px)
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


def _laid(rgb: Pixels, spec: InputSpec) -> tuple[Pixels, int, int]:
    """An image scaled for the input, and the row and column at which it is laid into it."""
    if spec.resize == "stretch":
        return _scaled(rgb, spec.width, spec.height, spec), 0, 0
    laid = fit(rgb.shape[1], rgb.shape[0], spec)
    width, height = _letterbox_size(rgb.shape[1], rgb.shape[0], spec)
    return _scaled(rgb, width, height, spec), int(laid.offset_y_px), int(laid.offset_x_px)


def _scaled(rgb: Pixels, width: int, height: int, spec: InputSpec) -> Pixels:
    if rgb.shape[:2] == (height, width):
        return rgb
    averages = spec.interpolation == "area" and width < rgb.shape[1] and height < rgb.shape[0]
    how = cv2.INTER_AREA if averages else cv2.INTER_LINEAR
    while averages and _halves(rgb.shape[1], width) and _halves(rgb.shape[0], height):
        rgb = np.asarray(cv2.resize(rgb, (rgb.shape[1] // 2, rgb.shape[0] // 2), interpolation=how), np.uint8)
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=how), np.uint8)


def _halves(length: int, wanted: int) -> bool:
    """Whether to average pairs first: the same mean but for rounding, and OpenCV is faster at factor 2 (measured
    against 4: bench/overhead.py, 1280x720 for an input of 320).
    """
    return length >= 4 * wanted and length % (2 * wanted) == 0
