"""A foreign ONNX file through bundle and pipeline, against plain ONNX Runtime and a decoder written for its format.

  python bench/onnx_peers.py yolox_nano.onnx yolox --classes 80 --input 416x416 --std 0.00392156862745098 \\
      --colour bgr --resize letterbox image.jpg ...

Nothing of the package is used on the other side: images are prepared, outputs decoded and duplicates suppressed here,
box by box. Prints one line of JSON: the format that was recognised, and the largest differences of scores and boxes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from lisard_ros import bundle as bundles
from lisard_ros import onnx_formats
from lisard_ros.bundle.manifest import InputSpec, Manifest, ModelFile
from lisard_ros.frames import Frame
from lisard_ros.inference.pipeline import Failure, Pipeline, Settings, backends

NMS_IOU = 0.65  # the bundle's default
LEAST_SCORE = 0.2  # of boxes that are compared; fainter ones suppress none of them
Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Found:
    """One box of one image, in pixels of the model's input, or a class alone where the box is None."""

    box: tuple[float, float, float, float] | None
    label: int
    score: float


def yolox(arrays: Arrays, size: tuple[int, int], classes: int) -> list[Found]:
    """Raw grid: one output [1, P, 5 + C]."""
    (rows,) = arrays.values()
    found, row = [], 0
    for stride in (8, 16, 32):
        for y in range(size[1] // stride):
            for x in range(size[0] // stride):
                cx, cy, log_w, log_h, objectness, *scores = (float(v) for v in rows[0, row])
                row += 1
                label = int(np.argmax(scores))
                w, h = math.exp(log_w) * stride, math.exp(log_h) * stride
                found.append(_centred((cx + x) * stride, (cy + y) * stride, w, h, label, objectness * scores[label]))
    return suppressed(found)


def yolov8(arrays: Arrays, size: tuple[int, int], classes: int) -> list[Found]:
    """Decoded boxes: one output [1, 4 + C, P]."""
    (table,) = arrays.values()
    rows = [[float(v) for v in column] for column in table[0].T]
    return suppressed([_centred(*row[:4], int(np.argmax(row[4:])), max(row[4:])) for row in rows])


def ssd(arrays: Arrays, size: tuple[int, int], classes: int) -> list[Found]:
    """Two outputs: corners as fractions [1, P, 4] and probabilities with the background first [1, P, 1 + C]."""
    boxes = next(a for a in arrays.values() if a.shape[-1] == 4)
    scores = next(a for a in arrays.values() if a.shape[-1] == classes + 1)
    found = []
    for box, row in zip(boxes[0], scores[0], strict=True):
        x0, y0, x1, y1 = (float(v) for v in box)
        label = int(np.argmax(row[1:]))
        corners = (x0 * size[0], y0 * size[1], x1 * size[0], y1 * size[1])
        found.append(Found(corners, label, float(row[1 + label])))
    return suppressed(found)


def detr(arrays: Arrays, size: tuple[int, int], classes: int) -> list[Found]:
    """Two outputs: centre and size as fractions, and logits with "no object" last (softmax) or without it (sigmoid)."""
    boxes = next(a for a in arrays.values() if a.shape[-1] == 4)
    logits = next(a for a in arrays.values() if a.shape[-1] in (classes, classes + 1))
    found = []
    for box, row in zip(boxes[0], logits[0].astype(float), strict=True):
        if len(row) == classes + 1:
            powers = np.exp(row - row.max())
            scores = (powers / powers.sum())[:-1]
        else:
            scores = 1 / (1 + np.exp(-row))
        label = int(np.argmax(scores))
        cx, cy, w, h = (float(v) for v in box)
        centre = (cx * size[0], cy * size[1], w * size[0], h * size[1])
        found.append(_centred(*centre, label, float(scores[label])))
    return found


def deim(arrays: Arrays, size: tuple[int, int], classes: int) -> list[Found]:
    """Outputs labels, boxes (corners in pixels) and scores, [1, Q] and [1, Q, 4]."""
    triples = zip(arrays["boxes"][0], arrays["labels"][0], arrays["scores"][0], strict=True)
    return [Found(tuple(float(v) for v in box), int(label), float(score)) for box, label, score in triples]  # type: ignore[arg-type]


def end_to_end(arrays: Arrays, size: tuple[int, int], classes: int) -> list[Found]:
    """One output [1, M, 6]: corners in pixels, score, class."""
    (rows,) = arrays.values()
    return [Found(tuple(float(v) for v in row[:4]), int(row[5]), float(row[4])) for row in rows[0]]  # type: ignore[arg-type]


def probabilities(arrays: Arrays, size: tuple[int, int], classes: int) -> list[Found]:
    """A classifier that applies softmax itself."""
    (row,) = arrays.values()
    return [Found(None, label, float(score)) for label, score in enumerate(row.reshape(-1))]


def logits(arrays: Arrays, size: tuple[int, int], classes: int) -> list[Found]:
    """A classifier that does not."""
    (row,) = arrays.values()
    powers = np.exp(row.reshape(-1).astype(float) - row.max())
    return [Found(None, label, float(score)) for label, score in enumerate(powers / powers.sum())]


DECODERS: dict[str, Callable[[Arrays, tuple[int, int], int], list[Found]]] = {
    decoder.__name__: decoder for decoder in (yolox, yolov8, ssd, detr, deim, end_to_end, probabilities, logits)
}


def _centred(cx: float, cy: float, w: float, h: float, label: int, score: float) -> Found:
    return Found((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), label, score)


def suppressed(found: list[Found]) -> list[Found]:
    """Greedy suppression within each class, of boxes worth it."""
    kept: list[Found] = []
    for one in sorted((f for f in found if f.score >= LEAST_SCORE), key=lambda f: -f.score):
        if all(other.label != one.label or iou(other, one) <= NMS_IOU for other in kept):
            kept.append(one)
    return kept


def iou(a: Found, b: Found) -> float:
    """Intersection over union of two boxes."""
    assert a.box is not None and b.box is not None
    wide = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    high = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = [(f.box[2] - f.box[0]) * (f.box[3] - f.box[1]) for f in (a, b) if f.box is not None]
    return wide * high / (sum(areas) - wide * high)


def scaled(bgr: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Area averaging where both sides shrink, else bilinear, as the bundle's contract says."""
    shrinks = width < bgr.shape[1] and height < bgr.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(bgr, (width, height), interpolation=how), np.uint8)


def theirs(path: Path, decoder: str, spec: InputSpec, classes: int, bgr: NDArray[np.uint8]) -> list[Found]:
    """The file on plain ONNX Runtime; boxes in pixels of the image."""
    ort.set_default_logger_severity(3)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows, columns = bgr.shape[:2]
    factor = min(spec.width / columns, spec.height / rows)
    wide, high = (
        (spec.width, spec.height) if spec.resize == "stretch" else (round(columns * factor), round(rows * factor))
    )
    left, top = (spec.width - wide) // 2, (spec.height - high) // 2
    canvas = np.full((spec.height, spec.width, 3), spec.pad, np.float64)
    canvas[top : top + high, left : left + wide] = scaled(bgr, wide, high)
    ordered = canvas[..., ::-1] if spec.colour == "rgb" else canvas
    x = ((ordered / 255 - np.array(spec.mean)) / np.array(spec.std)).astype(np.float32).transpose(2, 0, 1)[None]
    feed: Arrays = {}
    for value in session.get_inputs():
        image = len(value.shape) == 4
        feed[value.name] = x if image else np.array([[spec.width, spec.height]], np.int64)
    names = [value.name for value in session.get_outputs()]
    arrays = dict(zip(names, session.run(names, feed), strict=True))
    found = []
    for one in DECODERS[decoder](arrays, (spec.width, spec.height), classes):
        box = one.box
        if box is not None:
            x0, x1 = (min(max((v - left) * columns / wide, 0), columns) for v in (box[0], box[2]))
            y0, y1 = (min(max((v - top) * rows / high, 0), rows) for v in (box[1], box[3]))
            box = (x0, y0, x1, y1)
        found.append(Found(box, one.label, one.score))
    return found


def ours(pipeline: Pipeline, bgr: NDArray[np.uint8]) -> list[Found]:
    """The bundle's answer; boxes in pixels of the image."""
    (outcome,) = pipeline.run([Frame(bgr, "bgr", 0, "", "image")])
    if isinstance(outcome, Failure):
        raise outcome.error
    if outcome.classification is not None:
        return [Found(None, h.index, h.score) for h in outcome.classification.hypotheses]
    assert outcome.detections is not None
    return [Found(i.box_xyxy_px, i.hypotheses[0].index, i.hypotheses[0].score) for i in outcome.detections.items]


def bundle_of(
    path: Path, spec: InputSpec, classes: int, images: list[NDArray[np.uint8]], folder: Path
) -> tuple[Pipeline, str]:
    """Bundle the file as it is recognised; the pipeline, and the format's name."""
    file = onnx_formats.read_file(path)
    rgb = [np.ascontiguousarray(image[..., ::-1]) for image in images]
    found = onnx_formats.recognise(file, spec, classes=classes, images=rgb)
    manifest = Manifest(
        name=path.stem,
        task=found.task,
        labels=tuple(f"class_{n}" for n in range(classes)),
        input=spec,
        output=found.output,
        models=(ModelFile(file="model.onnx"),),
        decode=found.decode,
    )
    bundle = bundles.write(folder / "bundle", manifest, {"model.onnx": found.data})
    for note in found.notes:
        print(note, file=sys.stderr)
    return Pipeline(bundle, backends.choose(bundle), Settings(top_k=classes)), found.format


def triple(text: str) -> tuple[float, float, float]:
    """Read one number for all channels, or three with commas."""
    numbers = [float(part) for part in text.split(",")]
    first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    return first, second, third


def main() -> int:
    """Compare and print; 1 when scores differ by more than 1e-3, boxes by more than 0.5 px, or one box is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("decoder", choices=sorted(DECODERS))
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--input", required=True, metavar="WxH")
    parser.add_argument("--mean", default="0", help="one number, or three with commas")
    parser.add_argument("--std", default="1", help="likewise")
    parser.add_argument("--colour", choices=("rgb", "bgr"), default="rgb")
    parser.add_argument("--resize", choices=("stretch", "letterbox"), default="stretch")
    parser.add_argument("--score", type=float, default=LEAST_SCORE, help="boxes below it are not compared")
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.input.split("x"))
    spec = InputSpec(
        width=width,
        height=height,
        mean=triple(arguments.mean),
        std=triple(arguments.std),
        colour=arguments.colour,
        resize=arguments.resize,
    )
    images = [np.asarray(cv2.imread(str(path)), np.uint8) for path in arguments.images]
    compared, unmatched, score, box_px = 0, 0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        pipeline, form = bundle_of(arguments.file, spec, arguments.classes, images, Path(folder))
        for image in images:
            mine = ours(pipeline, image)
            other = theirs(arguments.file, arguments.decoder, spec, arguments.classes, image)
            for one in (f for f in other if f.box is None or f.score >= arguments.score):
                same = [f for f in mine if f.label == one.label and (f.box is None or iou(f, one) > 0.9)]
                compared += 1
                if not same:
                    unmatched += 1
                    continue
                best = min(same, key=lambda f: abs(f.score - one.score))
                score = max(score, abs(best.score - one.score))
                if best.box is not None and one.box is not None:
                    box_px = max(box_px, *(abs(a - b) for a, b in zip(best.box, one.box, strict=True)))
            extra = sum(f.score >= arguments.score for f in mine) - sum(f.score >= arguments.score for f in other)
            unmatched += max(extra, 0)
    result = {
        "file": arguments.file.name,
        "format": form,
        "images": len(images),
        "compared": compared,
        "unmatched": unmatched,
        "largest_score_difference": float(f"{score:.2g}"),
        "largest_box_difference_px": float(f"{box_px:.2g}"),
    }
    print(json.dumps(result))
    return 1 if unmatched or score > 1e-3 or box_px > 0.5 else 0


if __name__ == "__main__":
    sys.exit(main())
