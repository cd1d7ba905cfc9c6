"""What reports show: labels as words, and images inside the page itself."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.frames import GREY_LEVELS, BoxXyxyPx, Frame, Pixels
from lisard_ros.inference.preprocess import Tensor, fit


@dataclass(frozen=True, slots=True)
class Tile:
    """One key figure at the top of a report."""

    name: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Overlay:
    """A box drawn on a frame, in percent of its size; right: whether what was found is right, None when not scored.

    missed: a true box that was not found.
    """

    left: float
    top: float
    width: float
    height: float
    text: str
    right: bool | None
    missed: bool = False


@dataclass(frozen=True, slots=True)
class FrameImage:
    """One frame for a report: a data URI and what is drawn on it. condition: '', 'clean' or an injection.

    pixelated: the image is so small that its pixels are shown as they are.
    """

    uri: str
    width_px: int
    height_px: int
    overlays: tuple[Overlay, ...]
    truth: str
    condition: str = ""
    pixelated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class AttackedView:
    """A frame as the attacked network saw it. image: uint8 RGB [H, W, 3]; change: what the attack added, int16."""

    image: Pixels
    change: NDArray[np.int16]


def in_percent(box: BoxXyxyPx, width_px: int, height_px: int) -> tuple[float, float, float, float]:
    """Left, top, width and height of a box in percent of an image of this size."""
    x0, y0, x1, y1 = box
    return 100 * x0 / width_px, 100 * y0 / height_px, 100 * (x1 - x0) / width_px, 100 * (y1 - y0) / height_px


def words(label: str) -> str:
    """Write a label with blanks."""
    return label.replace("_", " ")


def png(rgb: NDArray[np.uint8]) -> str:
    """Return [H, W, 3] RGB as a data URI."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(rgb[:, :, ::-1]))
    assert done
    return uri("png", data.tobytes())


def jpeg(rgb: NDArray[np.uint8], quality: int = 90) -> str:
    """Return [H, W, 3] RGB as a data URI that is smaller than `png`."""
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return uri("jpeg", data.tobytes())


def as_seen(x: Tensor, width_px: int, height_px: int, spec: InputSpec) -> NDArray[np.uint8]:
    """Return an input [3, H, W] in [0, 1] as RGB [h, w, 3], without the padding around an image of this size."""
    levels = np.rint(x * GREY_LEVELS).astype(np.uint8).transpose(1, 2, 0)
    laid = fit(width_px, height_px, spec)
    left, top = int(laid.offset_x_px), int(laid.offset_y_px)
    wide, high = round(width_px * laid.scale_x), round(height_px * laid.scale_y)
    return levels[top : top + high, left : left + wide, :: 1 if spec.colour == "rgb" else -1]


def attacked_view(frame: Frame, seen: Tensor, clean: Tensor, spec: InputSpec) -> AttackedView:
    """Return how the network saw the whole of a frame. seen, clean: its inputs [3, H, W] in [0, 1]."""
    image, before = (as_seen(x, frame.width_px, frame.height_px, spec) for x in (seen, clean))
    return AttackedView(image, image.astype(np.int16) - before)


def uri(kind: str, data: bytes) -> str:
    """Return an encoded image as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
