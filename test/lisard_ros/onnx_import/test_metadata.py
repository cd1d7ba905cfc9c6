"""Metadata of exported files: what ultralytics writes is read, and whatever else stands there is no error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.onnx_import.metadata import FileFacts, read_facts, unique

# What `YOLO("yolov8n.pt").export(format="onnx")` writes, with three of the eighty names.
ULTRALYTICS = {
    "description": "Ultralytics YOLOv8n model trained on coco.yaml",
    "author": "Ultralytics",
    "date": "2024-11-26T10:03:11.134041",
    "version": "8.3.38",
    "license": "AGPL-3.0 License (https://ultralytics.com/license)",
    "docs": "https://docs.ultralytics.com",
    "stride": "32",
    "task": "detect",
    "batch": "1",
    "imgsz": "[480, 640]",
    "names": "{0: 'person', 1: 'bicycle', 2: \"driver's cab\"}",
    "args": "{'batch': 1, 'half': False, 'dynamic': False, 'simplify': True, 'nms': False}",
}


def test_what_ultralytics_writes_is_read() -> None:
    assert read_facts(ULTRALYTICS) == FileFacts(
        task="detect",
        labels=("person", "bicycle", "driver's cab"),
        size_px=(640, 480),
        stride_px=32,
        batch=1,
        package="ultralytics",
        licence="AGPL-3.0 License (https://ultralytics.com/license)",
        attribution="Ultralytics YOLOv8n model trained on coco.yaml, Ultralytics",
    )


def test_a_file_without_metadata_holds_nothing() -> None:
    assert read_facts({}) == FileFacts()


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ("['a', 'b']", ("a", "b")),
        ("{'0': 'a', '1': 'b'}", ("a", "b")),
        ('{"1": "b", "0": "a"}', ("a", "b")),
        ("{0: 'a', 2: 'b'}", None),
        ("{0: 'a', 1: ''}", None),
        ("{0: 'a', 1: 7}", None),
        ("{'x': 'a'}", None),
        ("[]", None),
        ("__import__('os').getcwd()", None),
        ("{0: 'a'", None),
        ("(" * 5000, None),
    ],
)
def test_names_are_read_or_named_as_unread(names: str, labels: tuple[str, ...] | None) -> None:
    found = read_facts({"names": names})
    assert found.labels == labels and found.unread == (() if labels else ("names",))


@pytest.mark.parametrize(("imgsz", "size"), [("640", (640, 640)), ("(1, 2)", (2, 1)), ("[0, 4]", None), ("[4]", None)])
def test_sizes(imgsz: str, size: tuple[int, int] | None) -> None:
    assert read_facts({"imgsz": imgsz}).size_px == size


def test_labels_that_repeat_are_numbered() -> None:
    """ImageNet has two classes `crane` and two `maillot`."""
    assert unique(("crane", "a", "crane", "crane_2", "crane")) == ("crane", "a", "crane_3", "crane_2", "crane_4")


@given(st.dictionaries(st.sampled_from(sorted(ULTRALYTICS)), st.text(max_size=40)))
def test_no_metadata_raise(metadata: dict[str, str]) -> None:
    found = read_facts(metadata)
    assert found.labels is None or all(found.labels)


@given(st.lists(st.sampled_from(["a", "b", "a_2", "a_3"]), max_size=8).map(tuple))
def test_numbered_labels_never_repeat(labels: tuple[str, ...]) -> None:
    assert len(set(unique(labels))) == len(labels)
