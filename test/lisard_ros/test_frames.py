"""Frames: shapes that are refused, colour orders, and the hash that keys stored perturbations."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.errors import ImageError
from lisard_ros.frames import Frame, Region, StageTimes, pixels_sha256


def image(height: int = 2, width: int = 3) -> np.ndarray:
    """Distinct values, uint8 [height, width, 3]."""
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def test_rgb_of_every_colour_order() -> None:
    rgb = image()
    assert np.array_equal(Frame(rgb, "rgb", 0, "", "c").rgb(), rgb)
    assert np.array_equal(Frame(rgb[..., ::-1], "bgr", 0, "", "c").rgb(), rgb)
    grey = rgb[..., 0]
    assert np.array_equal(Frame(grey, "mono", 0, "", "c").rgb(), np.stack([grey] * 3, axis=-1))


def test_an_rgb_frame_is_not_copied() -> None:
    rgb = image()
    assert np.shares_memory(Frame(rgb, "rgb", 0, "", "c").rgb(), rgb)


def test_strided_rows_give_the_same_pixels_and_hash() -> None:
    padded = np.zeros((2, 5, 3), np.uint8)
    padded[:, :3] = image()
    frame = Frame(padded[:, :3], "rgb", 0, "", "c")
    assert frame.rgb().flags["C_CONTIGUOUS"]
    assert frame.sha256() == Frame(image(), "rgb", 0, "", "c").sha256()


@pytest.mark.parametrize(
    ("array", "colour"),
    [
        (np.zeros((2, 3), np.uint8), "rgb"),
        (np.zeros((2, 3, 4), np.uint8), "bgr"),
        (np.zeros((2, 3, 3), np.float32), "rgb"),
        (np.zeros((2, 3, 3), np.uint8), "mono"),
        (np.zeros((0, 3, 3), np.uint8), "rgb"),
        (np.zeros((2, 0), np.uint8), "mono"),
    ],
)
def test_what_is_no_image_is_refused(array: np.ndarray, colour: str) -> None:
    with pytest.raises(ImageError, match="expected uint8"):
        Frame(array, colour, 0, "", "c")  # type: ignore[arg-type]


def test_the_hash_is_of_size_and_pixels() -> None:
    rgb = image(2, 3)
    assert pixels_sha256(rgb) == hashlib.sha256(b"rgb8 3x2\n" + rgb.tobytes()).hexdigest()
    assert pixels_sha256(rgb) != pixels_sha256(rgb.reshape(3, 2, 3))


@given(st.binary(min_size=12, max_size=12), st.binary(min_size=12, max_size=12))
def test_only_equal_pixels_have_equal_hashes(first: bytes, second: bytes) -> None:
    one, two = (np.frombuffer(data, np.uint8).reshape(2, 2, 3) for data in (first, second))
    assert (pixels_sha256(one) == pixels_sha256(two)) == (first == second)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_region_must_be_finite(bad: float) -> None:
    with pytest.raises(ImageError, match="not finite"):
        Region((0.0, 0.0, bad, 1.0))


def test_total_is_the_sum_of_all_stages() -> None:
    assert StageTimes(1, 2, 4, 8, 16, 32).total_ms == 63


def test_time_is_added_to_the_stages_that_took_it() -> None:
    more = StageTimes(1, 2, 3, 4, 5, 6).plus(preprocess_ms=30, inject_ms=40, infer_ms=50, postprocess_ms=60)
    assert more == StageTimes(1, 2, 33, 44, 55, 66) and more.plus() == more
