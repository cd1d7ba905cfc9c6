"""Images for calibration and gate: classes from folder names, tracks from file names, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lisard_engines import image_sets
from lisard_ros.bundle.arrays import dump_arrays
from lisard_ros.errors import DataError


def test_a_folder_gives_classes_and_tracks(small: Any) -> None:
    found = image_sets.read(small.images(), small.labels)
    assert len(found) == 36 and found.labelled and set(found.labels) == {0, 1, 2}
    assert len(set(found.groups)) == 18, "six tracks in each of three classes"
    assert found.name == "images" and len(found.sha256) == 64


def test_a_coco_list_gives_boxes_where_they_are_wanted(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        assert cv2.imwrite(str(tmp_path / name), np.full((20, 40, 3), 60, np.uint8))
    content = {
        "images": [{"id": n, "file_name": f, "width": 40, "height": 20} for n, f in ((7, "b.png"), (9, "a.png"))],
        "categories": [{"id": 1, "name": "y"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [2, 3, 10, 5]}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    found = image_sets.read(tmp_path, ("x", "y"), with_boxes=True)
    assert found.boxed and not found.labelled and found.groups == ("a.png", "b.png")
    assert [[] if own is None else own.classes.tolist() for own in found.boxes] == [[], [1]]
    assert not image_sets.read(tmp_path, ("x", "y")).boxed, "for calibration nobody asks for boxes"
    assert len(image_sets.read(tmp_path, ("x", "y"), 1, with_boxes=True).boxes) == 1


def test_a_part_is_spread_evenly_and_has_its_own_hash(small: Any) -> None:
    folder = small.images()
    part, whole = image_sets.read(folder, small.labels, 9), image_sets.read(folder, small.labels)
    assert len(part) == 9 and sorted(set(part.labels)) == [0, 1, 2]
    assert part.sha256 == image_sets.read(folder, small.labels, 9).sha256 != whole.sha256
    assert len(whole.spread(9)) == 9 and whole.spread(0) is whole and whole.spread(99) is whole


def test_an_index_names_a_class_and_anything_else_is_unknown(small: Any, tmp_path: Path) -> None:
    folder = small.images()
    (folder / "red").rename(folder / "00002")
    (folder / "green").rename(folder / "00007")
    found = image_sets.read(folder, small.labels)
    assert set(found.labels) == {2, image_sets.UNKNOWN} and not found.labelled


def test_sets_are_joined_and_each_image_is_taken_once(small: Any) -> None:
    own = image_sets.of_bundle(small.bundle())
    more = image_sets.read(small.images(), small.labels)
    both = image_sets.joined([own, more, own])
    assert len(both) == len(own) + len(more) and both.name == "self test and images and self test"
    assert image_sets.keys(both)[: len(own)] == image_sets.keys(own)


def test_a_bundle_without_a_self_test_has_no_images(small: Any) -> None:
    assert len(image_sets.of_bundle(small.bundle(self_test=None))) == 0


def test_an_npz_is_read(tmp_path: Path) -> None:
    frames = np.zeros((3, 8, 9, 3), np.uint8)
    (tmp_path / "a.npz").write_bytes(dump_arrays({"frames": frames, "labels": np.array([0, 1, 1])}))
    found = image_sets.read(tmp_path / "a.npz", ("x", "y"))
    assert len(found) == 3 and list(found.labels) == [0, 1, 1] and found.labelled


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"frames": np.zeros((0, 8, 8, 3), np.uint8)},
        {"frames": np.zeros((2, 8, 8), np.uint8)},
        {"frames": np.zeros((2, 8, 8, 3), np.float32)},
        {"frames": np.zeros((2, 8, 8, 3), np.uint8), "labels": np.array([0, 9])},
        {"frames": np.zeros((2, 8, 8, 3), np.uint8), "labels": np.array([0])},
    ],
)
def test_an_npz_of_the_wrong_size_is_refused(arrays: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(dump_arrays(arrays))
    with pytest.raises(DataError, match="has no images|labels do not fit"):
        image_sets.read(tmp_path / "a.npz", ("x", "y"))


def test_an_empty_folder_a_missing_one_and_a_broken_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images in the folder"):
        image_sets.read(tmp_path, ())
    with pytest.raises(DataError, match="no images there"):
        image_sets.read(tmp_path / "none", ())
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="not an image that OpenCV reads"):
        image_sets.read(tmp_path, ())
