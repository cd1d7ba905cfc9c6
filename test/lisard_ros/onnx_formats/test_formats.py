"""Every row of the table in docs/onnx.md: a small export of that format finds its boxes through bundle and pipeline."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lisard_ros import bundle as bundles
from lisard_ros import onnx_formats
from lisard_ros.bundle.manifest import InputSpec, Manifest, ModelFile
from lisard_ros.frames import Frame
from lisard_ros.inference.pipeline import Failure, open_pipeline

ROOT = Path(__file__).resolve().parents[3]
LABELS = ("red", "green", "blue")
SIDE_PX = 64
SPEC = InputSpec(width=SIDE_PX, height=SIDE_PX)
# Two objects: corners in pixels, class, score.
BOXES = np.array([[8, 8, 24, 40], [30, 20, 60, 50]], np.float32)
CLASSES, SCORES = np.array([0, 2]), np.array([0.9, 0.8], np.float32)
CELLS = 8 * 8 + 4 * 4 + 2 * 2
QUERIES = 20

Tables = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Row:
    """An export: its outputs for one image, and what the recognition is told."""

    form: str
    outputs: Tables
    layout: str | None
    activation: str = "none"
    told: dict[str, Any] = field(default_factory=lambda: {"classes": 3})
    labels: tuple[str, ...] = LABELS
    boxes: NDArray[np.float32] = field(default_factory=lambda: BOXES)


def export(outputs: Tables, *, side_px: int = SIDE_PX) -> bytes:
    """A network that gives these arrays for every image: [N, 3, side, side] -> [N, ...] each."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
    ]
    constants: Tables = {"nothing": np.array(0, np.float32)}
    infos = []
    for name, array in outputs.items():
        constants[f"{name}_rows"] = array.astype(np.float32)[None]
        constants[f"{name}_shape"] = np.array([-1, *[1] * array.ndim], np.int64)
        nodes.append(helper.make_node("Reshape", ["zero", f"{name}_shape"], [f"{name}_zero"]))
        whole = np.issubdtype(array.dtype, np.integer)
        given = f"{name}_float" if whole else name
        nodes.append(helper.make_node("Add", [f"{name}_zero", f"{name}_rows"], [given]))
        if whole:
            nodes.append(helper.make_node("Cast", [given], [name], to=TensorProto.INT64))
        kind = TensorProto.INT64 if whole else TensorProto.FLOAT
        infos.append(helper.make_tensor_value_info(name, kind, ["n", *array.shape]))
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, side_px, side_px])
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "export", [image], infos, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def centred(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Corners as centre and size."""
    return np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)


def one_hot(scores: NDArray[np.float32] = SCORES, classes: int = 3) -> NDArray[np.float32]:
    """Scores of every class for the two objects."""
    table = np.full((2, classes), 0.01, np.float32)
    table[[0, 1], CLASSES % classes] = scores
    return table


def logit(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """What sigmoid turns into these scores."""
    return np.asarray(np.log(scores / (1 - scores)), np.float32)


def faint(rows: NDArray[np.float32], count: int, seed: int = 0) -> NDArray[np.float32]:
    """Put `rows` (centre, size, scores) in front of further ones that hold boxes of almost no score."""
    random = np.random.default_rng(seed)
    others = np.full((count - len(rows), rows.shape[1]), 0.001, np.float32)
    others[:, :2] = random.uniform(20, 60, (len(others), 2))
    others[:, 2:4] = random.uniform(2, 20, (len(others), 2))
    return np.concatenate([rows, others]).astype(np.float32)


def raw_grid(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """YOLOX's output before decoding, for objects as centre, size, objectness and classes, at cells of stride 8."""
    random = np.random.default_rng(0)
    rows = np.zeros((CELLS, columns.shape[1]), np.float32)
    rows[:, :2] = random.uniform(0, 1, (CELLS, 2))
    rows[:, 2:4] = random.uniform(-1, 1, (CELLS, 2))
    for cx, cy, width, height, *scores in columns:
        x, y = int(cx // 8), int(cy // 8)
        rows[8 * y + x] = [cx / 8 - x, cy / 8 - y, np.log(width / 8), np.log(height / 8), *scores]
    return rows


def listed(boxes: NDArray[np.float32], count: int = 10) -> NDArray[np.float32]:
    """Corners, score, class; the list is filled up with zeros."""
    rows = np.zeros((count, 6), np.float32)
    rows[:2] = np.concatenate([boxes, SCORES[:, None], CLASSES[:, None]], axis=1)
    return rows


def with_background(first: bool) -> NDArray[np.float32]:
    """Probabilities of "no object" and of three classes for as many boxes as `queries` gives."""
    table = np.zeros((QUERIES, 4), np.float32)
    place = 0 if first else 3
    classes = [n for n in range(4) if n != place]
    table[:, place] = 0.97
    table[:, classes] = 0.01
    for row, (kind, score) in enumerate(zip(CLASSES, SCORES, strict=True)):
        table[row] = (1 - score) / 3
        table[row, classes[kind]] = score
    return table


def queries() -> NDArray[np.float32]:
    """Centre and size in pixels of twenty boxes."""
    return faint(centred(BOXES), QUERIES)[:, :4]


LARGE = np.array([[2, 2, 62, 60], [0, 4, 58, 64]], np.float32)


def large_queries() -> NDArray[np.float32]:
    """Centre and size of boxes that fill the image: each size is above its centre, as an end is above a start."""
    return np.asarray(np.tile(centred(LARGE), (QUERIES // 2, 1)), np.float32)


OBJECTNESS = np.concatenate([centred(BOXES), np.ones((2, 1), np.float32), one_hot()], axis=1)
BARE = np.concatenate([centred(BOXES), one_hot()], axis=1)


def corners_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of centre and size with corners in their place."""
    boxes = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1)
    return np.concatenate([boxes, rows[:, 4:]], axis=1)


V5_ROWS = faint(OBJECTNESS, 3 * CELLS)
NO_LABELS: dict[str, Any] = {}
ROWS = {
    "YOLOv5 and YOLOv7": Row(
        "cxcywh_objectness_classes", {"out": V5_ROWS}, "cxcywh_objectness_classes", told=NO_LABELS
    ),
    "corners with objectness": Row("xyxy_objectness_classes", {"out": corners_of(V5_ROWS)}, "xyxy_objectness_classes"),
    "YOLOv8 and YOLO11": Row(
        "cxcywh_classes_first", {"out": faint(BARE, CELLS).T}, "cxcywh_classes_first", told=NO_LABELS
    ),
    "YOLOv8 of logits": Row(
        "cxcywh_classes_first",
        {"out": np.concatenate([(t := faint(BARE, CELLS))[:, :4], logit(t[:, 4:])], axis=1).T},
        "cxcywh_classes_first",
        "sigmoid",
    ),
    "YOLOv8 transposed": Row("boxes_classes", {"out": faint(BARE, CELLS)}, "cxcywh_classes_first"),
    "YOLOX": Row("yolox_grid", {"out": raw_grid(OBJECTNESS)}, "yolox_grid", told=NO_LABELS),
    "YOLOX of one class": Row(
        "yolox_grid",
        {"out": raw_grid(np.concatenate([centred(BOXES), SCORES[:, None], [[0.999]] * 2], axis=1))},
        "yolox_grid",
        told={"classes": 1},
        labels=("sign",),
    ),
    "YOLOX decoded": Row("cxcywh_objectness_classes", {"out": faint(OBJECTNESS, CELLS)}, "cxcywh_objectness_classes"),
    "YOLOv10 and YOLO26": Row("xyxy_score_class", {"out": listed(BOXES)}, "xyxy_score_class", told=NO_LABELS),
    "end to end, fractions": Row("xyxy_score_class", {"out": listed(BOXES / SIDE_PX)}, "xyxy_score_class"),
    "end to end, class before score": Row(
        "xyxy_score_class", {"out": listed(BOXES)[:, [0, 1, 2, 3, 5, 4]]}, "xyxy_score_class"
    ),
    "RT-DETR of ultralytics": Row(
        "boxes_classes",
        {"out": np.concatenate([(t := faint(BARE, QUERIES))[:, :4] / SIDE_PX, t[:, 4:]], axis=1)},
        "cxcywh_classes_first",
        told=NO_LABELS,
    ),
    "DETR": Row(
        "two_tables",
        {"logits": np.log(with_background(False)) + 2, "pred_boxes": queries() / SIDE_PX},
        "cxcywh_classes_first",
    ),
    "DETR, large boxes alone": Row(
        "two_tables",
        {"logits": np.log(with_background(False)) + 2, "pred_boxes": large_queries() / SIDE_PX},
        "cxcywh_classes_first",
        boxes=LARGE,
    ),
    "RT-DETR of transformers": Row(
        "two_tables",
        {"logits": logit(faint(BARE, QUERIES)[:, 4:]), "pred_boxes": queries() / SIDE_PX},
        "cxcywh_classes_first",
        "sigmoid",
    ),
    "SSD": Row(
        "two_tables",
        {"scores": with_background(True), "boxes": corners_of(queries()) / SIDE_PX},
        "cxcywh_classes_first",
        told=NO_LABELS,
    ),
    "SSD, boxes [N, P, 1, 4]": Row(
        "two_tables",
        {"boxes": corners_of(queries())[:, None] / SIDE_PX, "confs": faint(BARE, QUERIES)[:, 4:]},
        "cxcywh_classes_first",
    ),
    "labels, boxes, scores": Row(
        "three_lists",
        {"labels": listed(BOXES)[:, 5].astype(np.int64), "boxes": listed(BOXES)[:, :4], "scores": listed(BOXES)[:, 4]},
        "xyxy_score_class",
    ),
}


def made(data: bytes, path: Path, row: Row, spec: InputSpec = SPEC) -> tuple[onnx_formats.Recognition, Any]:
    """Recognise a file and answer two images in one batch as a bundle; the recognition and both outcomes."""
    path.with_suffix(".onnx").write_bytes(data)
    found = onnx_formats.recognise(onnx_formats.read_file(path.with_suffix(".onnx")), spec, **row.told)
    manifest = Manifest(
        name="made",
        task=found.task,
        labels=row.labels,
        input=spec,
        output=found.output,
        models=(ModelFile(file="model.onnx"),),
        decode=found.decode,
    )
    bundle = bundles.write(path, manifest, {"model.onnx": found.data})
    pipeline = open_pipeline(bundle.path, threads=1)
    gray = np.full((2, SIDE_PX, SIDE_PX, 3), 100, np.uint8)
    outcomes = pipeline.run([Frame(image, "rgb", n, "", "c") for n, image in enumerate(gray)])
    pipeline.close()
    assert not any(isinstance(outcome, Failure) for outcome in outcomes), outcomes
    return found, outcomes


@pytest.mark.parametrize("name", ROWS)
def test_a_detector_finds_its_boxes(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    found, outcomes = made(export(row.outputs), tmp_path / "made", row)
    assert found.task == "detection" and found.decode is not None
    assert (found.format, found.decode.layout, found.output.activation) == (row.form, row.layout, row.activation)
    assert found.classes in (None, len(row.labels))
    assert any("activation sigmoid" in note for note in found.notes) == (row.activation == "sigmoid")
    kinds = CLASSES if len(row.labels) == 3 else np.zeros(2, int)
    for outcome in outcomes:
        items = outcome.detections.items
        assert [item.hypotheses[0].index for item in items] == kinds.tolist()
        assert np.allclose([item.box_xyxy_px for item in items], row.boxes, atol=1e-3)
        assert np.allclose([item.hypotheses[0].score for item in items], SCORES, atol=2e-3)


@pytest.mark.parametrize("name", ROWS)
def test_duplicates_are_suppressed_where_the_file_leaves_them(name: str, tmp_path: Path) -> None:
    """Cells and anchors find an object several times; queries and lists hold it once."""
    (tmp_path / "net.onnx").write_bytes(export(ROWS[name].outputs))
    found = onnx_formats.recognise(onnx_formats.read_file(tmp_path / "net.onnx"), SPEC, **ROWS[name].told)
    once = found.format in ("xyxy_score_class", "three_lists") or "DETR" in name or name == "SSD, boxes [N, P, 1, 4]"
    assert found.decode is not None and (found.decode.nms_iou == 1) == once


# --- classifiers ----------------------------------------------------------------------------------------------------


def classifier(*tail: Any, shape: tuple[int | str, ...] = ("n", 3), images: Any = None, opset: int = 17) -> bytes:
    """Mean of each color times 20 as [N, 3, 1, 1], then the nodes of `tail`, whose last gives "out".

    images: declaration of the input and the nodes that make "pooled_from" [N, 3, H, W] of it.
    """
    declared, front = images or (
        helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE_PX, SIDE_PX]),
        [helper.make_node("Identity", ["images"], ["pooled_from"])],
    )
    nodes = [
        *front,
        helper.make_node("GlobalAveragePool", ["pooled_from"], ["pooled"]),
        helper.make_node("Mul", ["pooled", "gain"], ["maps"]),
        *tail,
    ]
    weights = [numpy_helper.from_array(np.array(20, np.float32), "gain")]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "classifier", [declared], [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


FLAT = helper.make_node("Flatten", ["maps"], ["out"])
COLOR = np.array([180, 170, 160], np.uint8)
# What softmax makes of 20 times the color in [0, 1].
POWERS = np.exp(20 * (COLOR / 255 - COLOR[0] / 255))
EXPECTED = POWERS / POWERS.sum()
MAPS = (helper.make_node("Identity", ["maps"], ["out"]),)
SOFTMAX = (helper.make_node("Flatten", ["maps"], ["flat"]), helper.make_node("Softmax", ["flat"], ["out"]))


def scores(data: bytes, path: Path, spec: InputSpec = SPEC, **told: Any) -> tuple[onnx_formats.Recognition, Any]:
    """Scores of the three classes for an image of one color, in the order of the labels."""
    path.mkdir(exist_ok=True)
    (path / "net.onnx").write_bytes(data)
    found = onnx_formats.recognise(onnx_formats.read_file(path / "net.onnx"), spec, **told)
    manifest = Manifest(
        name="net",
        task=found.task,
        labels=LABELS,
        input=spec,
        output=found.output,
        models=(ModelFile(file="model.onnx"),),
    )
    bundle = bundles.write(path / "made", manifest, {"model.onnx": found.data})
    pipeline = open_pipeline(bundle.path, threads=1)
    image = np.broadcast_to(COLOR, (SIDE_PX, SIDE_PX, 3)).copy()
    (outcome,) = pipeline.run([Frame(image, "rgb", 0, "", "c")])
    pipeline.close()
    assert not isinstance(outcome, Failure), outcome
    assert outcome.classification is not None
    by_index = {h.index: h.score for h in outcome.classification.hypotheses}
    return found, np.array([by_index[n] for n in range(3)])


def test_a_classifier_of_logits_stays_as_it_is(tmp_path: Path) -> None:
    data = classifier(FLAT)
    found, answer = scores(data, tmp_path)
    assert (found.format, found.task, found.classes) == ("classes", "classification", 3)
    assert found.data == data and found.notes == () and found.output.activation == "softmax"
    assert np.allclose(answer, EXPECTED, atol=1e-4)


@pytest.mark.parametrize("told", [{}, {"activation": "softmax"}, {"task": "classification", "classes": 3}])
def test_softmax_inside_the_file_is_not_applied_twice(tmp_path: Path, told: dict[str, Any]) -> None:
    """Regression: a score of 0.60 became 0.44, because softmax was applied to probabilities."""
    found, answer = scores(classifier(*SOFTMAX), tmp_path, **told)
    assert found.format == "classes, probabilities" and found.output.activation == "none"
    assert "applies softmax itself" in found.notes[0]
    assert np.allclose(answer, EXPECTED, atol=1e-4)


@pytest.mark.parametrize(
    ("tail", "shape"),
    [
        (MAPS, ("n", 3, 1, 1)),
        ((helper.make_node("Transpose", ["maps"], ["out"], perm=[0, 2, 3, 1]),), ("n", 1, 1, 3)),
    ],
)
def test_classes_with_further_axes(tmp_path: Path, tail: tuple[Any, ...], shape: tuple[Any, ...]) -> None:
    found, answer = scores(classifier(*tail, shape=shape), tmp_path)
    assert found.classes == 3 and "is made [N, 3]" in found.notes[0]
    assert np.allclose(answer, EXPECTED, atol=1e-4)


# --- inputs ---------------------------------------------------------------------------------------------------------


def image_input(kind: int, shape: tuple[int | str, ...], *nodes: Any) -> tuple[Any, list[Any]]:
    """An input of another kind and what makes "pooled_from" of it."""
    return helper.make_tensor_value_info("images", kind, shape), list(nodes)


TO_NCHW = helper.make_node("Transpose", ["images"], ["pooled_from"], perm=[0, 3, 1, 2])
TO_FLOAT = helper.make_node("Cast", ["images"], ["pooled_from"], to=TensorProto.FLOAT)
SPEC_255 = InputSpec(width=SIDE_PX, height=SIDE_PX, std=(1 / 255,) * 3)
NHWC = ("n", SIDE_PX, SIDE_PX, 3)
NCHW = ("n", 3, SIDE_PX, SIDE_PX)
UINT8_NHWC = (
    helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
    helper.make_node("Transpose", ["float"], ["turned"], perm=[0, 3, 1, 2]),
    helper.make_node("Constant", [], ["many"], value_float=255.0),
    helper.make_node("Div", ["turned", "many"], ["pooled_from"]),
)
# Arithmetic that wraps around: only real 8-bit integers give the right answer.
UINT8_NCHW = (
    helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array(0, np.uint8))),
    helper.make_node("Add", ["images", "zero"], ["same"]),
    helper.make_node("Cast", ["same"], ["float"], to=TensorProto.FLOAT),
    helper.make_node("Constant", [], ["many"], value_float=255.0),
    helper.make_node("Div", ["float", "many"], ["pooled_from"]),
)
INPUTS: dict[str, tuple[Any, InputSpec, str]] = {
    "NHWC": (image_input(TensorProto.FLOAT, NHWC, TO_NCHW), SPEC, "takes [N, H, W, C]"),
    "NHWC of a batch of one": (image_input(TensorProto.FLOAT, (1, *NHWC[1:]), TO_NCHW), SPEC, "takes [N, H, W, C]"),
    "fp16": (image_input(TensorProto.FLOAT16, NCHW, TO_FLOAT), SPEC, "takes float16"),
    "float64": (image_input(TensorProto.DOUBLE, NCHW, TO_FLOAT), SPEC, "takes float64"),
    "uint8, NHWC": (image_input(TensorProto.UINT8, NHWC, *UINT8_NHWC), SPEC_255, "takes uint8"),
    "uint8, NCHW": (image_input(TensorProto.UINT8, NCHW, *UINT8_NCHW), SPEC_255, "takes uint8"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_of_another_kind(name: str, tmp_path: Path) -> None:
    images, spec, note = INPUTS[name]
    found, answer = scores(classifier(FLAT, images=images), tmp_path, spec)
    assert any(note in own for own in found.notes) and found.wants_255 == ("uint8" in name)
    inside = onnx_formats.read_file(tmp_path / "made" / "model.onnx")
    assert [str(one).partition(":")[2].split()[0] for one in inside.inputs] == ["tensor(float)"]
    assert inside.inputs[0].shape[1:] == (3, SIDE_PX, SIDE_PX)
    assert np.allclose(answer, EXPECTED, atol=2e-3 if name == "fp16" else 1e-4)


def test_8_bit_integers_that_are_only_cast_never_come_up(tmp_path: Path) -> None:
    """TensorRT has no such integers inside a network."""
    scores(classifier(FLAT, images=image_input(TensorProto.UINT8, NHWC, *UINT8_NHWC)), tmp_path, SPEC_255)
    model = onnx.load(tmp_path / "made" / "model.onnx")
    casts = [n.attribute[0].i for n in model.graph.node if n.op_type == "Cast"]
    assert TensorProto.UINT8 not in casts


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_a_gray_input(tmp_path: Path, colour: Any) -> None:
    """Gray three times over, so that the answer shows the gray level itself."""
    three = helper.make_node("Concat", ["images"] * 3, ["pooled_from"], axis=1)
    half = helper.make_node("Mul", ["maps", "weights"], ["weighted"])
    weights = numpy_helper.from_array(np.array([1, 0, 0], np.float32).reshape(1, 3, 1, 1))
    tail = (
        helper.make_node("Constant", [], ["weights"], value=weights),
        half,
        helper.make_node("Flatten", ["weighted"], ["out"]),
    )
    images = image_input(TensorProto.FLOAT, ("n", 1, SIDE_PX, SIDE_PX), three)
    spec = InputSpec(width=SIDE_PX, height=SIDE_PX, colour=colour, mean=(0.5,) * 3)
    found, answer = scores(classifier(*tail, images=images), tmp_path, spec)
    level = float(COLOR @ [0.299, 0.587, 0.114]) / 255 - 0.5
    power = np.exp(20 * level)
    assert np.allclose(answer, np.array([power, 1, 1]) / (power + 2), atol=1e-4)
    assert "gray" in found.notes[0]


def test_fp16_from_end_to_end(tmp_path: Path) -> None:
    """Boxes in half precision are handed on as float32."""
    model = onnx.load_from_string(export({"out": listed(BOXES)}))
    for value, kind in ((model.graph.input[0], "image"), (model.graph.output[0], "list")):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
        assert kind
    model.graph.node[-1].output[0] = "wide"
    model.graph.node.append(helper.make_node("Cast", ["wide"], ["out"], to=TensorProto.FLOAT16))
    model.graph.node.insert(0, helper.make_node("Cast", ["images"], ["images_wide"], to=TensorProto.FLOAT))
    model.graph.node[1].input[0] = "images_wide"
    found, outcomes = made(model.SerializeToString(), tmp_path / "made", Row("", {}, "xyxy_score_class"))
    assert found.format == "xyxy_score_class"
    assert np.allclose([item.box_xyxy_px for item in outcomes[0].detections.items], BOXES)


def test_a_free_size_is_fixed(tmp_path: Path) -> None:
    """TensorRT plans of a file with a free size were refused on the device."""
    images = image_input(
        TensorProto.FLOAT,
        ("n", 3, "height", "width"),
        helper.make_node("Identity", ["images"], ["pooled_from"]),
    )
    found, answer = scores(classifier(FLAT, images=images), tmp_path)
    assert "any size: its input is fixed to 64x64" in found.notes[0]
    inside = onnx_formats.read_file(tmp_path / "made" / "model.onnx")
    assert inside.inputs[0].shape == (None, 3, SIDE_PX, SIDE_PX)
    assert np.allclose(answer, EXPECTED, atol=1e-4)


def test_weights_beside_the_file_are_taken_in(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    model = onnx.load_from_string(export({"out": listed(BOXES)}))
    onnx.save(model, folder / "net.onnx", save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    file = onnx_formats.read_file(folder / "net.onnx")
    (folder / "net.onnx.data").unlink()
    found = onnx_formats.recognise(file, SPEC)
    assert found.format == "xyxy_score_class" and len(found.data) > 200
    assert onnx_formats.files.inspect(found.data).outputs[0].shape == (None, 10, 6)


def test_the_size_of_the_image_as_second_input(tmp_path: Path) -> None:
    """RT-DETR's own export scales its boxes by `orig_target_sizes` [N, 2]: width, then height."""
    model = onnx.load_from_string(
        export({"labels": CLASSES.astype(np.int64), "fractions": BOXES / [64, 32, 64, 32], "scores": SCORES})
    )
    graph = model.graph
    graph.input[0].type.tensor_type.shape.dim[2].dim_value = 32
    graph.input.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ["n", 2]))
    graph.initializer.append(numpy_helper.from_array(np.array([1, 2], np.int64), "twice"))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    graph.node.extend(
        [
            helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=TensorProto.FLOAT),
            helper.make_node("Tile", ["sizes", "twice"], ["four"]),
            helper.make_node("Unsqueeze", ["four", "axis"], ["factors"]),
            helper.make_node("Mul", ["fractions", "factors"], ["boxes"]),
        ]
    )
    del graph.output[1]
    graph.output.append(helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", 2, 4]))
    spec = InputSpec(width=64, height=32)
    found, outcomes = made(model.SerializeToString(), tmp_path / "made", Row("", {}, "xyxy_score_class"), spec)
    assert found.format == "three_lists" and any("orig_target_sizes is fixed" in note for note in found.notes)
    wanted = BOXES * [1, 2, 1, 2]  # the image is twice as high as the input
    boxes = [item.box_xyxy_px for item in outcomes[0].detections.items]
    assert np.allclose(boxes, np.clip(wanted, 0, SIDE_PX), atol=1e-3)


# --- the table in the docs ------------------------------------------------------------------------------------------


def test_the_table_of_formats_names_what_is_tested() -> None:
    page = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8")
    table = page[page.index("## Formats") : page.index("## Inputs")]
    named = {line.split("|")[1].strip(" `") for line in table.splitlines() if re.match(r"\| `", line)}
    assert named == {row.form for row in ROWS.values()} | {"classes", "classes, probabilities"}


# --- real networks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["traffic_signs", "road_signs"])
def test_the_shipped_files_are_recognised_as_what_they_are(name: str) -> None:
    """Trained networks: a detector whose corners come in as many rows as a raw grid has, and a classifier."""
    bundle = bundles.read(ROOT / "models" / name)
    manifest = bundle.manifest
    file = onnx_formats.files.inspect(bundle.data(manifest.models[0].file))
    found = onnx_formats.recognise(file, manifest.input, classes=len(manifest.labels))
    assert (found.task, found.output, found.data) == (manifest.task, manifest.output, file.data)
    assert (found.decode and found.decode.layout) == (manifest.decode and manifest.decode.layout)
