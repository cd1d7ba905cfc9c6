"""From sensor_msgs/Image and CompressedImage to `Frame`, and from vision_msgs/Detection2D to `Region`.

Whatever a camera sends, the outcome is a frame or ImageError.

rgb8, bgr8 and mono8 become views on the message, without a copy. Duck-typed: rclpy and rosbags messages both fit.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import cv2
import numpy as np

from lisard_ros.decoding import PNG_START, decode_image
from lisard_ros.errors import ImageError, nearest, one_line
from lisard_ros.frames import Colour, Frame, Pixels, Region
from lisard_ros.message_fields import box_xyxy_px, stamp_ns

# Four 8K frames; more is a corrupt header or an attempt to exhaust memory (a small PNG can claim 4 gigapixels).
MAX_PIXELS = 4 * 7680 * 4320

Route = Literal["view", "mono16", "nv", "leg"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one encoding of sensor_msgs/Image is laid out and turned into pixels.

    row_bytes_per_px: bytes of a row for each pixel of the width (the first plane of planar formats).
    even_px: width (and height for planar formats) must be even. min_side_px: below this the conversion has no meaning.
    """

    route: Route
    row_bytes_per_px: int
    colour: Colour = "bgr"
    even_px: bool = False
    min_side_px: int = 1
    code: int = -1
    bridge_name: str = ""


ENCODINGS: dict[str, Encoding] = {
    "rgb8": Encoding("view", 3, "rgb"),
    "bgr8": Encoding("view", 3, "bgr"),
    "8UC3": Encoding("view", 3, "bgr"),
    "mono8": Encoding("view", 1, "mono"),
    "8UC1": Encoding("view", 1, "mono"),
    "mono16": Encoding("mono16", 2, "mono"),
    "nv12": Encoding("nv", 1, even_px=True, code=cv2.COLOR_YUV2BGR_NV12),
    "nv21": Encoding("nv", 1, even_px=True, code=cv2.COLOR_YUV2BGR_NV21),
    "rgba8": Encoding("leg", 4),
    "bgra8": Encoding("leg", 4),
    "bayer_rggb8": Encoding("leg", 1, min_side_px=3),
    "bayer_bggr8": Encoding("leg", 1, min_side_px=3),
    "bayer_gbrg8": Encoding("leg", 1, min_side_px=3),
    "bayer_grbg8": Encoding("leg", 1, min_side_px=3),
    "yuv422": Encoding("leg", 2, even_px=True),
    "uyvy": Encoding("leg", 2, even_px=True, bridge_name="yuv422"),
    "yuv422_yuy2": Encoding("leg", 2, even_px=True),
    "yuyv": Encoding("leg", 2, even_px=True, bridge_name="yuv422_yuy2"),
}

_NUMPY_2 = np.lib.NumpyVersion(np.__version__) >= "2.0.0"
_DEPTH = ("16UC1", "32FC1", "16SC1", "64FC1")


class Tight(NamedTuple):
    """A stand-in for an Image message whose rows have no padding, as both conversion legs need it."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: np.ndarray


Leg = Callable[[Tight], np.ndarray]


def to_frame(msg: Any, camera: str) -> Frame:
    """Turn an Image or CompressedImage message into a Frame.

    Args:
        msg: The message, of rclpy or rosbags.
        camera: Name of the camera.

    Raises:
        ImageError: Encoding, size, step or data are wrong.
    """
    image, colour = compressed_pixels(msg) if hasattr(msg, "format") else raw_pixels(msg)
    return Frame(image, colour, stamp_ns(msg.header), msg.header.frame_id, camera)


def to_region(detection: Any) -> Region | None:
    """Turn a Detection2D into a region with its best hypothesis; None where the box is not finite.

    Label and score are None where the detection has no hypothesis.
    """
    box = box_xyxy_px(detection)
    if not all(map(math.isfinite, box)):
        return None
    best = max(detection.results, key=lambda result: result.hypothesis.score, default=None)
    if best is None:
        return Region(box, id=str(detection.id))
    return Region(box, str(best.hypothesis.class_id), float(best.hypothesis.score), str(detection.id))


def raw_pixels(msg: Any) -> tuple[Pixels, Colour]:
    """Return (pixels, colour order) of an Image; a view on its data for 8-bit rgb, bgr and mono."""
    encoding = _known(msg.encoding)
    width, height, step = int(msg.width), int(msg.height), int(msg.step)
    _check_size(msg.encoding, encoding, width, height)
    rows = _rows(msg, encoding, width, height, step)
    if encoding.route == "view":
        return (rows.reshape(height, width, 3) if encoding.row_bytes_per_px == 3 else rows), encoding.colour
    if encoding.route == "mono16":
        words = np.ascontiguousarray(rows).view(">u2" if msg.is_bigendian else "<u2").astype(np.uint32)
        return ((words + 128) // 257).astype(np.uint8), "mono"  # rounded: 65535 / 255 = 257
    if encoding.route == "nv":
        return _converted(msg.encoding, lambda: cv2.cvtColor(np.ascontiguousarray(rows), encoding.code)), "bgr"
    name = encoding.bridge_name or msg.encoding
    tight = Tight(height, width, name, 0, width * encoding.row_bytes_per_px, np.ascontiguousarray(rows).reshape(-1))
    leg = conversion_leg()
    return _converted(msg.encoding, lambda: leg.convert(tight)), "bgr"


def compressed_pixels(msg: Any) -> tuple[Pixels, Colour]:
    """Decode a CompressedImage (JPEG or PNG) to BGR, or RGB if its format text contains `compressed rgb`."""
    data = _bytes_of(msg.data)
    kind = _container(data, msg.format)
    _check_declared_size(kind, data)
    if kind == "JPEG" and not bytes(data[-4096:]).rstrip(b"\x00\xff").endswith(b"\xff\xd9"):
        raise ImageError("corrupt JPEG", found="no end marker (truncated)", expected="a complete image")
    image = decode_image(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return image, "rgb" if "compressed rgb" in msg.format else "bgr"


# --- raw images -------------------------------------------------------------------------------------------------


def _known(name: str) -> Encoding:
    if name in ENCODINGS:
        return ENCODINGS[name]
    expected = "one of " + ", ".join(ENCODINGS)
    if name in _DEPTH:
        raise ImageError(
            "not a colour or grey image",
            found=f"encoding {name} (depth)",
            expected=expected,
            cure="subscribe to the camera's colour topic",
        )
    guess = nearest(str(name), ENCODINGS)
    cure = f"did the driver mean '{guess}'?" if guess else "set the driver to rgb8, bgr8 or mono8"
    raise ImageError("unknown image encoding", found=repr(name), expected=expected, cure=cure)


def _check_size(name: str, encoding: Encoding, width: int, height: int) -> None:
    found = f"{width}x{height}"
    if width <= 0 or height <= 0:
        raise ImageError("empty image", found=found, expected="at least 1x1", cure="look at the driver's log")
    if width * height > MAX_PIXELS:
        raise ImageError("image too large", found=found, expected=f"at most {MAX_PIXELS} pixels")
    if min(width, height) < encoding.min_side_px:
        raise ImageError(f"{name} image too small", found=found, expected=f"sides of {encoding.min_side_px} px or more")
    if encoding.even_px and (width % 2 or (encoding.route == "nv" and height % 2)):
        raise ImageError(f"{name} image of odd size", found=found, expected="an even size: colour is shared by pairs")


def _rows(msg: Any, encoding: Encoding, width: int, height: int, step: int) -> np.ndarray:
    """Return the image rows without their padding, uint8 [rows, bytes], as a view on the message."""
    row_bytes = width * encoding.row_bytes_per_px
    if step < row_bytes:
        raise ImageError(
            f"{msg.encoding} image with a short step",
            found=f"step {step}",
            expected=f"{row_bytes} or more",
            cure="the driver fills width, step or encoding wrongly",
        )
    rows = height * 3 // 2 if encoding.route == "nv" else height
    data = _bytes_of(msg.data)
    if len(data) < rows * step:
        raise ImageError(
            f"{msg.encoding} image with too little data",
            found=f"{len(data)} bytes",
            expected=f"{rows * step} ({rows} rows of step {step})",
            cure="the driver or the recording cut the image short",
        )
    return data[: rows * step].reshape(rows, step)[:, :row_bytes]


def _bytes_of(data: Any) -> np.ndarray:
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        if hasattr(data, "__len__") and len(data) == 0:
            return np.empty(0, np.uint8)
        raise ImageError("image data cannot be read", found=type(data).__name__, expected="bytes") from error


def _converted(what: str, convert: Callable[[], Any]) -> Pixels:
    """Run a conversion of another library; whatever it raises or returns instead of pixels becomes ImageError."""
    try:
        image = convert()
    except Exception as error:  # any failure of a foreign decoder is the message's fault
        raise ImageError(f"{what} image cannot be converted", found=one_line(error)) from error
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.dtype != np.uint8 or not image.size:
        raise ImageError(f"corrupt {what}", found="data that does not decode", expected="a complete image")
    return image


# --- compressed images ------------------------------------------------------------------------------------------


def _container(data: np.ndarray, image_format: str) -> str:
    """Tell JPEG from PNG by the first bytes; the format text only describes the image before compression."""
    if "compresseddepth" in image_format.lower():
        raise ImageError(
            "not a colour or grey image",
            found=f"format {image_format!r} (depth)",
            expected="jpeg or png",
            cure="subscribe to the camera's colour topic",
        )
    if not len(data):
        raise ImageError("empty compressed image", found="0 bytes", expected="JPEG or PNG data")
    head = bytes(data[:8])
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head == PNG_START:
        return "PNG"
    raise ImageError(
        "unknown compressed format",
        found=f"{image_format!r}, first bytes {head[:4].hex(' ')}",
        expected="JPEG or PNG",
        cure="set the driver or republisher to jpeg or png",
    )


def _check_declared_size(kind: str, data: np.ndarray) -> None:
    """Refuse an image that claims an absurd size before any memory is taken for it."""
    width, height = _png_size(data) if kind == "PNG" else _jpeg_size(data)
    if width <= 0 or height <= 0:
        raise ImageError(f"corrupt {kind}", found=f"size {width}x{height}", expected="at least 1x1")
    if width * height > MAX_PIXELS:
        raise ImageError("image too large", found=f"{width}x{height}", expected=f"at most {MAX_PIXELS} pixels")


def _png_size(data: np.ndarray) -> tuple[int, int]:
    head = bytes(data[:24])
    return (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")) if len(head) == 24 else (0, 0)


def _jpeg_size(data: np.ndarray) -> tuple[int, int]:
    """Read width and height from the start-of-frame segment; (0, 0) when there is none."""
    at, end = 2, len(data)
    while at + 9 <= end:
        if data[at] != 0xFF:
            return 0, 0
        marker = int(data[at + 1])
        if marker == 0xFF:
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            size = bytes(data[at + 5 : at + 9])
            return int.from_bytes(size[2:], "big"), int.from_bytes(size[:2], "big")
        at += 2 + (int(data[at + 2]) << 8 | int(data[at + 3]))
    return 0, 0


# --- conversion legs: cv_bridge of the ROS installation, else rosbags-image ----------------------------------------


@dataclass(frozen=True, slots=True)
class ConversionLeg:
    """The library that converts the encodings for which this package has no code of its own.

    warning: why it is not the one that the installation calls for, '' where it is.
    """

    name: str
    convert: Leg
    warning: str = ""


_LEG: list[ConversionLeg] = []


def conversion_leg() -> ConversionLeg:
    """Return the leg of this machine, looked up once."""
    if not _LEG:
        _LEG.append(find_leg(os.environ.get("AMENT_PREFIX_PATH", "")))
    return _LEG[0]


def find_leg(ament_prefix_path: str) -> ConversionLeg:
    """Return cv_bridge if the ament index of a prefix lists it and it works, else rosbags-image.

    Never by import alone: the packages of that name on PyPI are ports for ROS 1.
    """
    prefix = cv_bridge_prefix(ament_prefix_path)
    if prefix is None:
        return _rosbags_leg()
    try:
        return _bridge_leg(prefix)
    except Exception as error:  # a library that was built for another NumPy fails in several ways
        return _rosbags_leg(
            f"cv_bridge of {prefix} cannot be used ({one_line(error)}); images are converted by rosbags-image"
        )


def _rosbags_leg(warning: str = "") -> ConversionLeg:
    from rosbags.image import image_to_cvimage

    return ConversionLeg("rosbags-image", lambda tight: image_to_cvimage(cast(Any, tight), "bgr8"), warning)


def _bridge_leg(prefix: Path) -> ConversionLeg:
    """Return cv_bridge below `prefix` after it has converted an image; whatever it raises shows why it is of no use."""
    spec = importlib.util.find_spec("cv_bridge")
    origin = Path(spec.origin if spec is not None and spec.origin else os.devnull)
    if not _is_below(origin, prefix):
        raise ImportError("Python does not find it there")
    if _NUMPY_2 and _built_for_numpy_1(origin.parent):
        raise ImportError(f"it was built for NumPy 1, this is NumPy {np.__version__}")
    bridge = importlib.import_module("cv_bridge").CvBridge()

    def convert(tight: Tight) -> np.ndarray:
        image: np.ndarray = bridge.imgmsg_to_cv2(tight, "bgr8")
        return image

    convert(Tight(1, 1, "bgra8", 0, 4, np.zeros(4, np.uint8)))
    return ConversionLeg(f"cv_bridge of {prefix}", convert)


def _built_for_numpy_1(package: Path) -> bool:
    """Tell whether a compiled part of a package knows NumPy 1 alone: importing that under NumPy 2 may crash.

    A module that is compiled with NumPy 2 looks for numpy._core first (vision_opencv#535).
    """
    parts = [library.read_bytes() for library in package.rglob("*.so")]
    return any(b"numpy.core" in part and b"numpy._core" not in part for part in parts)


def cv_bridge_prefix(ament_prefix_path: str) -> Path | None:
    """Return the first prefix whose ament index lists cv_bridge, or None."""
    for prefix in filter(None, ament_prefix_path.split(os.pathsep)):
        if (Path(prefix) / "share/ament_index/resource_index/packages/cv_bridge").is_file():
            return Path(prefix)
    return None


def _is_below(file: Path, prefix: Path) -> bool:
    """Tell whether a file lies below `prefix`, as named or with links followed."""
    return file.absolute().is_relative_to(prefix.absolute()) or file.resolve().is_relative_to(prefix.resolve())
