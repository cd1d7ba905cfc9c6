"""Real images for calibration and verification: a folder, an .npz, or a bundle's own reference images.

An image file becomes one frame, as it is; its class is the name of its folder: a label of the bundle, or its index.
For a detector a folder may hold a COCO list (annotations.json); then its images are taken, with their true boxes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle import Bundle
from lisard_ros.bundle.arrays import load_arrays
from lisard_ros.bundle.manifest import TrueBox
from lisard_ros.errors import DataError, LisardError, one_line
from lisard_ros.evaluation import references
from lisard_ros.evaluation.average_precision import TrueBoxes
from lisard_ros.frames import Frame, pixels_sha256
from lisard_ros.image_files import coco_images
from lisard_ros.image_files.coco import list_in
from lisard_ros.image_files.folders import UNKNOWN, class_of, image_files, read_rgb


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Images as frames with their label indices, int [N] (UNKNOWN where not known), and where they came from.

    groups: the track of each image (TRACK_FRAME.png), or itself; images of one track are no independent evidence.
    boxes: the true boxes of each image in its pixels, None where not known.
    """

    name: str
    frames: tuple[Frame, ...]
    labels: NDArray[np.intp]
    groups: tuple[str, ...]
    boxes: tuple[TrueBoxes | None, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.frames)

    @property
    def sha256(self) -> str:
        """Hash over the pixels of all images, in their order."""
        return hashlib.sha256("\n".join(frame.sha256() for frame in self.frames).encode()).hexdigest()

    @property
    def labelled(self) -> bool:
        """Whether the class of every image is known."""
        return bool(len(self.frames)) and bool((self.labels >= 0).all())

    @property
    def boxed(self) -> bool:
        """Whether the true boxes of every image are known."""
        return bool(len(self.frames)) and all(boxes is not None for boxes in self.boxes)

    def spread(self, count: int) -> ImageSet:
        """Return `count` images, spread evenly over the set; all of them if it has no more."""
        return self._take(_places(len(self), count)) if 0 < count < len(self) else self

    def _take(self, places: NDArray[np.intp]) -> ImageSet:
        frames = tuple(self.frames[place] for place in places)
        groups, boxes = (tuple(of_each[place] for place in places) for of_each in (self.groups, self.boxes))
        return ImageSet(self.name, frames, self.labels[places], groups, boxes)


def read(path: Path, labels: Sequence[str], count: int = 0, with_boxes: bool = False) -> ImageSet:
    """Read a folder of image files or an .npz (`frames` uint8 [N, H, W, 3] RGB, optional `labels`).

    count: how many, spread evenly over the sorted files; 0 means all. with_boxes: take the images and true boxes of
    the folder's COCO list, if there is one. DataError when there is nothing to read.
    """
    if path.is_dir():
        coco = list_in(path) if with_boxes else None
        return _read_list(path, coco_images.read(coco, labels), count) if coco else _read_folder(path, labels, count)
    if path.suffix == ".npz" and path.is_file():
        return _read_npz(path, labels).spread(count)
    raise DataError(
        "no images there",
        found=str(path),
        expected="a folder of images or an .npz",
        cure="give a folder with real images such as the camera will see",
    )


def of_frames(name: str, frames: Sequence[Frame]) -> ImageSet:
    """Return frames of which it is not known what they show."""
    unknown = np.full(len(frames), UNKNOWN, np.intp)
    return ImageSet(name, tuple(frames), unknown, _each(name, len(frames)), (None,) * len(frames))


def of_bundle(bundle: Bundle) -> ImageSet:
    """Return the reference images of a bundle's self test; empty when it has none."""
    test = bundle.manifest.self_test
    if test is None:
        return ImageSet("none", (), np.empty(0, np.intp), (), ())
    loaded = references.load(bundle, test)
    boxes = tuple(_true_boxes(truth) if isinstance(truth, tuple) else None for truth in loaded.truths)
    return ImageSet("self test", loaded.frames, loaded.labels, _each("self test", len(loaded.frames)), boxes)


def joined(sets: Sequence[ImageSet]) -> ImageSet:
    """Return all images of several sets, each image once."""
    kept = [part for part in sets if len(part)]
    frames = tuple(frame for part in kept for frame in part.frames)
    labels = np.concatenate([np.empty(0, np.intp), *(part.labels for part in kept)])
    groups = tuple(group for part in kept for group in part.groups)
    boxes = tuple(of_one for part in kept for of_one in part.boxes)
    both = ImageSet(" and ".join(part.name for part in kept), frames, labels, groups, boxes)
    first = {key: place for place, key in reversed(list(enumerate(keys(both))))}
    return both._take(np.array(sorted(first.values()), np.intp))


def _read_folder(folder: Path, labels: Sequence[str], count: int) -> ImageSet:
    files = image_files(folder)
    chosen = [files[place] for place in _places(len(files), count)]
    tracks = tuple(f"{path.parent.name}/{path.stem.rpartition('_')[0] or path.stem}" for path in chosen)
    classes = np.array([class_of(path, labels) for path in chosen], np.intp)
    return ImageSet(folder.name, _frames(folder, chosen), classes, tracks, (None,) * len(chosen))


def _read_list(folder: Path, images: Sequence[coco_images.Listed], count: int) -> ImageSet:
    chosen = [images[place] for place in _places(len(images), count)]
    files = [image.path for image in chosen]
    unknown, each = np.full(len(files), UNKNOWN, np.intp), tuple(str(path.relative_to(folder)) for path in files)
    return ImageSet(folder.name, _frames(folder, files), unknown, each, tuple(image.boxes for image in chosen))


def _frames(folder: Path, files: Sequence[Path]) -> tuple[Frame, ...]:
    return tuple(Frame(read_rgb(path), "rgb", number, folder.name, folder.name) for number, path in enumerate(files))


def _true_boxes(boxes: Sequence[TrueBox]) -> TrueBoxes:
    corners = np.array([box.box_xyxy_px for box in boxes], np.float64).reshape(-1, 4)
    return TrueBoxes(corners, np.array([box.label for box in boxes], np.int64))


def _places(total: int, count: int) -> NDArray[np.intp]:
    """Those of `count` images, spread evenly; of all where count is not above 0."""
    return references.spread(np.arange(total), count if count > 0 else total)


def _each(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name} {number}" for number in range(count))


def _read_npz(path: Path, labels: Sequence[str]) -> ImageSet:
    try:
        arrays = load_arrays(path.read_bytes(), path.name)
    except (OSError, LisardError) as error:
        raise DataError("cannot read the images", found=f"{path}: {one_line(error)}") from error
    pixels = arrays.get("frames")
    fits = pixels is not None and pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[3] == 3
    if pixels is None or not fits or not len(pixels):
        raise DataError(
            f"{path.name} has no images",
            found="no `frames`" if pixels is None else f"{pixels.dtype} {list(pixels.shape)}",
            expected="`frames` uint8 [N, H, W, 3], N >= 1",
        )
    classes = np.asarray(arrays.get("labels", np.full(len(pixels), UNKNOWN)), np.intp)
    if classes.shape != (len(pixels),) or classes.max() >= len(labels):
        raise DataError(
            f"{path.name}: the labels do not fit",
            found=f"{list(classes.shape)}, up to {classes.max(initial=-1)}",
            expected=f"[{len(pixels)}], below {len(labels)}",
        )
    frames = tuple(Frame(np.asarray(p, np.uint8), "rgb", n, path.stem, path.stem) for n, p in enumerate(pixels))
    return ImageSet(path.stem, frames, classes, _each(path.stem, len(frames)), (None,) * len(frames))


def keys(images: ImageSet) -> tuple[str, ...]:
    """Return the hash of each image's pixels, by which stored perturbations find theirs."""
    return tuple(pixels_sha256(frame.rgb()) for frame in images.frames)
