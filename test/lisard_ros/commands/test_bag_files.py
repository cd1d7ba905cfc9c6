"""`lisard bag info`, `make` and `repair`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lisard_ros.bags.reader import open_bag

ROOT = Path(__file__).resolve().parents[3]
S = 1_000_000_000


def rgb(seed: int) -> np.ndarray:
    """A random image."""
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def drive(recording: Any) -> Path:
    """Images and labels."""
    messages = [one for n in range(1, 31) for one in (recording.raw(rgb(n), n * S), recording.label(n * S, "a"))]
    return recording.write("drive", messages)


def test_info_lists_topics_and_losses(lisard: Any, drive: Path) -> None:
    done = lisard("bag", "info", drive)
    assert done.status == 0 and "60 messages read, lost: 0" in done.out and "29.0 s" in done.out
    assert ["/front/image_raw", "sensor_msgs/msg/Image", "30"] in [line.split() for line in done.out.splitlines()]
    (file,) = drive.glob("*.mcap")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    broken = lisard("bag", "info", drive, "--json")
    (found,) = json.loads(broken.out)
    read = sum(topic["messages"] for topic in found["topics"])
    assert broken.status == 1 and found["recording"]["lost"] == 60 - read > 0 and found["recording"]["damage"]


def test_a_damaged_recording_is_repaired(lisard: Any, drive: Path, tmp_path: Path) -> None:
    (file,) = drive.glob("*.mcap")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    (drive / "metadata.yaml").unlink()
    done = lisard("bag", "repair", drive, tmp_path / "whole")
    assert done.status == 0 and "lost: unknown" in done.out
    assert lisard("bag", "info", tmp_path / "whole").status == 0
    with open_bag(tmp_path / "whole") as bag:
        frames = list(bag.frames())
        assert bag.info()[0].damage == () and 10 < len(frames) == bag.count()
    assert all(item.frame is not None and np.array_equal(item.frame.rgb(), rgb(item.stamp_ns // S)) for item in frames)
    assert {item.label for item in frames[:-1]} == {"a"}
    lisard("bag", "repair", drive, tmp_path / "whole").refused("is there already")


def test_a_recording_is_made_of_class_folders(lisard: Any, tmp_path: Path) -> None:
    """GTSRB's own layout: numbered folders."""
    names = ROOT / "models/traffic_signs/bundle.json"
    words = ("bag", "make", tmp_path / "signs", "--classes", ROOT / "data/gtsrb_tracks", "--names", names)
    done = lisard(*words)
    assert done.status == 0 and "300 images" in done.out and "speed_limit_20" in done.out
    with open_bag(tmp_path / "signs") as bag:
        frames = list(bag.frames())
    assert len(frames) == 300 and frames[0].label == "speed_limit_20"
    assert all(item.frame is not None and item.frame.width_px == 32 for item in frames)
    lisard(*words).refused("is there already")


def test_a_recording_is_made_of_a_coco_list(lisard: Any, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.bmp"):
        cv2.imwrite(str(tmp_path / name), rgb(1))
    content = {
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 30, "height": 20},
            {"id": 2, "file_name": "b.bmp", "width": 30, "height": 20},
        ],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 2, 10, 8]}],
        "categories": [{"id": 5, "name": "stop"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    done = lisard("bag", "make", tmp_path / "bag", "--coco", tmp_path / "annotations.json", "--hz", "5")
    assert done.status == 0 and "2 images, labels: stop 1" in done.out
    with open_bag(tmp_path / "bag") as bag:
        first, second = bag.frames()
    assert [(r.label, r.box_xyxy_px) for r in first.regions or ()] == [("stop", (1, 2, 11, 10))]
    assert second.regions == () and second.stamp_ns - first.stamp_ns == S // 5
    assert second.frame is not None and np.array_equal(second.frame.rgb()[..., ::-1], rgb(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "none"], "found no folder"),
        (["--classes", "."], "no images in folders of classes"),
        (["--coco", "none.json"], "none.json"),
        (["--classes", ".", "--hz", "0"], "--hz out of range"),
        (["--coco", "x", "--names", "y"], "--names"),
        (["--classes", ".", "--names", "none"], "names none"),
    ],
)
def test_what_cannot_be_made(
    lisard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    lisard("bag", "make", tmp_path / "out", *options).refused(message)
    assert not (tmp_path / "out").exists()


def test_what_is_no_recording(lisard: Any, tmp_path: Path) -> None:
    lisard("bag", "info", tmp_path / "none").refused("no such bag")
    (tmp_path / "x.mcap").write_bytes(b"text")
    lisard("bag", "info", tmp_path / "x.mcap").refused("not a readable bag")
    lisard("bag", "repair", tmp_path / "x.mcap", tmp_path / "out").refused("not a readable bag")
