"""Folders of image files: which are read, what their folders say, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lisard_ros.errors import DataError
from lisard_ros.image_files import folders


def test_files_are_found_below_and_sorted(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "a/1.jpg", "a/notes.txt", "3.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in folders.image_files(tmp_path)]
    assert found == ["3.bmp", "a/1.jpg", "b/2.PNG"]
    with pytest.raises(DataError, match="no images in the folder"):
        folders.image_files(tmp_path / "nowhere")


def test_the_folder_names_the_class() -> None:
    labels = ("stop", "7", "yield")
    names = ("stop/a.png", "7/a.png", "00002/a.png", "3/a.png", "go/a.png")
    assert [folders.class_of(Path(name), labels) for name in names] == [0, 1, 2, -1, -1]


def test_pixels_are_rgb_and_what_is_no_image_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 5, 3), (1, 2, 3), np.uint8))
    assert folders.read_rgb(tmp_path / "a.png")[0, 0].tolist() == [3, 2, 1]
    for data in (b"", b"hello"):
        (tmp_path / "b.png").write_bytes(data)
        with pytest.raises(DataError, match="not an image that OpenCV reads"):
            folders.read_rgb(tmp_path / "b.png")
    with pytest.raises(DataError, match="cannot read an image"):
        folders.read_rgb(tmp_path / "none.png")
