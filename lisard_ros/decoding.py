"""Bytes of an image file to pixels: the one door to OpenCV's decoder, for files, stored patches and camera messages."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.errors import ImageError, one_line
from lisard_ros.frames import Pixels

PNG_START = b"\x89PNG\r\n\x1a\n"
_CURE = "give PNG, JPEG or another image file, or copy it again"


def decode_image(data: bytes | NDArray[np.uint8], flags: int = cv2.IMREAD_COLOR) -> Pixels:
    """Decode a whole image file.

    Args:
        data: Its bytes, or uint8 [n].
        flags: How OpenCV decodes; colour by default, turned as the EXIF orientation asks for.

    Returns:
        uint8 BGR [H, W, 3].

    Raises:
        ImageError: The data are no image that OpenCV reads, claim a size that it refuses, or are a PNG that is cut
            short or damaged so that it claims more memory than its file has bytes.
    """
    array = np.frombuffer(data, np.uint8)
    if not png_chunks_fit(array):
        raise ImageError("corrupt PNG", found="a chunk that ends behind the file", expected="a whole image", cure=_CURE)
    try:
        pixels = cv2.imdecode(array, flags) if array.size else None
    except cv2.error as error:  # such as a header that claims gigapixels
        raise ImageError("not an image that OpenCV reads", found=one_line(error), cure=_CURE) from error
    if pixels is None:
        raise ImageError("not an image that OpenCV reads", found=f"{array.size} bytes", cure=_CURE)
    return np.asarray(pixels, np.uint8)


def png_chunks_fit(data: NDArray[np.uint8]) -> bool:
    """Whether every chunk of a PNG, uint8 [n], lies within the file; true for data that are no PNG.

    OpenCV takes the memory that a damaged length claims, up to 4 GB, before it sees that the file is too short.
    """
    if data[: len(PNG_START)].tobytes() != PNG_START:
        return True
    at = len(PNG_START)
    while at + 8 <= len(data):
        length, kind = int.from_bytes(bytes(data[at : at + 4]), "big"), bytes(data[at + 4 : at + 8])
        at += 12 + length  # length, kind, content and checksum
        if kind == b"IEND":
            break
    return at <= len(data)
