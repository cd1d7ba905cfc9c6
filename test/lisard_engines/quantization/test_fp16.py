"""fp16 files: every weight in half precision, float32 outside, the same answers, and what does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lisard_engines.quantization import fp16
from lisard_ros.errors import BundleError


def run(data: bytes, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": x})[0])


def test_all_weights_are_half_and_the_answers_stay(small: Any) -> None:
    data = small.network()
    made = fp16.to_fp16(data, "model.onnx")
    model = onnx.load_model_from_string(made)
    onnx.checker.check_model(model, full_check=True)
    assert {t.data_type for t in model.graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    x = np.random.default_rng(0).random((5, 3, small.side_px, small.side_px), np.float32)
    difference = np.abs(run(made, x) - run(data, x)).max()
    assert 0 < difference < 0.02, "in half precision, not in single"


def test_nodes_are_sorted_although_the_converter_appends_its_casts(small: Any) -> None:
    model = onnx.load_model_from_string(fp16.to_fp16(small.network(), "m"))
    known = {"images"} | {t.name for t in model.graph.initializer}
    for node in model.graph.node:
        assert known.issuperset(node.input), node.name
        known |= set(node.output)


def test_a_weight_that_half_precision_cannot_hold_is_refused(small: Any) -> None:
    with pytest.raises(BundleError, match=r"does not fit into fp16: found W1 up to 7e\+04.*65504"):
        fp16.to_fp16(small.network(weight=7e4), "model.onnx")


@pytest.mark.parametrize("data", [b"", b"no model", b"\x08\x08"])
def test_what_is_no_onnx_file_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="not a valid ONNX file"):
        fp16.to_fp16(data, "model.onnx")


@hypothesis_settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_file_is_converted_whole_or_refused(small: Any, data: st.DataObject) -> None:
    content = bytearray(small.network())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        made = fp16.to_fp16(bytes(content), "model.onnx")
    except BundleError:
        return
    onnx.checker.check_model(onnx.load_model_from_string(made))
