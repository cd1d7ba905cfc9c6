"""The same three street scenes, made of shipped traffic-sign images, written in every format of detection data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

SIGNS = Path(__file__).parents[4] / "data" / "gtsrb_tracks"
CLASSES = ("car", "sign")
SIZE = (120, 80)  # width, height


@dataclass(frozen=True)
class Truth:
    """A scene: file stem, pixels, and boxes (class, x0, y0, x1, y1)."""

    stem: str
    pixels: np.ndarray
    boxes: tuple[tuple[str, int, int, int, int], ...]


def make_truths() -> list[Truth]:
    files = sorted(SIGNS.rglob("*.png"))[::40]
    signs = [cv2.imread(str(file)) for file in files[:4]]
    placed = [((0, 10, 10, "sign"), (1, 60, 30, "car")), ((2, 40, 20, "sign"),), ()]
    truths = []
    for number, own in enumerate(placed):
        pixels = np.full((SIZE[1], SIZE[0], 3), 60 + number, np.uint8)
        boxes = []
        for sign, left, top, name in own:
            height, width = signs[sign].shape[:2]
            pixels[top : top + height, left : left + width] = signs[sign]
            boxes.append((name, left, top, left + width, top + height))
        truths.append(Truth(f"scene{number}", pixels, tuple(boxes)))
    return truths


def _image(folder: Path, truth: Truth) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / f"{truth.stem}.png"), truth.pixels)
    return f"{truth.stem}.png"


def write_coco(root: Path, part: str = "train") -> Path:
    images, annotations = [], []
    for number, truth in enumerate(make_truths()):
        name = _image(root / part / "images", truth)
        images.append({"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        for label, x0, y0, x1, y1 in truth.boxes:
            box = {
                "id": len(annotations),
                "image_id": number,
                "category_id": CLASSES.index(label) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
            }
            annotations.append(box)
    categories = [{"id": n + 1, "name": name} for n, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / part / "annotations.json").write_text(json.dumps(content))
    return root


def write_yolo(root: Path) -> Path:
    for truth in make_truths():
        _image(root / "images" / "train", truth)
        rows = []
        for label, x0, y0, x1, y1 in truth.boxes:
            shares = ((x0 + x1) / 2 / SIZE[0], (y0 + y1) / 2 / SIZE[1], (x1 - x0) / SIZE[0], (y1 - y0) / SIZE[1])
            rows.append(" ".join(map(str, (CLASSES.index(label), *shares))))
        if rows:
            (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
            (root / "labels" / "train" / f"{truth.stem}.txt").write_text("\n".join(rows) + "\n")
    (root / "data.yaml").write_text(yaml.safe_dump({"names": list(CLASSES), "train": "images/train"}))
    return root


def write_kitti(root: Path) -> Path:
    (root / "training" / "label_2").mkdir(parents=True)
    for truth in make_truths():
        _image(root / "training" / "image_2", truth)
        rows = [f"{label} 0 0 -1.5 {x0} {y0} {x1} {y1} 1 1 1 0 0 0 0" for label, x0, y0, x1, y1 in truth.boxes]
        (root / "training" / "label_2" / f"{truth.stem}.txt").write_text("\n".join(rows))
    return root


def write_voc(root: Path) -> Path:
    (root / "Annotations").mkdir(parents=True)
    for truth in make_truths():
        name = _image(root / "JPEGImages", truth)
        objects = "".join(
            f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for label, x0, y0, x1, y1 in truth.boxes
        )
        size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
        text = f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"
        (root / "Annotations" / f"{truth.stem}.xml").write_text(text)
    return root


WRITERS = {"coco": write_coco, "yolo": write_yolo, "kitti": write_kitti, "voc": write_voc}


@pytest.fixture(params=sorted(WRITERS))
def written(request, tmp_path):
    """(kind, folder) of each format in turn."""
    return request.param, WRITERS[request.param](tmp_path / request.param)


@pytest.fixture
def coco(tmp_path):
    return write_coco(tmp_path / "coco")


@pytest.fixture
def yolo(tmp_path):
    return write_yolo(tmp_path / "yolo")


@pytest.fixture
def kitti(tmp_path):
    return write_kitti(tmp_path / "kitti")


@pytest.fixture
def voc(tmp_path):
    return write_voc(tmp_path / "voc")


@pytest.fixture
def truths():
    return make_truths()


@pytest.fixture(name="write_coco")
def give_write_coco():
    return write_coco
