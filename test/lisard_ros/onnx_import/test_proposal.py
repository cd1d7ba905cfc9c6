"""What is proposed for a foreign file: by its metadata, by its input and by the format of its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lisard_ros.errors import UsageError
from lisard_ros.onnx_formats import OnnxFile, read_file
from lisard_ros.onnx_import.proposal import Conclusion, Proposal, Stated, propose

CELLS = 21  # of the grids of strides 8, 16 and 32 on an input of 32x32


def file_of(
    path: Path, rows: NDArray[np.float32], side: int | str = 32, kind: int = TensorProto.FLOAT, **metadata: str
) -> OnnxFile:
    """A file that gives `rows` for every image, and a little more for brighter ones."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axes"], ["column"]),
        helper.make_node("Mul", ["column", "slope"], ["own"]),
        helper.make_node("Add", ["own", "rows"], ["out"]),
    ]
    weights = {
        "axes": np.arange(1, 1 + rows.ndim, dtype=np.int64),
        "slope": np.full(1, 1e-6, np.float32),
        "rows": np.asarray(rows, np.float32)[None],
    }
    if rows.shape[-1] == 6 and rows.ndim == 2:  # the class of a list is a whole number
        weights["slope"] = np.array([1e-6] * 5 + [0], np.float32)
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("images", kind, ["n", 3, side, side])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", *rows.shape])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return read_file(path)


def said(proposal: Proposal, what: str) -> Conclusion:
    """The line about one thing."""
    (one,) = [conclusion for conclusion in proposal.conclusions if conclusion.what == what]
    return one


def grid() -> NDArray[np.float32]:
    """Raw rows of YOLOX, 4 + 1 + 3: offsets in the cell, logarithms of the size, then scores."""
    random = np.random.default_rng(0)
    boxes = np.concatenate([random.uniform(0, 1, (CELLS, 2)), random.uniform(-1, 0.5, (CELLS, 2))], axis=1)
    return np.concatenate([boxes, random.uniform(0.01, 0.9, (CELLS, 4))], axis=1).astype(np.float32)


def test_yolox_is_fed_as_yolox_is_trained(tmp_path: Path) -> None:
    proposal = propose(file_of(tmp_path / "net.onnx", grid()), Stated(name="net", labels=("a", "b", "c")))
    spec, decode = proposal.manifest.input, proposal.manifest.decode
    assert decode is not None and decode.layout == "yolox_grid"
    assert (spec.colour, spec.resize, spec.interpolation) == ("bgr", "letterbox", "linear")
    assert spec.std == pytest.approx((1 / 255,) * 3) and said(proposal, "std").value == "1/255 (pixels in 0..255)"
    assert str(said(proposal, "colour")) == "colour bgr: as YOLOX does; --colour overrides it"
    stated = Stated(name="net", labels=("a", "b", "c"), colour="rgb", std=(1.0, 1.0, 1.0), resize="stretch")
    proposal = propose(file_of(tmp_path / "net.onnx", grid()), stated)
    spec = proposal.manifest.input
    assert (spec.colour, spec.std, spec.resize) == ("rgb", (1.0, 1.0, 1.0), "stretch"), "what is stated wins"
    assert not {"colour", "std", "resize"} & {conclusion.what for conclusion in proposal.conclusions}


def test_a_list_of_boxes_needs_labels_and_keeps_its_boxes(tmp_path: Path) -> None:
    rows = np.array([[2, 3, 10, 12, 0.9, 0], [4, 4, 20, 20, 0.6, 1]] * 6, np.float32)
    file = file_of(tmp_path / "net.onnx", rows)
    with pytest.raises(UsageError, match="the number of classes is unknown.*give --labels"):
        propose(file, Stated(name="net"))
    proposal = propose(file, Stated(name="net", labels=("a", "b")))
    decode = proposal.manifest.decode
    assert decode is not None and (decode.layout, decode.nms_iou) == ("xyxy_score_class", 1.0)
    assert said(proposal, "NMS IoU").source == "from the outputs of the file"
    proposal = propose(file, Stated(name="net"), folder_labels=("x", "y"))
    assert proposal.manifest.labels == ("x", "y") and "--images" in said(proposal, "labels").source


def test_8_bit_images_are_fed_as_they_are(tmp_path: Path) -> None:
    scores = np.array([3.0, 1.0, -2.0], np.float32)
    proposal = propose(file_of(tmp_path / "net.onnx", scores, kind=TensorProto.UINT8), Stated(name="net"))
    assert proposal.manifest.input.std == pytest.approx((1 / 255,) * 3) and proposal.manifest.task == "classification"
    assert said(proposal, "std").source == said(proposal, "mean").source == "because the file takes 8-bit images"


@pytest.mark.parametrize(
    ("shape", "metadata", "size", "source"),
    [
        ((3,), {}, (224, 224), "a guess, because the file takes any size"),
        ((7, 40), {}, (640, 640), "a guess, because the file takes any size"),
        ((7, 40), {"imgsz": "[320, 480]"}, (480, 320), "from the metadata of the file"),
    ],
)
def test_the_size_of_a_file_that_takes_any(
    tmp_path: Path, shape: tuple[int, ...], metadata: dict[str, str], size: tuple[int, int], source: str
) -> None:
    rows = np.random.default_rng(0).uniform(0.1, 0.9, shape).astype(np.float32)
    if len(shape) == 2:
        rows[:4] = rows[:4] * 20 + 100
    file = file_of(tmp_path / "net.onnx", rows, side="side", **metadata)
    proposal = propose(file, Stated(name="net", labels=("a", "b", "c")))
    assert (proposal.manifest.input.width, proposal.manifest.input.height) == size
    assert said(proposal, "input").source == source


def test_a_stated_size_that_the_file_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="input size is not the model's.*--input 32x32"):
        propose(file_of(tmp_path / "net.onnx", grid()), Stated(name="net", size_px=(64, 64)))


def test_ultralytics_classifiers_crop_where_bundles_stretch(tmp_path: Path) -> None:
    scores = np.array([0.7, 0.2, 0.1], np.float32)
    facts: dict[str, Any] = {"task": "classify", "author": "Ultralytics", "names": "['a', 'b', 'c']"}
    proposal = propose(file_of(tmp_path / "net.onnx", scores, **facts), Stated(name="net"))
    assert proposal.manifest.input.resize == "stretch" and "crops the middle" in said(proposal, "resize").source
    assert said(proposal, "mean").source == "as ultralytics does"
