"""What a detector finds, and how precise that is: COCO's average precision, worked out by pycocotools.

Boxes are judged in pixels of the source images, whose areas tell small from large ones.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lisard_ros.bundle.manifest import Activation, Decode, Layout
from lisard_ros.evaluation import average_precision
from lisard_ros.evaluation.average_precision import Matches, TrueBoxes
from lisard_ros.inference.postprocess import Boxes
from lisard_ros.inference.postprocess import detect as decode_boxes
from lisard_ros.inference.preprocess import fit

from ....data.detection import IGNORED, Scenes
from ....data.detection.scenes import input_spec
from ....training.divergence import arithmetic

LAYOUT: Layout = "xyxy_objectness_classes"
ACTIVATION: Activation = "sigmoid"
# For measuring: faint boxes count too, as many per image as COCO's protocol looks at.
MEASURED = Decode(layout=LAYOUT, score_threshold=0.01, nms_iou=0.6, max_detections=100)
CHUNK = 16


@dataclass(frozen=True)
class Precision:
    """Average precision in [0,1]: mean over IoU 0.50 to 0.95, at 0.50 and 0.75, and by size of the boxes.

    small: below 32x32 px of the source image, large: above 96x96 px. None where there are no such boxes.
    """

    ap: float
    ap50: float
    ap75: float
    small: float | None
    medium: float | None
    large: float | None


@torch.no_grad()
def outputs(network: nn.Module, x: Tensor, precision: str = "float32") -> NDArray[np.float32]:
    """Raw output [N,P,5+C] for images, uint8 or float in [0,1], in eval mode."""
    network.eval()
    parts = []
    weights = next(network.parameters())
    for some in x.split(CHUNK):
        unit = some.float().div(255) if some.dtype == torch.uint8 else some
        unit = unit.to(weights.device, weights.dtype, memory_format=torch.channels_last)
        with arithmetic(weights.device, precision):
            parts.append(network(unit).float().cpu())
    return torch.cat(parts).numpy()


def boxes_of(output: NDArray[np.float32], decode: Decode = MEASURED) -> list[Boxes]:
    """Boxes of each image in input pixels, by the runtime's own decoding and suppression."""
    return [decode_boxes(one, decode, ACTIVATION, 0.0) for one in output]


def detect(network: nn.Module, x: Tensor, precision: str = "float32", decode: Decode = MEASURED) -> list[Boxes]:
    """What the network finds in images [N,3,H,W]."""
    found: list[Boxes] = []
    for some in x.split(CHUNK):
        found += boxes_of(outputs(network, some, precision), decode)
    return found


def precision_of(found: Sequence[Boxes], scenes: Scenes) -> Precision:
    """COCO's figures of what was found in the scenes, one entry each."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, answers = COCO(), []
    truth.dataset = {
        "images": [],
        "annotations": [],
        "categories": [{"id": n, "name": name} for n, name in enumerate(scenes.classes)],
    }
    for row, boxes in enumerate(found):
        truth.dataset["images"].append({"id": row})
        truth.dataset["annotations"] += _truths(scenes, row, len(truth.dataset["annotations"]))
        answers += [
            {**_entry(box, row, int(label), row * 1000 + n + 1), "score": float(score)}
            for n, (box, label, score) in enumerate(
                zip(to_source(boxes.boxes_xyxy_px, scenes, row), boxes.classes, boxes.scores, strict=True)
            )
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        given = COCO()
        given.dataset = {**truth.dataset, "annotations": answers}
        given.createIndex()
        judge = COCOeval(truth, given, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    figures = [None if value < 0 or math.isnan(value) else float(value) for value in judge.stats[:6]]
    overall = (value or 0.0 for value in figures[:3])
    return Precision(*overall, *figures[3:])


def to_source(boxes: NDArray[np.floating], scenes: Scenes, row: int) -> NDArray[np.float64]:
    """Boxes [M,4] from input pixels to pixels of the source image, no farther than its border."""
    width, height = (int(v) for v in scenes.sizes_px[row])
    spec = input_spec(scenes.images.shape[3], scenes.images.shape[2])
    moved = fit(width, height, spec).to_source(boxes)
    return np.asarray(np.clip(moved, 0, [width, height] * 2))


def _truths(scenes: Scenes, row: int, first: int) -> list[dict[str, object]]:
    labels = scenes.labels[row].cpu().numpy()
    used = np.flatnonzero((labels >= 0) | (labels == IGNORED))
    corners = to_source(scenes.boxes[row].cpu().numpy()[used], scenes, row)
    out: list[dict[str, object]] = []
    for label, box in zip(labels[used], corners, strict=True):
        # A region without a class is ignored for each of them.
        categories = range(len(scenes.classes)) if label == IGNORED else [int(label)]
        for category in categories:
            out.append({**_entry(box, row, category, first + len(out) + 1), "iscrowd": int(label == IGNORED)})
    return out


def _entry(box: NDArray[np.float64], row: int, category: int, number: int) -> dict[str, object]:
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    return {
        "id": number,
        "image_id": row,
        "category_id": category,
        "area": width * height,
        "bbox": [float(box[0]), float(box[1]), width, height],
    }


def match(found: Sequence[Boxes], scenes: Scenes, threshold: float) -> Matches:
    """Matches what was found in the scenes, as the runtime's AP50 does; a box counts as met from this score on."""
    truths = []
    for row_labels, row_boxes in zip(scenes.labels.cpu().numpy(), scenes.boxes.cpu().numpy(), strict=True):
        boxes, real = row_boxes.astype(np.float64), row_labels >= 0
        truths.append(TrueBoxes(boxes[real], row_labels[real].astype(np.int64), boxes[row_labels == IGNORED]))
    return average_precision.match(found, truths, len(scenes.classes), threshold)
