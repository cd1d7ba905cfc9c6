"""Files of images: what is decoded, and what is refused by everything that reads one, before memory is taken for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from lisard_ros.decoding import decode_image, png_chunks_fit
from lisard_ros.errors import ImageError, LisardError
from lisard_ros.image_files import folders, media

PIXELS = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)


def encoded(suffix: str = ".png") -> bytes:
    done, data = cv2.imencode(suffix, PIXELS)
    assert done
    return data.tobytes()


def claiming() -> bytes:
    """A PNG whose data claim to be 2.5 GB long; OpenCV 5 took that memory."""
    png = bytearray(encoded())
    png[33] = 0x97  # the highest byte of the length
    return bytes(png)


def test_pixels_are_bgr_and_what_follows_an_image_does_not_matter() -> None:
    assert np.array_equal(decode_image(encoded()), PIXELS)
    assert np.array_equal(decode_image(np.frombuffer(encoded() + b"more", np.uint8)), PIXELS)
    assert decode_image(encoded(".jpg")).shape == PIXELS.shape


@pytest.mark.parametrize("data", [b"", b"hello", encoded(".jpg")[:30]])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=f"not an image that OpenCV reads: found {len(data)} bytes"):
        decode_image(data)


def test_a_size_that_opencv_refuses_is_an_error_of_the_image() -> None:
    png = bytearray(encoded())
    png[16:24] = (60000).to_bytes(4, "big") * 2
    with pytest.raises(ImageError, match="not an image that OpenCV reads"):
        decode_image(bytes(png))


@pytest.mark.parametrize("data", [claiming(), encoded()[:-20]])
@pytest.mark.parametrize("read", [folders.read_rgb, media.read_image])
def test_a_png_that_claims_more_than_its_file_holds_is_refused(
    read: Callable[[Path], object], data: bytes, tmp_path: Path
) -> None:
    assert not png_chunks_fit(np.frombuffer(data, np.uint8))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(LisardError, match="corrupt PNG.*a chunk that ends behind the file"):
        read(tmp_path / "a.png")
