"""Image files to one uint8 array: listed first, then decoded by a few threads; an unreadable file is named."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.decoding import decode_image
from lisard_ros.errors import DataError, ImageError
from lisard_ros.frames import BoxXyxyPx, Frame, Pixels
from lisard_ros.inference.preprocess import crop_bounds_px, resize

from .dataset import ImageDataset

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".ppm", ".pgm", ".pnm", ".bmp", ".webp")
# Images whose loss nobody would notice if they were passed over; other files (lists, notes) are.
UNREAD = (".gif", ".tif", ".tiff", ".jp2", ".heic", ".avif")
MAX_THREADS = 16
FILES_PER_TASK = 256
QUIET_S = 2.0  # shorter work shows no progress bar
_JPEG_START, _JPEG_SCAN, _JPEG_END, _TAIL = b"\xff\xd8", 0xDA, b"\xff\xd9", 1024


@dataclass(frozen=True)
class ListedImage:
    """An image to read: its file below the root, label, track, the part to cut out, and the size its list gives it.

    Paths are plain text here: a data set has tens of thousands of them.
    """

    name: str
    label: int
    track: str
    box_xyxy_px: BoxXyxyPx | None = None
    width_height_px: tuple[int, int] | None = None
    part: str = ""  # tells several entries of one file apart


@dataclass(frozen=True)
class Listing:
    """Images to read below `root`, with the names of their classes."""

    root: Path
    classes: tuple[str, ...]
    entries: tuple[ListedImage, ...]


def images_in(folder: Path) -> list[str]:
    """Names of the image files directly in a folder, in order; DataError names an image that is of no known kind."""
    strange = next((name for name in _names(folder) if name.lower().endswith(UNREAD)), None)
    if strange:
        raise DataError(
            f"image {folder / strange}",
            found="a kind that is not read",
            expected="one of " + ", ".join(SUFFIXES),
            cure="convert or remove it",
        )
    return sorted(_image_names(folder))


def first_image_in(folder: Path) -> str | None:
    """Name of any image file directly in a folder."""
    return next(_image_names(folder), None)


def _image_names(folder: Path) -> Iterator[str]:
    return (name for name in _names(folder) if name.lower().endswith(SUFFIXES))


def _names(folder: Path) -> Iterator[str]:
    """Names of what lies in a folder, hidden things left out."""
    with os.scandir(folder) as found:
        yield from (readable(entry) for entry in found if entry.name[0] != ".")


def readable(entry: os.DirEntry[str]) -> str:
    """A name that can be written down; DataError for bytes that are no UTF-8, as old archives unpack."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"data {Path(entry.path).parent}",
            found=f"the name {os.fsencode(entry.name)!r}",
            expected="names in UTF-8",
            cure="rename it",
        ) from None
    return entry.name


def decode(listing: Listing, size_px: int) -> ImageDataset:
    """Reads every listed image; other sizes are brought to size_px x size_px as on the vehicle."""
    images = np.empty((len(listing.entries), 3, size_px, size_px), np.uint8)
    _decode_all(listing, images)
    return ImageDataset(
        torch.from_numpy(images),
        torch.tensor([entry.label for entry in listing.entries], dtype=torch.int64),
        tuple(entry.track for entry in listing.entries),
        tuple(entry.name + entry.part for entry in listing.entries),
        listing.classes,
    )


def _decode_all(listing: Listing, images: Pixels) -> None:
    """Fills uint8 [N,3,H,W]; the first file that can't be read ends it."""
    count = len(listing.entries)
    tasks = [range(at, min(at + FILES_PER_TASK, count)) for at in range(0, count, FILES_PER_TASK)]
    title = f"reading {listing.root.name}"
    with (
        ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool,
        tqdm(total=count, desc=title, unit=" images", delay=QUIET_S, leave=False, disable=None) as bar,
    ):
        running = [pool.submit(_fill, images, listing, task) for task in tasks]
        try:
            for task, done in zip(tasks, running, strict=True):
                done.result()
                bar.update(len(task))
        finally:
            pool.shutdown(cancel_futures=True)


def _fill(images: Pixels, listing: Listing, task: range) -> None:
    spec = InputSpec(width=images.shape[3], height=images.shape[2])
    for position, pixels in zip(task, _pixels(listing.root, listing.entries[task.start : task.stop]), strict=True):
        fitting = pixels if pixels.shape[:2] == images.shape[2:] else resize(pixels, spec)
        images[position] = fitting.transpose(2, 0, 1)


def _pixels(root: Path, entries: Sequence[ListedImage]) -> Iterator[Pixels]:
    """RGB [h,w,3] of each entry; neighbours in one file share its decoding."""
    before = ""
    for entry in entries:
        if entry.name != before:
            whole, before = decode_one(str(root / entry.name), entry), entry.name
        yield whole if entry.box_xyxy_px is None else _cut(whole, entry)


def decode_one(path: str, entry: ListedImage) -> Pixels:
    """One file -> uint8 [h,w,3] RGB. Boxes are given for the image as stored, so there its orientation is left."""
    flags = cv2.IMREAD_COLOR if entry.box_xyxy_px is None else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        data = np.fromfile(path, dtype=np.uint8)
        image = None if _cut_short(data) else decode_image(data, flags)
    except (OSError, ImageError):
        image = None
    if image is None:
        raise DataError(
            f"image {path}",
            found="a file that is not an image",
            expected="a whole PNG or JPEG",
            cure="remove or replace it",
        )
    found, expected = (image.shape[1], image.shape[0]), entry.width_height_px
    if expected not in (None, found):
        raise DataError(
            f"image {path}",
            found=f"{found[0]}x{found[1]} pixels",
            expected="{}x{}, as its list says".format(*expected),
            cure="list and images belong to different data: take both from one place",
        )
    return np.asarray(image[:, :, ::-1], np.uint8)


def _cut_short(data: np.ndarray) -> bool:
    """Whether a JPEG is incomplete; some versions of OpenCV fill up the rest with grey.

    Phones append videos to a JPEG, so its end marker need not be last.
    """
    if data[:2].tobytes() != _JPEG_START or _JPEG_END in data[-_TAIL:].tobytes():
        return False
    return _JPEG_END not in data[_scan_of(data) :].tobytes()


def _scan_of(data: np.ndarray) -> int:
    """Where the first scan of a JPEG begins, behind headers that may hold a small image with an end of its own."""
    at = len(_JPEG_START)
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _JPEG_SCAN:
        at += 1 if data[at + 1] == 0xFF else 2 + int(data[at + 2]) * 256 + int(data[at + 3])
    return at


def _cut(whole: Pixels, entry: ListedImage) -> Pixels:
    try:
        left, top, right, bottom = crop_bounds_px(Frame(whole, "rgb", 0, "", ""), entry.box_xyxy_px, 0.0)
    except ImageError as error:
        raise DataError(f"box in {entry.name}", found=error.found, expected=error.expected) from error
    return whole[top:bottom, left:right]
