"""Labels beside a recording: COCO lists and CSV files, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.bags import label_files
from lisard_ros.bags.labels import Truth
from lisard_ros.errors import DataError, LisardError, UsageError


def csv(folder: Path, text: str) -> Path:
    """A CSV file."""
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def coco(folder: Path, **changes: Any) -> Path:
    """A COCO list with changes."""
    content = {
        "images": [{"id": 1, "file_name": "a/1700000000.000000005.jpg"}, {"id": 2, "file_name": "x", "stamp_ns": 9}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "track_id": 7},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
        "categories": [{"id": 3, "name": "stop"}],
    }
    path = folder / "labels.json"
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
    return path


def test_whole_frames_in_csv(tmp_path: Path) -> None:
    (found,) = label_files.read(csv(tmp_path, "stamp_ns,label,track\n20, stop ,t1\n10,yield,\n"))
    assert found.stamps_ns.tolist() == [10, 20] and found.truths == (Truth("yield"), Truth("stop", None, "t1"))
    assert found.source == "labels.csv" and found.topic == ""


def test_boxes_in_csv(tmp_path: Path) -> None:
    text = "stamp_s,topic,label,x0_px,y0_px,x1_px,y1_px\n1.5,/a,stop,0,1,2,3\n1.5,/a,stop,4,4,5,5\n2,/b,,,,,\n"
    first, second = label_files.read(csv(tmp_path, text))
    assert (first.topic, first.stamps_ns.tolist()) == ("/a", [1_500_000_000])
    assert first.truths[0] is not None
    assert [r.box_xyxy_px for r in first.truths[0].regions or ()] == [(0, 1, 2, 3), (4, 4, 5, 5)]
    assert second.truths == (Truth(None, ()),), "a frame without any box"


def test_a_coco_list(tmp_path: Path) -> None:
    (found,) = label_files.read(coco(tmp_path))
    assert found.stamps_ns.tolist() == [9, 1_700_000_000_000_000_005]
    nothing, one = found.truths
    assert nothing == Truth(None, ()) and one is not None and one.regions is not None
    assert [(r.label, r.box_xyxy_px, r.id) for r in one.regions] == [("stop", (1, 2, 4, 6), "7")]


def test_a_coco_list_of_whole_images(tmp_path: Path) -> None:
    (found,) = label_files.read(coco(tmp_path, annotations=[{"image_id": 2, "category_id": 3}]))
    assert found.truths[0] == Truth("stop")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no header"),
        ("stamp_ns,lable\n", "unknown column .*did you mean 'label'"),
        ("stamp_ns\n1\n", "expected stamp_ns or stamp_s, label"),
        ("stamp_ns,stamp_s,label\n", "expected stamp_ns or stamp_s"),
        ("stamp_ns,label,x0_px\n", "all or none of x0_px"),
        ("stamp_ns,label\n", "found no labels"),
        ("stamp_ns,label\n1,a\n1,b\n", "2 classes of the whole frame"),
        ("stamp_ns,label\nx,a\n", "line 2: found stamp 'x', expected a number"),
        ("stamp_s,label\nnan,a\n", "expected a number"),
        ("stamp_s,label\ninf,a\n", "expected a number"),
        ("stamp_ns,label\n-1,a\n", r"expected 0 to 2\^63"),
        ("stamp_ns,label\n99999999999999999999,a\n", r"expected 0 to 2\^63"),
        ("stamp_ns,label\n1\n", "another number of fields"),
        ("stamp_ns,label\n1,a,b\n", "another number of fields"),
        ("stamp_ns,label\n1,\n", "found no label"),
        ("stamp_ns,label,x0_px,y0_px,x1_px,y1_px\n1,a,0,0,x,1\n", "expected four numbers"),
        ("stamp_ns,label,x0_px,y0_px,x1_px,y1_px\n1,a,0,0,0,1\n", "right of left and below top"),
        ("stamp_ns,label,x0_px,y0_px,x1_px,y1_px\n1,a,0,0,nan,1\n", "finite corners"),
        ("stamp_ns,label,x0_px,y0_px,x1_px,y1_px\n1,,0,0,1,1\n", "a box without a label"),
        ('stamp_ns,label\n1,"a', "expected a CSV file"),
    ],
)
def test_csv_files_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        label_files.read(csv(tmp_path, text))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "x"}, "expected a COCO list"),
        ({"images": [{"id": 1, "file_name": "cat.jpg"}]}, "a file name that is the stamp"),
        ({"images": [{"id": 1, "file_name": "5.jpg"}, {"id": 2, "stamp_ns": 5}]}, "stamp 5 ns twice"),
        ({"images": [{"id": 1, "stamp_ns": -5}]}, r"expected 0 to 2\^63"),
        ({"images": []}, "found image 1, category 3, expected numbers that the list has"),
        ({"images": [], "annotations": []}, "found no labels"),
        ({"categories": []}, "found image 1, category 3, expected numbers that the list has"),
        ({"annotations": [{"image_id": 1, "category_id": 3, "bbox": [0, 0, -1, 2]}]}, "right of left"),
    ],
)
def test_coco_lists_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        label_files.read(coco(tmp_path, **changes))


def test_files_that_are_neither(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("")
    (tmp_path / "bin.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "bin.json").write_bytes(b"\xff\xfe\x00")
    for name, message in (("x.txt", "expected .json or .csv"), ("bin.csv", "UTF-8"), ("bin.json", "COCO")):
        with pytest.raises(DataError, match=message):
            label_files.read(tmp_path / name)
    with pytest.raises(DataError, match="No such file"):
        label_files.read(tmp_path / "none.csv")


@given(st.binary(max_size=200), st.sampled_from([".csv", ".json"]))
def test_any_bytes_are_labels_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(b"stamp_ns,label\n" + content if suffix == ".csv" else content)
    try:
        label_files.read(path)
    except LisardError as error:
        assert "found" in str(error)


def test_a_map_of_classes(tmp_path: Path) -> None:
    assert label_files.read_map("a=b, c=") == {"a": "b", "c": ""}
    (tmp_path / "map.yaml").write_text("a: b\nc:\n")
    assert label_files.read_map(str(tmp_path / "map.yaml")) == {"a": "b", "c": ""}


@pytest.mark.parametrize("words", ["a=b,c", "=b", "a=b,a=c", "none.yaml"])
def test_maps_that_cannot_be_used(words: str) -> None:
    with pytest.raises(UsageError, match="--label-map"):
        label_files.read_map(words)


@pytest.mark.parametrize("text", ["- a\n", "a: [1]\n", "a: {", "a: 1\n"])
def test_files_of_maps_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(UsageError, match="--label-map"):
        label_files.read_map(str(tmp_path / "map.yaml"))
