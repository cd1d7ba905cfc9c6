"""Four export families: `lisard bundle`, `lisard predict --json` and the node answer as the decoder below does.

Each network looks at the image: it averages cells of it, and a cell that is red, green or blue is an object. So colour
order, scaling, padding and decoding all decide the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from peers import NodeProcess, Peer, image, wait_until
from vision_msgs.msg import Classification, Detection2DArray

LABELS = ("red", "green", "blue")
SIDE_PX = 64
STRIDES = (8, 16, 32)
WIDTH_PX, HEIGHT_PX = 128, 96  # letterboxed to 64x48 with 8 rows of padding above and below
THRESHOLD = 0.25
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """One object, or the class of the image as a whole (box None); box in pixels of the image."""

    index: int
    score: float
    box: tuple[float, float, float, float] | None


def scene() -> NDArray[np.uint8]:
    """A gray image with a red and a blue square, uint8 RGB; each covers one cell of stride 8 of the model's input."""
    pixels = np.full((HEIGHT_PX, WIDTH_PX, 3), 115, np.uint8)
    pixels[16:32, 16:32] = (200, 20, 20)
    pixels[48:64, 80:96] = (20, 20, 210)
    return pixels


# --- the exports -----------------------------------------------------------------------------------------------------


class Graph:
    """Nodes and constants of an ONNX file; each method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def make(self, kind: str, *inputs: str | NDArray[Any], outputs: int = 1, **attributes: Any) -> str:
        """Add a node; arrays become constants. Returns the name of its last output."""
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        out = [f"t{len(self.nodes)}_{n}" for n in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, out, **attributes))
        return out[-1]

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def file(self, out: str, input_shape: list[Any], output_shape: list[Any]) -> bytes:
        """The ONNX file with the input `images` and this output."""
        declared = [helper.make_tensor_value_info("images", TensorProto.FLOAT, input_shape)]
        given = [helper.make_tensor_value_info(out, TensorProto.FLOAT, output_shape)]
        weights = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "export", declared, given, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def centres() -> Array:
    """Centre x, y and stride of each cell, float32 [P, 3], row by row and stride by stride."""
    cells = [
        ((x + 0.5) * s, (y + 0.5) * s, s) for s in STRIDES for y in range(SIDE_PX // s) for x in range(SIDE_PX // s)
    ]
    return np.array(cells, np.float32)


def cell_scores(graph: Graph, full_scale: float) -> str:
    """Scores of the three colours in each cell, [N, 3, P]; full_scale: the input's value of a white pixel."""
    weights = (12 * (2 * np.eye(3) - 1) / full_scale).astype(np.float32).reshape(3, 3, 1, 1)
    bias = np.full(3, -4, np.float32)
    rows = []
    for stride in STRIDES:
        means = graph.make("AveragePool", "images", kernel_shape=[stride, stride], strides=[stride, stride])
        scores = graph.make("Sigmoid", graph.make("Conv", means, weights, bias))
        rows.append(graph.make("Reshape", scores, np.array([0, 3, -1], np.int64)))
    return graph.make("Concat", *rows, axis=2)


def repeated(graph: Graph, rows: Array, like: str) -> str:
    """The rows once for each image of the batch; `like`: a tensor [N, ., P] or [N, P, .] of the same last axes."""
    zero = graph.make("Mul", graph.make("ReduceMean", like, axes=[1, 2], keepdims=1), np.zeros(1, np.float32))
    return graph.make("Add", zero, rows[None])


def classes_first() -> bytes:
    """As YOLOv8: [N, 4 + 3, P], centre and size in pixels, then scores."""
    graph, cells = Graph(), centres()
    scores = cell_scores(graph, 1)
    boxes = np.concatenate([cells[:, :2], cells[:, 2:] * [1.5, 1.25]], axis=1).astype(np.float32)
    out = graph.make("Concat", repeated(graph, boxes.T.copy(), scores), scores, axis=1)
    return graph.file(out, ["n", 3, SIDE_PX, SIDE_PX], ["n", 7, len(cells)])


def raw_grid() -> bytes:
    """As YOLOX: [N, P, 5 + 3] relative to the cell, sizes as (negative) logarithms, objectness first; pixels 0..255."""
    graph, cells = Graph(), centres()
    scores = graph.make("Transpose", cell_scores(graph, 255), perm=[0, 2, 1])
    objectness = graph.make("ReduceMax", scores, axes=[2], keepdims=1)
    relative = np.tile(np.array([0.5, 0.4, -0.1, -0.2], np.float32), (len(cells), 1))
    out = graph.make("Concat", repeated(graph, relative, scores), objectness, scores, axis=2)
    return graph.file(out, ["n", 3, SIDE_PX, SIDE_PX], ["n", len(cells), 8])


def end_to_end() -> bytes:
    """As YOLOv10: the ten best rows [N, 10, 6] of corners, score, class."""
    graph, cells = Graph(), centres()
    scores = graph.make("Transpose", cell_scores(graph, 1), perm=[0, 2, 1])
    best = graph.make("ReduceMax", scores, axes=[2], keepdims=1)
    kind = graph.make("Cast", graph.make("ArgMax", scores, axis=2, keepdims=1), to=TensorProto.FLOAT)
    corners = np.concatenate([cells[:, :2] - cells[:, 2:] * 0.6, cells[:, :2] + cells[:, 2:] * 0.7], axis=1)
    rows = graph.make("Concat", repeated(graph, corners.astype(np.float32), scores), best, kind, axis=2)
    places = graph.make("TopK", best, np.array([10], np.int64), axis=1, outputs=2)
    out = graph.make("GatherElements", rows, graph.make("Expand", places, np.array([1, 10, 6], np.int64)), axis=1)
    return graph.file(out, ["n", 3, SIDE_PX, SIDE_PX], ["n", 10, 6])


def softmax_of_channels_last() -> bytes:
    """As Keras: input [N, H, W, 3], probabilities [N, 3]."""
    graph = Graph()
    means = graph.make("ReduceMean", "images", axes=[1, 2], keepdims=0)
    out = graph.make("Softmax", graph.make("MatMul", means, np.diag([4.0, 5, 6]).astype(np.float32)), axis=1)
    return graph.file(out, ["n", SIDE_PX, SIDE_PX, 3], ["n", 3])


# --- the decoder that their author would write ------------------------------------------------------------------------


def infer(data: bytes, pixels: NDArray[Any]) -> Array:
    """The first output of an ONNX file for one input, without the batch's axis."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"images": pixels[None].astype(np.float32)})
    return np.asarray(out[0], np.float32)


def letterboxed(rgb: NDArray[np.uint8], interpolation: int) -> NDArray[np.uint8]:
    """The image at half its size, 114 above and below."""
    small = cv2.resize(rgb, (SIDE_PX, SIDE_PX * HEIGHT_PX // WIDTH_PX), interpolation=interpolation)
    edge = (SIDE_PX - small.shape[0]) // 2
    return np.asarray(cv2.copyMakeBorder(small, edge, edge, 0, 0, cv2.BORDER_CONSTANT, value=(114,) * 3), np.uint8)


def on_the_image(corners: Array) -> tuple[float, float, float, float]:
    """Corners in pixels of the model's input -> pixels of the image."""
    edge = (SIDE_PX - SIDE_PX * HEIGHT_PX // WIDTH_PX) / 2
    x0, y0, x1, y1 = ((corners - [0, edge, 0, edge]) * (WIDTH_PX / SIDE_PX)).tolist()
    return max(x0, 0), max(y0, 0), min(x1, WIDTH_PX), min(y1, HEIGHT_PX)


def found(corners: Array, scores: Array) -> list[Answer]:
    """Every row above the threshold, the best first; no two of them overlap in this scene. scores: [P, 3]."""
    rows = [n for n in np.argsort(-scores.max(1)) if scores[n].max() >= THRESHOLD]
    return [Answer(int(scores[n].argmax()), float(scores[n].max()), on_the_image(corners[n])) for n in rows]


def around(boxes: Array) -> Array:
    """Centre and size -> corners."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def decode_classes_first(data: bytes, rgb: NDArray[np.uint8]) -> list[Answer]:
    """Pixels in 0..1, RGB."""
    rows = infer(data, letterboxed(rgb, cv2.INTER_AREA).transpose(2, 0, 1) / 255).T
    return found(around(rows[:, :4]), rows[:, 4:])


def decode_raw_grid(data: bytes, rgb: NDArray[np.uint8]) -> list[Answer]:
    """Pixels in 0..255, BGR, and bilinear scaling, as YOLOX has them; score = objectness * class."""
    rows = infer(data, letterboxed(rgb, cv2.INTER_LINEAR)[..., ::-1].transpose(2, 0, 1))
    cells = centres()
    stride = cells[:, 2:]
    middle = (rows[:, :2] + (cells[:, :2] / stride - 0.5)) * stride
    return found(around(np.concatenate([middle, np.exp(rows[:, 2:4]) * stride], axis=1)), rows[:, 4:5] * rows[:, 5:])


def decode_end_to_end(data: bytes, rgb: NDArray[np.uint8]) -> list[Answer]:
    """Pixels in 0..1, RGB."""
    rows = infer(data, letterboxed(rgb, cv2.INTER_AREA).transpose(2, 0, 1) / 255)
    return found(rows[:, :4], rows[:, 4:5] * np.eye(3, dtype=np.float32)[rows[:, 5].astype(int)])


def decode_softmax(data: bytes, rgb: NDArray[np.uint8]) -> list[Answer]:
    """Pixels in 0..1, RGB, stretched to the input."""
    scores = infer(data, cv2.resize(rgb, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) / 255)
    return [Answer(int(scores.argmax()), float(scores.max()), None)]


@dataclass(frozen=True)
class Family:
    """An export, its decoder, and how many objects the scene holds for it."""

    data: Callable[[], bytes]
    decode: Callable[[bytes, NDArray[np.uint8]], list[Answer]]
    objects: int


FAMILIES = {
    "yolov8": Family(classes_first, decode_classes_first, 2),
    "yolox": Family(raw_grid, decode_raw_grid, 2),
    "end_to_end": Family(end_to_end, decode_end_to_end, 2),
    "softmax_nhwc": Family(softmax_of_channels_last, decode_softmax, 1),
}


# --- bundle, predict, node --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_a_foreign_model_answers_as_its_own_decoder_in_predict_and_node(
    name: str, lisard: Callable[..., Any], start: Callable[[list[str]], NodeProcess], peer: Peer, tmp_path: Path
) -> None:
    family, rgb = FAMILIES[name], scene()
    data = family.data()
    expected = family.decode(data, rgb)
    assert len(expected) == family.objects and all(answer.score > 0.5 for answer in expected)
    (tmp_path / f"{name}.onnx").write_bytes(data)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    cv2.imwrite(str(tmp_path / "scene.png"), rgb[..., ::-1])

    made = lisard("bundle", f"{name}.onnx", "--labels", "labels.txt", "--check", "scene.png", "--json")
    assert made.returncode == 0, made.stderr
    summary = json.loads(made.stdout)
    assert len(summary["checked"][0]["answers"]) == (family.objects if expected[0].box else len(LABELS))
    assert (tmp_path / summary["checked"][0]["saved"]).is_file()

    done = lisard("predict", name, "scene.png", "--json")
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(done.stdout)
    assert [one["label"] for one in entry["objects"]] == [LABELS[answer.index] for answer in expected]
    same([Answer(one["index"], one["score"], one["box"]) for one in entry["objects"]], expected)

    words = ["-p", f"bundle:={tmp_path / name}", "-p", f"image_topics:=[/{name}/image_raw]", "-p", "threads:=1"]
    node = start(["--ros-args", "-r", f"__ns:=/{name}", *words])
    node.said("active: ")
    same(published(peer, name, rgb, boxes=expected[0].box is not None), expected)
    assert node.stop() == 0


def published(peer: Peer, name: str, rgb: NDArray[np.uint8], boxes: bool) -> list[Answer]:
    """What the node answers over DDS to the image as a camera publishes it."""
    topic = f"/{name}/perception/{name}"
    kind = Detection2DArray if boxes else Classification
    got = peer.collect(kind, f"{topic}/{'detections' if boxes else 'classification'}")
    camera = peer.publisher(type(image(rgb, 0)), f"/{name}/image_raw")
    camera.publish(image(rgb, 7_000_000_000))
    (message,) = wait_until(lambda: list(got), "an answer of the node")
    if not boxes:
        best = message.results[0]
        return [Answer(LABELS.index(best.class_id), best.score, None)]
    return [
        Answer(LABELS.index(one.results[0].hypothesis.class_id), one.results[0].hypothesis.score, corners(one.bbox))
        for one in message.detections
    ]


def corners(box: Any) -> tuple[float, float, float, float]:
    """A vision_msgs/BoundingBox2D as corners."""
    x, y = box.center.position.x, box.center.position.y
    return x - box.size_x / 2, y - box.size_y / 2, x + box.size_x / 2, y + box.size_y / 2


def same(answers: list[Answer], expected: list[Answer]) -> None:
    """The same classes in the same order, scores within 1e-3 and boxes within half a pixel."""
    assert [answer.index for answer in answers] == [answer.index for answer in expected]
    assert np.allclose([a.score for a in answers], [e.score for e in expected], atol=1e-3)
    for answer, wanted in zip(answers, expected, strict=True):
        assert (answer.box is None) == (wanted.box is None)
        assert answer.box is None or np.allclose(answer.box, wanted.box, atol=0.5)
