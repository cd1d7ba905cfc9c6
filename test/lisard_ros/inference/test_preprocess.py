"""From frames to the network's input: golden pixels, the 8-bit grid, crops, letterboxes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.errors import ImageError
from lisard_ros.frames import Frame, Region, to_rgb
from lisard_ros.inference import preprocess

SIZES = st.integers(1, 300)
PIXELS = st.floats(-500, 800)


def spec(**changes: object) -> InputSpec:
    """An input of 8x4 (width x height) with changes."""
    return InputSpec(**{"width": 8, "height": 4, **changes})  # type: ignore[arg-type]


def random_rgb(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Random uint8 image."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- golden pixels --------------------------------------------------------------------------------------------------


def test_an_image_of_the_right_size_is_only_scaled() -> None:
    rgb = random_rgb(4, 8)
    x = preprocess.prepare([rgb], spec())
    assert x.shape == (1, 3, 4, 8) and x.dtype == np.float32
    assert np.array_equal(x[0], rgb.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def test_halving_averages_four_pixels() -> None:
    rgb = np.zeros((2, 4, 3), np.uint8)
    rgb[:, :2] = [[10, 20, 30], [20, 20, 30]]
    rgb[:, 2:] = 200
    (small,) = preprocess.prepare([rgb], spec(width=2, height=1)) * 255
    assert np.allclose(small[:, 0, 0], [15, 20, 30]) and np.allclose(small[:, 0, 1], 200)


@pytest.mark.parametrize(("factor", "roundings"), [(2, 1), (3, 1), (4, 2), (5, 1), (6, 2), (8, 3), (12, 3)])
def test_shrinking_by_a_whole_factor_averages_squares(factor: int, roundings: int) -> None:
    large = random_rgb(5 * factor, 7 * factor, factor)
    small = preprocess.resize(large, spec(width=7, height=5))
    exact = large.astype(float).reshape(5, factor, 7, factor, 3).mean(axis=(1, 3))
    assert np.abs(small - exact).max() <= 0.5 * roundings + 1e-9


def test_doubling_interpolates() -> None:
    """Bilinear with pixel centres at +0.5: the quarters between 0 and 100."""
    rgb = np.zeros((1, 2, 3), np.uint8)
    rgb[:, 1] = 100
    assert preprocess.resize(rgb, spec(width=4, height=1))[0, :, 0].tolist() == [0, 25, 75, 100]


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_linear_is_one_bilinear_step(resize: str, road_frames: tuple[Frame, ...]) -> None:
    """What packages that train with OpenCV's default do: not an average of areas, and not in halves."""
    rgb = np.ascontiguousarray(road_frames[0].rgb()[:256, :256])
    given_spec = spec(width=64, height=64, resize=resize, interpolation="linear")
    found = preprocess.resize(rgb, given_spec)
    assert np.array_equal(found, cv2.resize(rgb, (64, 64), interpolation=cv2.INTER_LINEAR))
    averaged = preprocess.resize(rgb, spec(width=64, height=64, resize=resize))
    assert np.array_equal(averaged, preprocess.resize(rgb, spec(width=64, height=64, interpolation="area")))
    assert np.abs(found.astype(int) - averaged).max() > 8, "on a real image the two are not alike"
    assert np.array_equal(preprocess.prepare([rgb], given_spec)[0] * 255, np.rint(found.transpose(2, 0, 1)))


def test_bgr_reverses_the_channels() -> None:
    rgb = random_rgb(30, 50)
    forward, reverse = preprocess.prepare([rgb], spec()), preprocess.prepare([rgb], spec(colour="bgr"))
    assert np.array_equal(forward, reverse[:, ::-1])


def test_a_bgr_frame_and_an_rgb_frame_give_the_same_input(road_frames: tuple[Frame, ...]) -> None:
    for frame in road_frames:
        twin = Frame(frame.rgb(), "rgb", 0, "", "c")
        one, two = (preprocess.prepare([preprocess.crop(f, Region((50, 40, 180, 160)))], spec()) for f in (frame, twin))
        assert np.array_equal(one, two)


@given(SIZES, SIZES, st.sampled_from(["stretch", "letterbox"]), st.sampled_from(["rgb", "bgr"]), st.data())
def test_a_view_in_the_cameras_colours_is_prepared_like_its_rgb_copy(
    height: int, width: int, resize: str, order: str, data: st.DataObject
) -> None:
    """Regression: a whole frame was turned to RGB before it was scaled down."""
    left, top = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))
    view = random_rgb(height + 9, width + 7)[top : top + height, left : left + width]
    given_spec = spec(resize=resize, colour=order, width=32, height=24)
    for cut, colour in ((view, "rgb"), (view, "bgr"), (view[..., 0], "mono"), (view[:, ::-1], "bgr")):
        expected = preprocess.prepare([to_rgb(cut, colour)], given_spec)  # type: ignore[arg-type]
        assert np.array_equal(preprocess.prepare([cut], given_spec, [colour]), expected)  # type: ignore[list-item]


def test_letterbox_pads_evenly_with_grey() -> None:
    laid = preprocess.resize(np.full((10, 10, 3), 200, np.uint8), spec(resize="letterbox", pad=7))
    assert (laid[:, 2:6] == 200).all() and (laid[:, :2] == 7).all() and (laid[:, 6:] == 7).all()


@given(SIZES, SIZES, st.sampled_from(["stretch", "letterbox"]))
def test_every_value_lies_on_the_8_bit_grid(height: int, width: int, resize: str) -> None:
    x = preprocess.prepare([random_rgb(height, width)], spec(resize=resize))
    levels = x * np.float32(255)
    assert np.array_equal(np.rint(levels) / np.float32(255), x) and x.min() >= 0 and x.max() <= 1


@given(SIZES, SIZES)
def test_a_plain_image_stays_plain(height: int, width: int) -> None:
    assert (preprocess.resize(np.full((height, width, 3), 137, np.uint8), spec()) == 137).all()


def test_a_batch_is_its_rows(road_frames: tuple[Frame, ...]) -> None:
    crops = [frame.rgb() for frame in road_frames]
    batch = preprocess.prepare(crops, spec())
    assert all(np.array_equal(batch[n], preprocess.prepare([crop], spec())[0]) for n, crop in enumerate(crops))
    assert preprocess.prepare([], spec()).shape == (0, 3, 4, 8)


# --- normalisation --------------------------------------------------------------------------------------------------


def test_normalise_is_identity_without_mean_and_std() -> None:
    x = preprocess.prepare([random_rgb(4, 8)], spec())
    assert preprocess.normalise(x, spec()) is x


def test_normalise_by_channel() -> None:
    x = preprocess.prepare([random_rgb(4, 8)], spec())
    given_spec = spec(mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    expected = np.stack([(x[:, 0] - 0.5) / 0.5, x[:, 1] - 0.25, x[:, 2] / 2], axis=1)
    assert np.allclose(preprocess.normalise(x, given_spec), expected, atol=1e-7)
    assert preprocess.normalise(x, given_spec).dtype == np.float32


def test_a_model_that_wants_grey_levels_gets_them() -> None:
    rgb = random_rgb(4, 8)
    x = preprocess.normalise(preprocess.prepare([rgb], spec()), spec(std=(1 / 255, 1 / 255, 1 / 255)))
    assert np.allclose(x[0], rgb.transpose(2, 0, 1), atol=1e-4)


# --- crops ----------------------------------------------------------------------------------------------------------


def frame_of(height: int = 40, width: int = 60) -> Frame:
    """A random frame."""
    return Frame(random_rgb(height, width), "rgb", 0, "", "c")


def test_a_crop_is_a_cut() -> None:
    frame = frame_of()
    assert np.array_equal(preprocess.crop(frame, Region((3, 5, 13, 25))), frame.image[5:25, 3:13])
    assert np.array_equal(preprocess.crop(frame, Region()), frame.image)


def test_a_crop_is_contiguous_rgb_for_every_colour_order() -> None:
    bgr = Frame(random_rgb(40, 60), "bgr", 0, "", "c")
    cut = preprocess.crop(bgr, Region((3, 5, 13, 25)))
    assert cut.flags["C_CONTIGUOUS"] and np.array_equal(cut, bgr.image[5:25, 3:13, ::-1])
    mono = Frame(random_rgb(40, 60)[..., 0], "mono", 0, "", "c")
    assert preprocess.crop(mono, Region((3, 5, 13, 25))).shape == (20, 10, 3)


@pytest.mark.parametrize(
    ("box", "margin", "bounds"),
    [
        ((10, 10, 20, 30), 0.0, (10, 10, 20, 30)),
        ((10.9, 10.1, 19.1, 29.5), 0.0, (10, 10, 20, 30)),
        ((10, 10, 20, 30), 0.1, (9, 8, 21, 32)),
        ((10, 10, 20, 30), 2.0, (0, 0, 40, 40)),
        ((-5, -5, 5, 5), 0.0, (0, 0, 5, 5)),
        ((-1e308, -1e308, 1e308, 1e308), 0.0, (0, 0, 60, 40)),
    ],
)
def test_bounds(box: tuple[float, float, float, float], margin: float, bounds: tuple[int, int, int, int]) -> None:
    assert preprocess.crop_bounds_px(frame_of(), box, margin) == bounds


@pytest.mark.parametrize("box", [(70, 5, 80, 9), (5, 50, 9, 60), (-9, 0, 0, 9), (9, 9, 9, 9), (20, 9, 10, 30)])
def test_a_box_without_pixels_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ImageError, match="covers no pixel.*inside 60x40"):
        preprocess.crop(frame_of(), Region(box))


@given(PIXELS, PIXELS, PIXELS, PIXELS, st.floats(0, 2))
def test_bounds_are_in_the_frame_and_hold_the_box(x0: float, y0: float, x1: float, y1: float, margin: float) -> None:
    assume(x0 < x1 and y0 < y1)
    frame = frame_of()
    try:
        left, top, right, bottom = preprocess.crop_bounds_px(frame, (x0, y0, x1, y1), margin)
    except ImageError:
        wide, high = (x1 - x0) * margin, (y1 - y0) * margin
        assert x1 + wide <= 0 or y1 + high <= 0 or x0 - wide >= 60 or y0 - high >= 40
        return
    assert 0 <= left < right <= 60 and 0 <= top < bottom <= 40
    assert left <= max(x0, 0) and right >= min(x1, 60) and top <= max(y0, 0) and bottom >= min(y1, 40)


@given(*[st.floats(allow_nan=False, allow_infinity=False)] * 4, st.floats(0, 2))
def test_no_finite_box_escapes_as_another_error(x0: float, y0: float, x1: float, y1: float, margin: float) -> None:
    """Regression: a box of 1e308 overflowed to NaN and raised ValueError."""
    try:
        assert preprocess.crop(frame_of(), Region((x0, y0, x1, y1)), margin).size
    except ImageError as error:
        assert "covers no pixel" in str(error)


# --- letterbox geometry ---------------------------------------------------------------------------------------------


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from(["stretch", "letterbox"]))
def test_fit_and_to_source_are_inverse(width: int, height: int, resize: str) -> None:
    given_spec = spec(width=320, height=192, resize=resize)
    laid = preprocess.fit(width, height, given_spec)
    whole = np.array([[0, 0, width, height], [width / 4, height / 3, width / 2, height]], np.float64)
    scale, offset = np.array([laid.scale_x, laid.scale_y] * 2), np.array([laid.offset_x_px, laid.offset_y_px] * 2)
    inside = whole * scale + offset
    assert np.allclose(laid.to_source(inside), whole, rtol=1e-9, atol=1e-6)
    assert np.allclose(laid.to_input(whole), inside, rtol=1e-9, atol=1e-6)
    assert inside.min() >= 0 and inside[:, [0, 2]].max() <= 320 + 1e-9 and inside[:, [1, 3]].max() <= 192 + 1e-9


@given(st.integers(8, 400), st.integers(8, 400))
def test_letterbox_keeps_the_aspect_ratio_to_a_pixel(width: int, height: int) -> None:
    laid = preprocess.fit(width, height, spec(width=320, height=192, resize="letterbox"))
    assert abs(laid.scale_x * width - laid.scale_y * width) <= max(1.0, width / height)


@given(st.integers(1, 200), st.integers(1, 200))
def test_letterbox_puts_the_image_where_fit_says(width: int, height: int) -> None:
    given_spec = spec(width=32, height=24, resize="letterbox", pad=0)
    laid = preprocess.fit(width, height, given_spec)
    shown = preprocess.resize(np.full((height, width, 3), 255, np.uint8), given_spec)[..., 0] == 255
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    assert (columns[0], rows[0]) == (laid.offset_x_px, laid.offset_y_px)
    assert len(columns) == round(laid.scale_x * width) and len(rows) == round(laid.scale_y * height)
