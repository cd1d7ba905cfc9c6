"""Image files, folders of them and videos as frames, one after the other, for commands that read what users have.

A file that cannot be read is an answer too: it comes with its error, and the others are still read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lisard_ros.decoding import decode_image
from lisard_ros.errors import ImageError
from lisard_ros.frames import Frame

# What a folder is searched for; a file that is named itself may end in anything.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".jp2", ".avif")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ogv")
# Containers that state how many frames they hold; of others OpenCV estimates it.
_COUNTED_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi")
_FEW_FRAMES = 3
_VIDEO_CURE = "copy the file again, or convert it to H.264 in .mp4"


@dataclass(frozen=True, slots=True, eq=False)
class MediaFrame:
    """One image file, or one frame of a video.

    index: place in the video from 0, and time_s its time from the start in seconds; both None for an image file.
    frame: None if nothing could be read; `error` then has the reason.
    """

    file: Path
    index: int | None
    time_s: float | None
    frame: Frame | None
    error: ImageError | None = None


def expand(paths: Sequence[Path], leave_out: Path | None = None) -> list[Path]:
    """List the files to read, in the order given; a folder stands for the image and video files below it, sorted.

    Args:
        paths: Files and folders. What does not exist is kept, so that reading it reports it.
        leave_out: A folder that is not searched where it lies below another one: what an earlier run wrote.

    Returns:
        Files; a folder without any image or video is kept as it is.
    """
    files: list[Path] = []
    for path in paths:
        files += (_files_below(path, leave_out) or [path]) if path.is_dir() else [path]
    return files


def frames_of(path: Path) -> Iterator[MediaFrame]:
    """Yield the image of an image file, or every frame of a video; at least one, which may hold an error."""
    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        yield from _video(path)
        return
    try:
        yield MediaFrame(path, None, None, read_image(path))
    except ImageError as error:
        yield MediaFrame(path, None, None, None, error)


def frame_count(path: Path) -> int:
    """Return how many frames a file seems to hold; a container may be wrong about it, and 0 means unknown."""
    if path.suffix.lower() not in VIDEO_SUFFIXES or not path.is_file():
        return 1
    video = _open(path)
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 1
    video.release()
    return max(0, count)


def read_image(path: Path) -> Frame:
    """Read an image file as 8-bit BGR, turned as its EXIF orientation asks for.

    Args:
        path: The file.

    Returns:
        The frame; its camera is the file's name without suffix.

    Raises:
        ImageError: The file cannot be read, or is no image that OpenCV decodes.
    """
    if path.is_dir():
        raise ImageError(
            "no image or video in the folder",
            found=f"no file that ends in {', '.join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)}",
            cure="give a folder with images, or the files themselves",
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(
            "cannot read the file", found=error.strerror, expected="an image", cure="check the path"
        ) from error
    return Frame(decode_image(data), "bgr", 0, "", path.stem)


def _files_below(folder: Path, leave_out: Path | None) -> list[Path]:
    """Hidden files and folders are left out, as a shell does; links to folders are not followed."""
    files = []
    written = None if leave_out is None else os.path.realpath(leave_out)
    for where, folders, names in os.walk(folder):
        seen = [name for name in folders if not name.startswith(".")]
        folders[:] = [name for name in seen if os.path.realpath(Path(where, name)) != written]
        files += [Path(where) / name for name in names if not name.startswith(".")]
    return sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES)


def _video(path: Path) -> Iterator[MediaFrame]:
    video = _open(path)
    try:
        index = 0
        while video.isOpened():
            taken, pixels = video.read()
            if not taken or pixels is None:
                break
            time_s = max(0.0, video.get(cv2.CAP_PROP_POS_MSEC) / 1000)  # of this frame, once it was read
            stamp_ns = round(time_s * 1e9)
            yield MediaFrame(path, index, time_s, Frame(np.asarray(pixels, np.uint8), "bgr", stamp_ns, "", path.stem))
            index += 1
        stated = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if path.suffix.lower() in _COUNTED_SUFFIXES else 0
        if not index:
            error = ImageError("not a video that OpenCV reads", found=f"{path.stat().st_size} bytes", cure=_VIDEO_CURE)
            yield MediaFrame(path, None, None, None, error)
        elif stated - index > max(_FEW_FRAMES, stated // 20):  # some are left out on purpose, by an edit list
            error = ImageError("the video breaks off", found=f"{index} frames", expected=stated, cure=_VIDEO_CURE)
            yield MediaFrame(path, index, None, None, error)
    finally:
        video.release()


def _open(path: Path) -> cv2.VideoCapture:
    # Both would write to stderr about a damaged file, for which there is our own message. FFmpeg's level is read once.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    logging = getattr(cv2.utils, "logging", None)  # not in every OpenCV 4
    if logging is None:
        return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_FATAL)
    try:
        return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    finally:
        logging.setLogLevel(before)
