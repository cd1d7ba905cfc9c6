"""Folders of images with a COCO list: boxes of the model's classes, crowds, and every fault named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lisard_ros.errors import DataError
from lisard_ros.image_files import coco_images

LABELS = ("red", "green")


def write(folder: Path, **changes: Any) -> Path:
    """A list of two images, of which one lies in images/."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, place in enumerate((folder / "b.png", folder / "images" / "a.png")):
        assert cv2.imwrite(str(place), np.full((20, 40, 3), 60 + number, np.uint8))
    values: dict[str, Any] = {
        "images": [{"id": n, "file_name": name, "width": 40, "height": 20} for n, name in ((7, "b.png"), (9, "a.png"))],
        "categories": [{"id": 1, "name": "green"}, {"id": 2, "name": "red"}, {"id": 3, "name": "never used"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [2, 3, 10, 5]},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 4, 4], "iscrowd": 1},
        ],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps({**values, **changes}))
    return path


def test_images_come_with_their_boxes(tmp_path: Path) -> None:
    first, second = coco_images.read(write(tmp_path), LABELS)
    assert (first.path, second.path) == (tmp_path / "b.png", tmp_path / "images" / "a.png")
    assert not len(second.boxes.classes)
    assert first.boxes.boxes_xyxy_px.tolist() == [[2, 3, 12, 8]] and first.boxes.classes.tolist() == [1]
    assert first.boxes.ignored_xyxy_px.tolist() == [[0, 0, 4, 4]]


def test_the_folders_of_coco_are_found(tmp_path: Path) -> None:
    write(tmp_path)
    assert coco_images.find_list(tmp_path) == tmp_path / "annotations.json"
    (tmp_path / "annotations").mkdir()
    there = (tmp_path / "annotations.json").rename(tmp_path / "annotations" / "instances_val2017.json")
    (tmp_path / "val2017").mkdir()
    (tmp_path / "b.png").rename(tmp_path / "val2017" / "b.png")
    assert coco_images.find_list(tmp_path) == there
    assert [one.path.parent.name for one in coco_images.read(there, LABELS)] == ["images", "val2017"]
    (tmp_path / "annotations" / "instances_train2017.json").write_bytes(there.read_bytes())
    with pytest.raises(DataError, match=r"instances_train2017\.json, annotations/instances_val2017\.json.*one list"):
        coco_images.find_list(tmp_path)
    assert coco_images.find_list(tmp_path / "val2017") is None


ROW = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [2, 3, 10, 5]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [], "annotations": []}, "no image"),
        ({"images": [{"id": 7, "file_name": "b.png", "width": 4, "height": 4}] * 2}, "an image number twice"),
        ({"images": [{"id": 7, "file_name": "../b.png", "width": 4, "height": 4}]}, r"no image \.\./b\.png"),
        ({"annotations": [{**ROW, "category_id": 3}]}, "boxes of the class never used.*expected.*red, green"),
        ({"annotations": [{**ROW, "category_id": 8}]}, "number 8, which is not listed"),
        ({"annotations": [{**ROW, "image_id": 8}]}, "annotation 1 in image number 8"),
        ({"annotations": [{**ROW, "bbox": [2, 3, 0, 5]}]}, "annotation 1 without area"),
        ({"annotations": [{**ROW, "bbox": [2, 3, 4]}]}, "COCO instances"),
        ({"annotations": [{**ROW, "id": n, "bbox": [0, 0, 0, 0]} for n in range(9)]}, "and 4 more"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        coco_images.read(write(tmp_path, **changes), LABELS)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200) | st.text(max_size=50).map(lambda t: json.dumps({"images": t}).encode()))
def test_no_bytes_of_a_list_do_more_than_an_error(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_bytes(data)
    with pytest.raises(DataError):
        coco_images.read(tmp_path / "annotations.json", LABELS)
