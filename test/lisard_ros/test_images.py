"""Image conversion: golden pixels for every encoding, bad messages by name, and fuzzing: a frame or ImageError."""

from __future__ import annotations

import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from lisard_ros import images
from lisard_ros.errors import ImageError
from lisard_ros.frames import Frame

# A 4 x 4 image: the left half one colour, the right half another (RGB).
LEFT, RIGHT = (200, 60, 20), (30, 90, 220)
IMAGE = np.array([[LEFT] * 2 + [RIGHT] * 2] * 4, np.uint8)
GREY = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16


def header(stamp_ns: int = 5_000_000_007) -> SimpleNamespace:
    sec, nanosec = divmod(stamp_ns, 10**9)
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id="optical")


def message(encoding: str, rows: np.ndarray, width: int, height: int, padding: int = 0, bigendian: int = 0) -> Any:
    """An Image of uint8 rows [rows, bytes], each padded with `padding` bytes of rubbish."""
    rows = np.ascontiguousarray(rows).reshape(rows.shape[0], -1).view(np.uint8)
    padded = np.concatenate([rows, np.full((len(rows), padding), 0xAB, np.uint8)], axis=1)
    return SimpleNamespace(
        header=header(),
        encoding=encoding,
        width=width,
        height=height,
        is_bigendian=bigendian,
        step=padded.shape[1],
        data=padded.tobytes(),
    )


def compressed(data: bytes, image_format: str = "jpeg") -> Any:
    return SimpleNamespace(header=header(), format=image_format, data=data)


def encode(extension: str, rgb: np.ndarray = IMAGE, *flags: int) -> bytes:
    ok, data = cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), list(flags))
    assert ok
    return data.tobytes()


def yuv(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """BT.601, limited range, from its definition: what cameras and OpenCV mean by YUV 4:2:2 and NV12."""
    r, g, b = rgb
    return (
        round(16 + 0.257 * r + 0.504 * g + 0.098 * b),
        round(128 - 0.148 * r - 0.291 * g + 0.439 * b),
        round(128 + 0.439 * r - 0.368 * g - 0.071 * b),
    )


def yuv422(order: str) -> np.ndarray:
    """The image as rows of 4:2:2 pairs; order: the four bytes of a pair, by letter (Y is used twice)."""

    def pair(rgb: tuple[int, int, int]) -> list[int]:
        y, u, v = yuv(rgb)
        return [{"Y": y, "U": u, "V": v}[letter] for letter in order]

    return np.array([pair(LEFT) + pair(RIGHT)] * 4, np.uint8)


def planar(order: str) -> np.ndarray:
    """The image as a Y plane and a plane of interleaved chroma pairs, `UV` (NV12) or `VU` (NV21)."""
    luma = [yuv(LEFT)[0]] * 2 + [yuv(RIGHT)[0]] * 2
    chroma = [yuv(rgb)["YUV".index(letter)] for rgb in (LEFT, RIGHT) for letter in order]
    return np.array([luma] * 4 + [chroma] * 2, np.uint8)


def bayer(pattern: str) -> np.ndarray:
    """A mosaic of one colour, 8 x 8: demosaicing gives that colour back everywhere."""
    value = dict(zip("rgb", LEFT, strict=True))
    tile = np.array([[value[pattern[0]], value[pattern[1]]], [value[pattern[2]], value[pattern[3]]]], np.uint8)
    return np.tile(tile, (4, 4))


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(("encoding", "colour"), [("rgb8", "rgb"), ("bgr8", "bgr"), ("8UC3", "bgr")])
def test_colour_is_a_view_with_exact_pixels(encoding: str, colour: str, padding: int) -> None:
    stored = IMAGE if colour == "rgb" else IMAGE[..., ::-1]
    msg = message(encoding, stored, 4, 4, padding)
    frame = images.to_frame(msg, "cam")
    assert (frame.colour, frame.stamp_ns, frame.frame_id, frame.camera) == (colour, 5_000_000_007, "optical", "cam")
    assert np.array_equal(frame.rgb(), IMAGE)
    assert np.shares_memory(frame.image, np.frombuffer(msg.data, np.uint8)), "no copy"


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_is_a_view_with_exact_pixels(encoding: str) -> None:
    msg = message(encoding, GREY, 4, 4, padding=3)
    frame = images.to_frame(msg, "cam")
    assert frame.colour == "mono" and np.array_equal(frame.image, GREY)
    assert np.shares_memory(frame.image, np.frombuffer(msg.data, np.uint8))
    assert np.array_equal(frame.rgb()[..., 1], GREY)


@pytest.mark.parametrize("bigendian", [0, 1])
def test_mono16_is_rounded_to_8_bits(bigendian: int) -> None:
    words = np.array([[0, 128, 129, 257], [65535, 65407, 65406, 32896]], ">u2" if bigendian else "<u2")
    frame = images.to_frame(message("mono16", words, 4, 2, padding=2, bigendian=bigendian), "cam")
    assert frame.image.tolist() == [[0, 0, 1, 1], [255, 255, 254, 128]]


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(("encoding", "order"), [("rgba8", [0, 1, 2]), ("bgra8", [2, 1, 0])])
def test_alpha_is_dropped(encoding: str, order: list[int], padding: int) -> None:
    stored = np.concatenate([IMAGE[..., order], np.full((4, 4, 1), 77, np.uint8)], axis=2)
    assert np.array_equal(images.to_frame(message(encoding, stored, 4, 4, padding), "c").rgb(), IMAGE)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "UYVY"), ("uyvy", "UYVY"), ("yuv422_yuy2", "YUYV"), ("yuyv", "YUYV")]
)
def test_yuv422(encoding: str, order: str, padding: int) -> None:
    frame = images.to_frame(message(encoding, yuv422(order), 4, 4, padding), "c")
    assert np.abs(frame.rgb().astype(int) - IMAGE).max() <= 3


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(("encoding", "order"), [("nv12", "UV"), ("nv21", "VU")])
def test_nv(encoding: str, order: str, padding: int) -> None:
    frame = images.to_frame(message(encoding, planar(order), 4, 4, padding), "c")
    assert frame.image.shape == (4, 4, 3)
    assert np.abs(frame.rgb().astype(int) - IMAGE).max() <= 3


@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer(pattern: str, padding: int) -> None:
    frame = images.to_frame(message(f"bayer_{pattern}8", bayer(pattern), 8, 8, padding), "c")
    assert np.array_equal(frame.rgb(), np.full((8, 8, 3), LEFT, np.uint8))


def test_every_encoding_of_the_table_has_a_golden_test() -> None:
    tested = {
        "rgb8",
        "bgr8",
        "8UC3",
        "mono8",
        "8UC1",
        "mono16",
        "rgba8",
        "bgra8",
        "yuv422",
        "uyvy",
        "yuv422_yuy2",
        "yuyv",
        "nv12",
        "nv21",
        *(f"bayer_{p}8" for p in ("rggb", "bggr", "gbrg", "grbg")),
    }
    assert set(images.ENCODINGS) == tested


@pytest.mark.parametrize("image_format", ["jpeg", "rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed bgr8", "jpg"])
def test_jpeg(image_format: str) -> None:
    large = np.repeat(np.repeat(IMAGE, 16, 0), 16, 1)
    frame = images.to_frame(compressed(encode(".jpg", large, cv2.IMWRITE_JPEG_QUALITY, 98), image_format), "c")
    assert frame.colour == "bgr"
    assert np.abs(frame.rgb().astype(int) - large)[:, 4:28].max() <= 6


def test_png_is_exact_and_compressed_rgb_is_believed() -> None:
    assert np.array_equal(images.to_frame(compressed(encode(".png"), "png"), "c").rgb(), IMAGE)
    swapped = compressed(encode(".png", IMAGE[..., ::-1].copy()), "rgb8; png compressed rgb8")
    assert np.array_equal(images.to_frame(swapped, "c").rgb(), IMAGE)


def test_grey_jpeg_and_padded_jpeg() -> None:
    ok, data = cv2.imencode(".jpg", np.full((9, 11), 90, np.uint8))
    frame = images.to_frame(compressed(data.tobytes() + b"\0" * 100), "c")
    assert ok and frame.image.shape == (9, 11, 3) and abs(int(frame.rgb()[4, 4, 0]) - 90) <= 1


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8", "8UC1", "8UC3", "mono16", "rgba8", "bgra8"])
def test_one_pixel(encoding: str) -> None:
    size = images.ENCODINGS[encoding].row_bytes_per_px
    assert images.to_frame(message(encoding, np.zeros((1, size), np.uint8), 1, 1), "c").width_px == 1


def test_8k_raw_is_a_view() -> None:
    data = np.zeros((4320, 7680 * 3), np.uint8)
    msg = SimpleNamespace(
        header=header(), encoding="bgr8", width=7680, height=4320, is_bigendian=0, step=7680 * 3, data=data
    )
    frame = images.to_frame(msg, "c")
    assert frame.image.shape == (4320, 7680, 3) and np.shares_memory(frame.image, data)


def test_8k_jpeg() -> None:
    ok, data = cv2.imencode(".jpg", np.full((4320, 7680, 3), 50, np.uint8))
    assert ok and images.to_frame(compressed(data.tobytes()), "c").image.shape == (4320, 7680, 3)


def changed(**values: Any) -> Any:
    return SimpleNamespace(**{**vars(message("rgb8", IMAGE, 4, 4)), **values})


@pytest.mark.parametrize(
    ("msg", "said"),
    [
        (changed(encoding="rgb9"), "unknown image encoding: found 'rgb9', expected one of rgb8.*driver mean 'rgb8'"),
        (changed(encoding=""), "unknown image encoding"),
        (changed(encoding="16UC1"), r"found encoding 16UC1 \(depth\).*colour topic"),
        (changed(encoding="32FC1"), r"found encoding 32FC1 \(depth\)"),
        (changed(width=0), "empty image: found 0x4, expected at least 1x1"),
        (changed(height=0, data=b""), "empty image: found 4x0"),
        (changed(height=-1), "empty image: found 4x-1"),
        (changed(data=b"\0" * 47), r"too little data: found 47 bytes, expected 48 \(4 rows of step 12\)"),
        (changed(data=b""), "too little data: found 0 bytes"),
        (changed(step=11), "short step: found step 11, expected 12 or more"),
        (changed(step=-5), "short step"),
        (changed(step=2**32 - 1), "too little data"),
        (changed(width=2**31, height=2**31), "image too large"),
        (changed(data=[1.5, "x"]), "image data cannot be read"),
        (changed(encoding="bayer_rggb8", width=2, height=2), "too small"),
        (changed(encoding="yuv422", width=3), "odd size"),
        (changed(encoding="nv12", height=3), "odd size"),
        (changed(encoding="nv12", step=4, data=b"\0" * 16), r"expected 24 \(6 rows of step 4\)"),
        (compressed(b""), "empty compressed image"),
        (compressed(b"GIF89a" + b"\0" * 50, "gif"), "unknown compressed format: found 'gif', first bytes 47 49 46 38"),
        (compressed(encode(".png"), "16UC1; compressedDepth png"), "depth"),
        (compressed(encode(".jpg")[:-20]), "corrupt JPEG: found no end marker"),
        (compressed(encode(".png")[:-30], "png"), "PNG"),
        (compressed(b"\xff\xd8\xff\xd9" + b"\xff\xd9"), "corrupt JPEG"),
        (compressed(b"\xff\xd8\xff\xe0" + bytes(range(200)) + b"\xff\xd9"), "corrupt JPEG"),
    ],
)
def test_bad_messages_say_what_was_found(msg: Any, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        images.to_frame(msg, "c")


def test_an_image_that_claims_an_absurd_size_costs_no_memory() -> None:
    png = bytearray(encode(".png"))
    png[16:24] = (60000).to_bytes(4, "big") * 2
    with pytest.raises(ImageError, match="image too large: found 60000x60000"):
        images.to_frame(compressed(bytes(png), "png"), "c")
    jpeg = bytearray(encode(".jpg"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = (65500).to_bytes(2, "big") * 2
    with pytest.raises(ImageError, match="image too large"):
        images.to_frame(compressed(bytes(jpeg)), "c")


def test_a_png_whose_chunk_claims_gigabytes_is_refused_before_memory_is_taken() -> None:
    """OpenCV 5 takes the memory that a chunk claims before it sees that the file is too short."""
    png = bytearray(encode(".png"))
    png[33] = 0x97  # the highest byte of the length of the image's data
    with pytest.raises(ImageError, match="corrupt PNG.*found a chunk that ends behind the file"):
        images.to_frame(compressed(bytes(png), "png"), "c")


def frame_or_image_error(msg: Any) -> None:
    try:
        frame = images.to_frame(msg, "c")
    except ImageError:
        return
    assert isinstance(frame, Frame) and frame.image.size


NAMES = st.sampled_from([*images.ENCODINGS, "16UC1", "32FC1", "RGB8", "", "h264", "bayer_rggb16"]) | st.text(max_size=9)
SIZES = st.integers(-2, 20) | st.sampled_from([2**31, 2**32 - 1])


@settings(max_examples=300)
@given(NAMES, SIZES, SIZES, st.integers(-1, 90) | st.just(2**32 - 1), st.integers(0, 1), st.binary(max_size=1500))
def test_fuzz_raw(encoding: str, width: int, height: int, step: int, bigendian: int, data: bytes) -> None:
    frame_or_image_error(
        SimpleNamespace(
            header=header(), encoding=encoding, width=width, height=height, step=step, is_bigendian=bigendian, data=data
        )
    )


@settings(max_examples=150)
@given(st.sampled_from(sorted(images.ENCODINGS)), st.integers(1, 9), st.integers(1, 9), st.integers(0, 5))
def test_fuzz_whole_raw_images_of_any_size(encoding: str, width: int, height: int, padding: int) -> None:
    known = images.ENCODINGS[encoding]
    rows = height * 3 // 2 if known.route == "nv" else height
    pixels = np.zeros((rows, width * known.row_bytes_per_px), np.uint8)
    odd = known.even_px and (width % 2 or (known.route == "nv" and height % 2))
    msg = message(encoding, pixels, width, height, padding)
    if odd or min(width, height) < known.min_side_px:
        with pytest.raises(ImageError):
            images.to_frame(msg, "c")
    else:
        frame = images.to_frame(msg, "c")
        assert (frame.width_px, frame.height_px) == (width, height)


GOOD_FILES = [encode(".jpg"), encode(".png"), encode(".jpg", np.repeat(IMAGE, 30, 0))]


@settings(max_examples=200)
@given(
    st.sampled_from(GOOD_FILES),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    st.integers(0, 40),
    st.binary(max_size=30),
    st.text(max_size=12),
)
def test_fuzz_damaged_files(
    good: bytes, damage: list[tuple[int, int]], cut: int, tail: bytes, image_format: str
) -> None:
    data = bytearray(good[: len(good) - cut] + tail)
    for at, value in damage:
        if data:
            data[at % len(data)] = value
    with mock.patch.object(images, "MAX_PIXELS", 1 << 16):  # damaged sizes must not cost seconds of decoding
        frame_or_image_error(compressed(bytes(data), image_format))


@settings(max_examples=150)
@given(st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]), st.binary(max_size=200))
def test_fuzz_rubbish(magic: bytes, data: bytes) -> None:
    frame_or_image_error(compressed(magic + data))


# --- which library converts the rest ------------------------------------------------------------------------------


# A bridge that paints everything grey 9, and one that fails as Humble's does under NumPy 2 (vision_opencv#535).
SOUND = """
import numpy as np
class CvBridge:
    def imgmsg_to_cv2(self, msg, encoding):
        return np.full((msg.height, msg.width, 3), 9, np.uint8)
"""
FAILS_AT_IMPORT = "raise AttributeError('_ARRAY_API not found')"
FAILS_AT_IMPORT_TOO = "raise ImportError('numpy.core.multiarray failed to import')"
FAILS_WHEN_USED = """
class CvBridge:
    def imgmsg_to_cv2(self, msg, encoding):
        raise ImportError("numpy.core.multiarray failed to import")
"""
MUST_NOT_BE_IMPORTED = "import os; os._exit(99)"


@pytest.fixture
def bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., images.ConversionLeg]]:
    """Install a cv_bridge of that source in a prefix, or beside it, and find the leg."""

    def find(source: str, compiled: bytes = b"", folder: str = "ros/lib/python3/site-packages") -> images.ConversionLeg:
        marker = tmp_path / "ros/share/ament_index/resource_index/packages/cv_bridge"
        marker.parent.mkdir(parents=True)
        marker.touch()
        package = tmp_path / folder / "cv_bridge"
        (package / "boost").mkdir(parents=True)
        (package / "__init__.py").write_text(source, encoding="utf-8")
        (package / "boost/cv_bridge_boost.cpython-310-x86_64-linux-gnu.so").write_bytes(compiled)
        monkeypatch.syspath_prepend(package.parent)
        monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)
        return images.find_leg(f"/nowhere:{tmp_path / 'ros'}")

    yield find
    sys.modules.pop("cv_bridge", None)


def test_cv_bridge_of_the_ros_installation_is_used(
    bridge: Callable[..., images.ConversionLeg], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leg = bridge(SOUND, b"numpy._core._multiarray_umath numpy.core._multiarray_umath")
    assert (leg.name, leg.warning) == (f"cv_bridge of {tmp_path / 'ros'}", "")
    monkeypatch.setattr(images, "_LEG", [leg])
    frame = images.to_frame(message("rgba8", np.zeros((2, 8), np.uint8), 2, 2), "c")
    assert (frame.image == 9).all()


def test_a_cv_bridge_that_can_only_be_imported_is_not_used(bridge: Callable[..., images.ConversionLeg]) -> None:
    assert images.find_leg("").name == "rosbags-image"
    leg = bridge(SOUND, folder="elsewhere")
    assert leg.name == "rosbags-image" and "Python does not find it there" in leg.warning


@pytest.mark.parametrize(
    ("source", "compiled", "reason"),
    [
        (FAILS_AT_IMPORT, b"", "_ARRAY_API not found"),
        (FAILS_AT_IMPORT_TOO, b"", "numpy.core.multiarray failed to import"),
        (FAILS_WHEN_USED, b"", "numpy.core.multiarray failed to import"),
        (MUST_NOT_BE_IMPORTED, b"numpy.core._multiarray_umath", "it was built for NumPy 1"),
    ],
)
def test_a_cv_bridge_of_another_numpy_is_replaced_with_a_warning(
    bridge: Callable[..., images.ConversionLeg],
    source: str,
    compiled: bytes,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(images, "_NUMPY_2", True)
    leg = bridge(source, compiled)
    assert leg.name == "rosbags-image" and reason in leg.warning and "converted by rosbags-image" in leg.warning
    monkeypatch.setattr(images, "_LEG", [leg])
    pixels = np.array([[1, 2, 3, 255]], np.uint8)
    assert images.to_frame(message("rgba8", pixels, 1, 1), "c").image.tolist() == [[[3, 2, 1]]]


def test_under_numpy_1_a_bridge_that_was_built_for_it_is_used(
    bridge: Callable[..., images.ConversionLeg], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_NUMPY_2", False)
    assert bridge(SOUND, b"numpy.core._multiarray_umath").name.startswith("cv_bridge of ")


def test_the_leg_of_this_machine_is_the_one_its_ament_index_calls_for() -> None:
    prefix = images.cv_bridge_prefix(os.environ.get("AMENT_PREFIX_PATH", ""))
    assert images.conversion_leg().name == (f"cv_bridge of {prefix}" if prefix else "rosbags-image")


# --- recordings with deliberately short images ----------------------------------------------------------------------

BAGS = Path(__file__).resolve().parents[3] / "shared/data/bags_dev.tar.xz"


@pytest.mark.skipif(not BAGS.exists(), reason="the development recordings are not on this machine")
@pytest.mark.parametrize("bag", ["test_bag_sqlite3", "test_bag_mcap"])
def test_recordings_with_short_images_give_image_errors(bag: str, tmp_path: Path) -> None:
    with tarfile.open(BAGS) as archive:
        wanted = [member for member in archive if f"ros_tiny/{bag}/" in member.name]
        archive.extractall(tmp_path, wanted, filter="data")
    (folder,) = tmp_path.rglob(bag)
    said = []
    with AnyReader([folder], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        kinds = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
        wanted_topics = [c for c in reader.connections if c.msgtype in kinds]
        for connection, _, raw in reader.messages(connections=wanted_topics):
            with pytest.raises(ImageError) as caught:
                images.to_frame(reader.deserialize(raw, connection.msgtype), "c")
            said.append(str(caught.value))
    assert said
