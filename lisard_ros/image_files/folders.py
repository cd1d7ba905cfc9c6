"""Folders of image files: which files are images, which class a file shows, and its pixels.

The class of a file is the name of its folder: a label, or the index of one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lisard_ros.decoding import decode_image
from lisard_ros.errors import DataError, ImageError, one_line
from lisard_ros.frames import Pixels

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm")
_NUMBERS = re.compile(r"\d+(_\d+)+")
UNKNOWN = -1  # class of an image whose folder is no label


def image_files(folder: Path) -> tuple[Path, ...]:
    """Return the image files below a folder, sorted by path; DataError where there is none."""
    try:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    except OSError as error:
        raise DataError("cannot read the folder of images", found=f"{folder}: {error.strerror}") from error
    if not files:
        raise DataError(
            "no images in the folder",
            found=f"{folder}, no file that ends in {', '.join(SUFFIXES)}",
            expected="real images such as the camera will see",
        )
    return tuple(files)


def class_of(path: Path, labels: Sequence[str]) -> int:
    """Return the index of the class that the file's folder names; UNKNOWN where it names none."""
    word = path.parent.name
    if word in labels:
        return list(labels).index(word)
    return int(word) if word.isdecimal() and int(word) < len(labels) else UNKNOWN


def is_numbered(stem: str) -> bool:
    """Whether a file's name without its suffix is <track>_<frame>, all numbers, as in GTSRB."""
    return _NUMBERS.fullmatch(stem) is not None


def track_of(path: Path) -> str:
    """Return the track of a file named <track>_<frame>: tracks of two folders are different ones."""
    return f"{path.parent.name}/{path.stem.rpartition('_')[0]}"


def read_rgb(path: Path) -> Pixels:
    """Return the pixels of an image file, uint8 RGB [H, W, 3]; DataError for what OpenCV does not read."""
    try:
        bgr = decode_image(path.read_bytes())
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise DataError("cannot read an image", found=f"{path}: {reason}", expected="PNG, JPEG, ...") from error
    except ImageError as error:
        raise DataError(
            error.what,
            found=f"{path}: {error.found}",
            expected="a whole PNG, JPEG, ...",
            cure="remove the file, or copy it again",
        ) from error
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
