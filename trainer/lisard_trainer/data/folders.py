"""Picture folders: where they are, which classes and files they hold, and their pixels as one uint8 array."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch

from lisard_ros.errors import DataError

from .pictures import Pictures

DATA_VARIABLE = "LISARD_DATA"
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm", ".bmp")
EXPECTED_LAYOUT = "<folder>/<class>/<track>_<frame>.png"


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
