"""Foreign ONNX files that cannot become a bundle are refused for the true reason; nothing uncertain is guessed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lisard_ros import onnx_formats
from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.errors import BackendError, BundleError, UsageError

SIDE_PX = 64
SPEC = InputSpec(width=SIDE_PX, height=SIDE_PX)
CELLS = 8 * 8 + 4 * 4 + 2 * 2
RANDOM = np.random.default_rng(0)


def export(
    outputs: dict[str, NDArray[Any]],
    shape: tuple[int | str, ...] = ("n", 3, SIDE_PX, SIDE_PX),
    kind: int = TensorProto.FLOAT,
    extra: tuple[Any, ...] = (),
) -> bytes:
    """A network that gives these arrays, with their batch axis, whatever it is given."""
    image = helper.make_tensor_value_info("images", kind, shape)
    nodes, infos = [helper.make_node("Identity", ["images"], ["unused"])], []
    weights = []
    for name, array in outputs.items():
        weights.append(numpy_helper.from_array(array.astype(np.float32), f"{name}_rows"))
        nodes.append(helper.make_node("Identity", [f"{name}_rows"], [name]))
        infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    graph = helper.make_graph(nodes, "export", [image, *extra], infos, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def recognise(data: bytes, folder: Path, spec: InputSpec = SPEC, **told: Any) -> onnx_formats.Recognition:
    """What becomes of the file."""
    (folder / "net.onnx").write_bytes(data)
    return onnx_formats.recognise(onnx_formats.read_file(folder / "net.onnx"), spec, **told)


def boxes(count: int, columns: int = 4) -> NDArray[np.float32]:
    """Centre and size in pixels, and scores, [1, count, columns]."""
    table = RANDOM.uniform(0, 0.4, (1, count, columns))
    table[..., :2] = RANDOM.uniform(20, 60, (1, count, 2))
    table[..., 2:4] = RANDOM.uniform(2, 18, (1, count, 2))
    return table.astype(np.float32)


def raw_grid(classes: int) -> NDArray[np.float32]:
    """YOLOX before decoding."""
    table = RANDOM.uniform(0, 1, (1, CELLS, 5 + classes))
    table[..., 2:4] -= 0.5
    return table.astype(np.float32)


def listed() -> NDArray[np.float32]:
    """Corners, score, class."""
    rows = np.zeros((1, 20, 6), np.float32)
    rows[0, :3] = [[1, 2, 30, 40, 0.9, 0], [5, 6, 40, 30, 0.8, 0], [9, 9, 50, 60, 0.3, 0]]
    return rows


# --- outputs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["cxcywh_objectness_classes", "xyxy_objectness_classes"])
def test_a_raw_grid_is_not_taken_for_decoded_boxes(tmp_path: Path, layout: Any) -> None:
    """Regression: a YOLOX export became a bundle of decoded boxes, which found nothing."""
    with pytest.raises(BundleError, match="not of layout .*: found numbers of layout yolox_grid .*--layout yolox_grid"):
        recognise(export({"out": raw_grid(3)}), tmp_path, layout=layout, classes=3)


def test_a_list_is_not_taken_for_boxes_with_objectness(tmp_path: Path) -> None:
    """Regression: of a list with one class every score became 0, the score times the class."""
    data = export({"out": listed()})
    with pytest.raises(BundleError, match="numbers of layout xyxy_score_class .*give --layout xyxy_score_class"):
        recognise(data, tmp_path, layout="xyxy_objectness_classes", classes=1)
    assert recognise(data, tmp_path, classes=1).format == "xyxy_score_class"
    assert recognise(data, tmp_path, layout="xyxy_score_class", classes=1).data == data


def test_decoded_boxes_with_a_row_for_each_cell_are_no_raw_grid(tmp_path: Path) -> None:
    """YOLOv8 transposed and YOLOX decoded have as many rows as YOLOX's grid; corners may be negative as well."""
    cells, strides = onnx_formats.recognition.grid_cells((SIDE_PX, SIDE_PX))
    corners = np.concatenate([(cells - 2) * strides, (cells + 3) * strides], axis=1)
    table = np.concatenate([corners, RANDOM.uniform(0, 1, (CELLS, 4))], axis=1)[None].astype(np.float32)
    assert (table[..., :4] < 0).any()
    assert recognise(export({"out": table}), tmp_path, classes=3).format == "xyxy_objectness_classes"


def test_columns_with_two_readings_are_not_guessed(tmp_path: Path) -> None:
    data = export({"out": boxes_at_cells(8)})
    with pytest.raises(BundleError, match="two readings: .*expected 4 classes, or an objectness and 3 classes.*labels"):
        recognise(data, tmp_path)
    assert recognise(data, tmp_path, classes=3).format == "cxcywh_objectness_classes"
    assert recognise(data, tmp_path, classes=4).format == "boxes_classes"


def boxes_at_cells(columns: int) -> NDArray[np.float32]:
    """Decoded boxes, one for each cell."""
    cells, strides = onnx_formats.recognition.grid_cells((SIDE_PX, SIDE_PX))
    table = RANDOM.uniform(0, 1, (CELLS, columns))
    table[:, :2], table[:, 2:4] = (cells + 0.5) * strides, RANDOM.uniform(2, 20, (CELLS, 2))
    return table[None].astype(np.float32)


REFUSED: dict[str, tuple[dict[str, NDArray[Any]], dict[str, Any], str]] = {
    "offsets to anchors": (
        {"scores": RANDOM.uniform(0, 1, (1, 50, 2)), "boxes": RANDOM.normal(0, 1, (1, 50, 4))},
        {"classes": 1},
        "neither corners nor centre and size: .*offsets to anchors mean nothing without the anchors",
    ),
    "masks": (
        {"out": boxes(200, 40).transpose(0, 2, 1), "protos": np.zeros((1, 32, 16, 16))},
        {},
        r"no format that is decoded \(masks",
    ),
    "maps alone": ({"map": np.zeros((1, 1, 64, 64))}, {}, "no format that is decoded: found map"),
    "no batch axis": ({"boxes": np.zeros((7, 4)), "scores": np.zeros(7)}, {}, "boxes has no batch axis: found .7, 4."),
    "labels of another model": (
        {"out": boxes(200, 8).transpose(0, 2, 1)},
        {"classes": 7},
        "does not fit task and labels",
    ),
    "classes of another number": ({"out": np.zeros((1, 5))}, {"classes": 3}, r"found \[5\], expected \[3\]"),
    "a classifier as detector": ({"out": np.zeros((1, 5))}, {"task": "detection"}, "no format that is decoded"),
    "a detector as classifier": ({"out": boxes(9, 8)}, {"task": "classification"}, "does not fit task and labels"),
    "several outputs for a layout": (
        {"a": boxes(9, 8), "b": boxes(9, 8)},
        {"layout": "xyxy_objectness_classes"},
        "is one table of numbers for each image: found a .*; b ",
    ),
    "fractions with a layout": (
        {"out": boxes(99, 8) / 100},
        {"layout": "cxcywh_objectness_classes"},
        "are fractions of the image: .*leave out --layout",
    ),
    "fractions with classes first": (
        {"out": np.concatenate([boxes(99) / 64, boxes(99)[..., 2:] / 99], axis=2).transpose(0, 2, 1)},
        {"classes": 2},
        "boxes of the model's output out are centre and size as fractions",
    ),
    "TensorFlow": (
        {
            "detection_boxes": np.sort(RANDOM.uniform(0, 1, (1, 9, 4))),
            "detection_scores": np.full((1, 9), 0.5),
            "detection_classes": np.ones((1, 9)),
        },
        {},
        "boxes of TensorFlow's object detection are not decoded",
    ),
    "an output that is not there": (
        {"out": boxes(9, 8)},
        {"output": "boxes"},
        "does not have the bundle's output: found out",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_decoded_is_refused(name: str, tmp_path: Path) -> None:
    outputs, told, reason = REFUSED[name]
    with pytest.raises(BundleError, match=reason):
        recognise(export(outputs), tmp_path, **told)


# --- inputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kind", "reason"),
    [
        (("n", 4, 64, 64), TensorProto.FLOAT, "no image of one or three channels"),
        (("n", 6), TensorProto.FLOAT, "does not take one batch of images"),
        ((3, 64, 64), TensorProto.FLOAT, "does not take one batch of images: .*batch axis"),
        (("n", 3, 64, 64), TensorProto.INT64, "of a type that no image is turned into: found tensor.int64."),
        (("n", 3, 32, 48), TensorProto.FLOAT, r"input size is not the model's: found 64x64, expected 48x32 \(width"),
        (("n", 32, 48, 3), TensorProto.FLOAT, "give --input 48x32"),
        (("n", 3, 64, 64), TensorProto.UINT8, "takes 8-bit images as they are: .*std 1/255"),
    ],
)
def test_an_input_that_cannot_be_fed_is_refused(tmp_path: Path, shape: Any, kind: int, reason: str) -> None:
    with pytest.raises(BundleError, match=reason):
        recognise(export({"out": np.zeros((1, 5))}, shape, kind), tmp_path)


def test_a_gray_input_has_one_mean(tmp_path: Path) -> None:
    data = export({"out": np.zeros((1, 5))}, ("n", 1, 64, 64))
    with pytest.raises(BundleError, match="takes gray images: .*one mean and one std"):
        recognise(data, tmp_path, InputSpec(width=64, height=64, mean=(0.1, 0.2, 0.3)))


def test_a_second_input_is_refused(tmp_path: Path) -> None:
    extra = helper.make_tensor_value_info("config", TensorProto.FLOAT, [3])
    with pytest.raises(BundleError, match="does not take one batch of images: found images: .*; config: "):
        recognise(export({"out": np.zeros((1, 5))}, extra=(extra,)), tmp_path)


# --- files ----------------------------------------------------------------------------------------------------------


def with_weights_outside(folder: Path) -> Path:
    """A file with its weights beside it."""
    folder.mkdir()
    model = onnx.load_from_string(export({"out": listed()}))
    onnx.save(model, folder / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    return folder / "net.onnx"


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = with_weights_outside(tmp_path / "export")
    (path.parent / "net.data").unlink()
    with pytest.raises(
        UsageError, match=r"weights that the ONNX file keeps in another file: .*net\.data.*put it beside"
    ):
        onnx_formats.read_file(path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd"])
def test_weights_are_read_from_the_files_own_folder_only(tmp_path: Path, location: str) -> None:
    path = with_weights_outside(tmp_path / "export")
    (tmp_path / "secret").write_bytes(bytes(1000))
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="cannot read the weights that the ONNX file keeps in another file"):
        onnx_formats.read_file(path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"hello")
    with pytest.raises(BackendError, match="ONNX Runtime refuses the model"):
        onnx_formats.read_file(tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="cannot read the ONNX file"):
        onnx_formats.read_file(tmp_path / "none.onnx")


def test_without_onnx_a_file_that_needs_no_change_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, other = export({"out": listed()}), export({"out": listed()}, ("n", 64, 64, 3))
    free = export({"out": listed()}, ("n", 3, "height", "width"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert recognise(usual, tmp_path).data == usual
    assert recognise(free, tmp_path).data == free
    with pytest.raises(BackendError, match="must be changed to become a bundle, .*expected onnx; pip install onnx"):
        recognise(other, tmp_path)
