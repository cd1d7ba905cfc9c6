"""Training pictures: a folder <class>/<track>_<frame>.png read once into one uint8 array, split by track.

Frames of one track show the same sign a moment apart, so a track is never divided between training and validation.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from lisard_ros.errors import DataError

DATA_VARIABLE = "LISARD_DATA"
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm", ".bmp")
EXPECTED_LAYOUT = "<folder>/<class>/<track>_<frame>.png"
MIN_TRACKS_PER_CLASS = 2


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures: images uint8 [N,3,H,W] RGB, labels int64 [N]; N tracks and paths relative to the folder."""

    images: Tensor
    labels: Tensor
    tracks: tuple[str, ...]
    paths: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, positions: np.ndarray) -> Pictures:
        """The pictures at these positions, in this order."""
        index = torch.from_numpy(np.asarray(positions, dtype=np.int64))
        names = [int(i) for i in positions]
        return Pictures(
            self.images[index],
            self.labels[index],
            tuple(self.tracks[i] for i in names),
            tuple(self.paths[i] for i in names),
            self.classes,
        )

    def sha256(self) -> str:
        """Hash of every pixel, label and track, so that a card can name its data."""
        digest = hashlib.sha256(self.images.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        digest.update("\n".join(self.tracks).encode())
        return digest.hexdigest()


def find_folder(given: str | os.PathLike[str] | None) -> Path:
    """The data folder: the given one, else LISARD_DATA. A folder that holds `train/` stands for that subfolder."""
    name = given or os.environ.get(DATA_VARIABLE)
    if not name:
        raise DataError(
            "training data", found="nothing given", expected=EXPECTED_LAYOUT, cure=f"use --data or set {DATA_VARIABLE}"
        )
    folder = Path(name)
    if not folder.is_dir():
        raise DataError("training data", found=f"no folder {folder}", expected=EXPECTED_LAYOUT, cure="check --data")
    return folder / "train" if (folder / "train").is_dir() else folder


def read(folder: Path, size_px: int) -> Pictures:
    """Reads every picture below `folder`; pictures of another size are resized to size_px x size_px."""
    classes = _class_names(folder)
    listed = [(path, label) for label, name in enumerate(classes) for path in _class_pictures(folder / name)]
    with ThreadPoolExecutor(2) as pool:
        images = np.stack(list(pool.map(lambda item: _decode(item[0], size_px), listed)))
    labels = torch.tensor([label for _, label in listed], dtype=torch.int64)
    paths = tuple(path.relative_to(folder).as_posix() for path, _ in listed)
    tracks = tuple(path.parent.name + "/" + path.stem.rpartition("_")[0] for path, _ in listed)
    return Pictures(torch.from_numpy(images), labels, tracks, paths, tuple(classes))


def _class_names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        raise DataError("training data", found=f"{len(names)} class folders in {folder}", expected=EXPECTED_LAYOUT)
    return names


def _class_pictures(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    if not found:
        raise DataError(
            f"class folder {folder.name}", found="no pictures", expected=EXPECTED_LAYOUT, cure="fill or remove it"
        )
    bad = [path.name for path in found if "_" not in path.stem]
    if bad:
        raise DataError(f"class folder {folder.name}", found=f"file name {bad[0]}", expected="<track>_<frame>.png")
    return found


def _decode(path: Path, size_px: int) -> np.ndarray:
    """One file -> uint8 [3,H,W] RGB."""
    image = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if image is None:
        raise DataError(
            f"picture {path}",
            found="a file that is not a picture",
            expected="a PNG or JPEG",
            cure="remove or replace it",
        )
    if image.shape[:2] != (size_px, size_px):
        image = cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1))


@dataclass(frozen=True)
class Split:
    """Training and validation pictures with no track in common."""

    train: Pictures
    validation: Pictures


def split_by_track(pictures: Pictures, share: float, seed: int) -> Split:
    """Holds back `share` of the tracks of every class, at least one; the same seed gives the same split."""
    generator = np.random.default_rng(seed)
    held_back: set[str] = set()
    for label, name in enumerate(pictures.classes):
        tracks = sorted({t for t, own in zip(pictures.tracks, pictures.labels.tolist(), strict=True) if own == label})
        if len(tracks) < MIN_TRACKS_PER_CLASS:
            raise DataError(
                f"class {name}",
                found=f"{len(tracks)} track",
                expected=f"at least {MIN_TRACKS_PER_CLASS} tracks, to split by track",
            )
        count = min(max(1, round(share * len(tracks))), len(tracks) - 1)
        held_back.update(tracks[i] for i in generator.permutation(len(tracks))[:count])
    is_held = np.array([track in held_back for track in pictures.tracks])
    return Split(pictures.take(np.flatnonzero(~is_held)), pictures.take(np.flatnonzero(is_held)))


def check_batch(batch: int, available: int) -> None:
    """Batch statistics need two pictures, and a batch must exist at all."""
    if not 2 <= batch <= available:
        raise DataError(
            "batch size", found=batch, expected=f"2 to {available}", cure="change optimiser.batch in the recipe"
        )


def batches(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Index batches of one epoch in a fresh random order; the last, partial batch is left out."""
    order = torch.randperm(count, generator=generator)
    for start in range(0, count - batch + 1, batch):
        yield order[start : start + batch]


def to_unit(images: Tensor) -> Tensor:
    """uint8 -> float32 in [0,1]."""
    return images.float().div_(255)
