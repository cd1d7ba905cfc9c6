"""A tiny detection set and the recipe of a training of seconds, for the tests beside this file."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

SIZE = 64
TINY = {
    "name": "tiny", "task": "detection", "network": "resnet10q", "neck": 16, "depth": 1, "precision": "float32",
    "data": {"width_px": SIZE, "height_px": SIZE}, "augment": {"mosaic": 0.3},
    "noise": {"sigma_low": 0.02, "sigma_high": 0.05},
    "levels": {"ratio": 0.1, "samples": 64}, "instances": {"ratio": 0.1}, "agreement": {"classes": 0.1, "boxes": 0.1},
    "balance": {"every": 2},
    "optimizer": {"epochs": 2, "batch_size": 6, "max_lr": 0.01, "ema_decay": 0.9},
}  # fmt: skip
# A training that finds most of the blocks, with one thread and with two, for each of three seeds: some seconds on a
# free core. A rate of 0.06 left an AP50 of 0.37 once.
LEARNS = {
    "name": "learns", "task": "detection", "network": "resnet10q", "neck": 16, "depth": 1, "views": 1,
    "precision": "float32", "data": TINY["data"],
    "augment": {"mosaic": 0.0, "zoom_low": 0.9, "zoom_high": 1.1, "contrast_low": 0.9, "contrast_high": 1.1},
    "optimizer": {"epochs": 40, "batch_size": 6, "max_lr": 0.03, "ema_decay": 0.8},
}  # fmt: skip


def write_set(root: Path, count: int = 12) -> Path:
    """Blocks of two colours on grey, with boxes, as COCO."""
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        (root / part / "images").mkdir(parents=True)
        images, boxes = [], []
        for n in range(count):
            pixels = np.full((48, SIZE, 3), 90, np.uint8) + random.integers(0, 20, (48, SIZE, 3)).astype(np.uint8)
            x, y, side = int(random.integers(2, 34)), int(random.integers(2, 20)), int(random.integers(12, 26))
            pixels[y : y + side, x : x + side] = (230, 40, 40) if n % 2 else (40, 40, 230)
            cv2.imwrite(str(root / part / "images" / f"{n}.png"), pixels)
            images.append({"id": n, "file_name": f"{n}.png", "width": SIZE, "height": 48})
            boxes.append({"id": n, "image_id": n, "category_id": n % 2, "bbox": [x, y, side, side]})
        categories = [{"id": 0, "name": "red"}, {"id": 1, "name": "blue"}]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (root / part / "annotations.json").write_text(json.dumps(content))
    return root
