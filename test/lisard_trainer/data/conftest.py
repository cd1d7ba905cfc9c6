"""Tiny but real files of every layout that the trainer reads, made of the 300 traffic-sign images of data/."""

from __future__ import annotations

import json
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

SIGNS = Path(__file__).parents[3] / "data" / "gtsrb_tracks"
WNIDS = ("n01443537", "n01629819", "n02124075")
COCO_CATEGORIES = {1: "person", 3: "car", 10: "traffic light"}
GTSRB_COLUMNS = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"


def read_signs() -> np.ndarray:
    """uint8 [30,10,3,32,32] RGB: 30 classes with ten frames each, read without the code under test."""
    folders = sorted(path for path in SIGNS.iterdir() if path.is_dir())
    frames = [[cv2.imread(str(file))[:, :, ::-1] for file in sorted(folder.iterdir())] for folder in folders]
    return np.stack([np.stack(own) for own in frames]).transpose(0, 1, 4, 2, 3).copy()


def write_image(path: Path, pixels: np.ndarray, scale: int = 1) -> Path:
    """uint8 [3,H,W] RGB as a file in the format of its suffix, each pixel `scale` times as wide."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = pixels.transpose(1, 2, 0)[:, :, ::-1]
    assert cv2.imwrite(str(path), np.ascontiguousarray(bgr.repeat(scale, 0).repeat(scale, 1)))
    return path


def python2_pickle(content: dict[str, object]) -> bytes:
    """The bytes that Python 2 wrote (protocol 2, 8-bit strings), which Python 3 has no way to write."""
    return b"\x80\x02}(" + b"".join(_python2(name) + _python2(value) for name, value in content.items()) + b"u."


def _python2(value: object) -> bytes:
    if isinstance(value, str):
        raw = value.encode("latin-1")
        return (b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))) + raw
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(_python2(item) for item in value) + b"e"
    assert isinstance(value, np.ndarray) and value.dtype == np.uint8
    shape = b"".join(_python2(size) for size in value.shape)
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return empty + b"(K\x01(" + shape + b"t" + kind + b"\x89" + _python2(value.tobytes().decode("latin-1")) + b"tb"


@dataclass(frozen=True)
class Layouts:
    """Writes data sets; `signs` are the images that it uses, uint8 [30,10,3,32,32]."""

    signs: np.ndarray

    def cifar10_rows(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Ten images, one of each class, out of order: labels [10], pixels [10,3072]."""
        labels = (np.arange(10) * 7 + frame) % 10
        return labels.astype(np.uint8), self.signs[labels, frame].reshape(10, -1)

    def cifar10_binary(self, folder: Path) -> Path:
        """Five training batches and a test batch of ten images each."""
        folder.mkdir(parents=True)
        for frame in range(6):
            labels, pixels = self.cifar10_rows(frame)
            name = f"data_batch_{frame + 1}.bin" if frame < 5 else "test_batch.bin"
            (folder / name).write_bytes(np.concatenate([labels[:, None], pixels], 1).tobytes())
        return folder

    def cifar10_pickled(self, folder: Path, python: int = 2) -> Path:
        """The same in pickles of Python 2, as published, or of Python 3."""
        folder.mkdir(parents=True)
        for frame in range(6):
            labels, pixels = self.cifar10_rows(frame)
            names = [f"sign_{row:06d}.png" for row in range(len(labels))]
            content = {"data": pixels, "labels": labels.tolist(), "batch_label": "batch", "filenames": names}
            raw = python2_pickle(content) if python == 2 else pickle.dumps(content)
            (folder / (f"data_batch_{frame + 1}" if frame < 5 else "test_batch")).write_bytes(raw)
        return folder

    def cifar10_folders(self, root: Path, classes: tuple[str, ...]) -> Path:
        """The same as class folders of PNG files; frames 0 to 4 for training, 5 for testing."""
        for label, name in enumerate(classes):
            for frame in range(6):
                part = "train" if frame < 5 else "test"
                write_image(root / part / name / f"{frame:04d}.png", self.signs[label, frame])
        return root

    def cifar100_rows(self, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An image of each of 100 classes: coarse labels, fine labels, pixels [100,3072]."""
        fine = np.arange(100, dtype=np.uint8)[::-1]
        return fine // 5, fine, self.signs[fine % 30, frame].reshape(100, -1)

    def cifar100_binary(self, folder: Path) -> Path:
        """200 training and 100 test images."""
        folder.mkdir(parents=True)
        parts = [np.concatenate([c[:, None], f[:, None], p], 1) for c, f, p in map(self.cifar100_rows, range(3))]
        (folder / "train.bin").write_bytes(np.concatenate(parts[:2]).tobytes())
        (folder / "test.bin").write_bytes(parts[2].tobytes())
        return folder

    def cifar100_pickled(self, folder: Path) -> Path:
        """The same in pickles of Python 2."""
        folder.mkdir(parents=True)
        for name, frames in (("train", (0, 1)), ("test", (2,))):
            rows = [self.cifar100_rows(frame) for frame in frames]
            coarse, fine, pixels = (np.concatenate([row[column] for row in rows]) for column in range(3))
            content = {"data": pixels, "coarse_labels": coarse.tolist(), "fine_labels": fine.tolist()}
            (folder / name).write_bytes(python2_pickle(content))
        return folder

    def gtsrb_published(self, root: Path, classes: int = 3) -> Path:
        """Three tracks of two frames in each class, of 40 x 40 pixels with a border; and six test images."""
        for label in range(classes):
            folder, lines = root / "Final_Training" / "Images" / f"{label:05d}", [GTSRB_COLUMNS]
            for track in range(3):
                for frame in range(2):
                    name = f"{track:05d}_{frame:05d}.ppm"
                    write_image(folder / name, self.bordered(label, 2 * track + frame))
                    lines.append(f"{name};40;40;4;4;36;36;{label}")
            (folder / f"GT-{label:05d}.csv").write_text("\n".join(lines) + "\n")
        folder, lines = root / "Final_Test" / "Images", [GTSRB_COLUMNS]
        for number in range(2 * classes):
            write_image(folder / f"{number:05d}.ppm", self.bordered(number % classes, 6 + number // classes))
            lines.append(f"{number:05d}.ppm;40;40;4;4;36;36;{number % classes}")
        (root / "GT-final_test.csv").write_text("\n".join(lines) + "\n")
        (folder / "GT-final_test.test.csv").write_text("Filename;Width;Height\n")
        return root

    def bordered(self, label: int, frame: int) -> np.ndarray:
        """A sign within four grey pixels on each side, uint8 [3,40,40]."""
        return np.pad(self.signs[label, frame], ((0, 0), (4, 4), (4, 4)), constant_values=128)

    def gtsrb_rescaled(self, root: Path, classes: int = 3) -> Path:
        """Two tracks of three frames in each class, with the list."""
        lines = ["path,class_id,track,orig_width,orig_height"]
        for label in range(classes):
            for number in range(6):
                name = f"train/{label:05d}/{number // 3:05d}_{number % 3:05d}.png"
                write_image(root / name, self.signs[label, number])
                lines.append(f"{name},{label},{number // 3:05d},40,40")
        (root / "train.csv").write_text("\n".join(lines) + "\n")
        return root

    def tiny_imagenet(self, root: Path, as_folders: bool = False) -> Path:
        """Three classes: four training images each, two for validation; published layout or class folders."""
        annotations = []
        for label, wnid in enumerate(WNIDS):
            inner = "" if as_folders else "images"
            for frame in range(4):
                write_image(root / "train" / wnid / inner / f"{wnid}_{frame}.png", self.signs[label, frame], 2)
            for frame in range(2):
                name = f"val_{2 * label + frame}.png"
                place = root / "val" / (wnid if as_folders else "images")
                write_image(place / name, self.signs[label, 4 + frame], 2)
                annotations.append(f"{name}\t{wnid}\t0\t0\t62\t62")
        (root / "wnids.txt").write_text("\n".join(reversed(WNIDS)) + "\n")
        if not as_folders:
            (root / "val" / "val_annotations.txt").write_text("\n".join(annotations) + "\n")
        return root

    def coco(self, folder: Path, count: int = 6) -> Path:
        """Images of 160 x 96 pixels, each with two signs of different categories and a box of a few pixels."""
        images, boxes = [], []
        for number in range(count):
            canvas = np.full((3, 96, 160), 100, np.uint8)
            for place, left in enumerate((8, 88)):
                label = (number + place) % 3
                canvas[:, 32:64, left : left + 32] = self.signs[label, number % 10]
                boxes.append({"bbox": [left, 32, 32, 32], "category_id": list(COCO_CATEGORIES)[label]})
            boxes.append({"bbox": [150.5, 1, 4.0, 4], "category_id": 1})
            write_image(folder / "images" / f"{number:012d}.png", canvas)
            images.append({"id": 100 + number, "file_name": f"{number:012d}.png", "width": 160, "height": 96})
        annotations = [
            {"id": number, "image_id": 100 + number // 3, "iscrowd": 0, "area": 1.5, **box}
            for number, box in enumerate(boxes)
        ]
        categories = [{"id": number, "name": name} for number, name in COCO_CATEGORIES.items()]
        content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations.json").write_text(json.dumps(content))
        return folder


@pytest.fixture(scope="session")
def layouts() -> Layouts:
    return Layouts(read_signs())


@pytest.fixture(scope="session")
def put_image():
    return write_image


@pytest.fixture(scope="session")
def as_python2():
    return python2_pickle
