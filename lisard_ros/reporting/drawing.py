"""Draws answers into images: boxes with labels, or one label at the top for the image as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lisard_ros.frames import BoxXyxyPx, Frame, Pixels

READABLE_PX = 320  # smaller images are enlarged, so that text fits beside what it names
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SCALE, _PADDING_PX = 0.5, 4
# BGR, told apart by people who see colours differently; white text is readable on each.
_COLOURS = ((178, 114, 0), (0, 94, 213), (115, 158, 0), (167, 121, 204), (60, 60, 60), (0, 76, 153))


@dataclass(frozen=True, slots=True)
class Caption:
    """What is written at a box, in pixels of the image; box_xyxy_px None: at the top left. index: of the class."""

    text: str
    index: int
    box_xyxy_px: BoxXyxyPx | None


def draw(frame: Frame, captions: Sequence[Caption]) -> Pixels:
    """Draw captions into a copy of the frame.

    Args:
        frame: The image.
        captions: What to write; those without a box stand below each other.

    Returns:
        uint8 BGR [H, W, 3]; an image smaller than READABLE_PX is enlarged by a whole factor.
    """
    factor = max(1, math.ceil(READABLE_PX / max(frame.width_px, frame.height_px)))
    canvas = np.repeat(np.repeat(frame.rgb()[..., ::-1], factor, axis=0), factor, axis=1)
    canvas = np.ascontiguousarray(canvas)
    scale = _SCALE * max(1.0, min(canvas.shape[:2]) / 720)
    top = 0
    for caption in reversed(captions):  # the best box is drawn last, over the others
        if caption.box_xyxy_px is not None:
            _draw_box(canvas, caption, tuple(value * factor for value in caption.box_xyxy_px), scale)
    for caption in captions:
        if caption.box_xyxy_px is None:
            top += _write(canvas, caption, 0, top, scale)
    return canvas


def _draw_box(canvas: Pixels, caption: Caption, box: tuple[float, ...], scale: float) -> None:
    height, width = canvas.shape[:2]
    limits = (width - 1, height - 1, width - 1, height - 1)
    left, top, right, bottom = (round(min(max(v, 0), most)) for v, most in zip(box, limits, strict=True))
    cv2.rectangle(canvas, (left, top), (right, bottom), _colour(caption), max(1, round(2 * scale / _SCALE)))
    high = _size(caption.text, scale)[1]
    _write(canvas, caption, left, top - high if top >= high else top, scale)


def _write(canvas: Pixels, caption: Caption, left: int, top: int, scale: float) -> int:
    """White on the class's colour, moved and shrunk until it fits; returns its height."""
    wide, high = _size(caption.text, scale)
    room = canvas.shape[1]
    if wide > room:
        scale *= room / wide
        wide, high = _size(caption.text, scale)
    left = max(0, min(left, room - wide))
    cv2.rectangle(canvas, (left, top), (left + wide, top + high), _colour(caption), cv2.FILLED)
    base = (left + _PADDING_PX, top + high - _PADDING_PX - high // 5)
    cv2.putText(canvas, caption.text, base, _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return high


def _size(text: str, scale: float) -> tuple[int, int]:
    """Width and height of a text with its background; all lines are equally high."""
    wide = cv2.getTextSize(text, _FONT, scale, 1)[0][0]
    (_, high), base = cv2.getTextSize("Ag", _FONT, scale, 1)
    return wide + 2 * _PADDING_PX, high + base + 2 * _PADDING_PX


def _colour(caption: Caption) -> tuple[int, int, int]:
    return _COLOURS[caption.index % len(_COLOURS)]
