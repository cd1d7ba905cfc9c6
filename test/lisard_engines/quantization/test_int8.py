"""int8 files: what each scheme holds, that calibration decides the ranges, and what stays in float."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from lisard_engines import image_sets
from lisard_engines.quantization import int8
from lisard_ros.errors import BundleError, DataError


@pytest.fixture
def real(small: Any) -> image_sets.ImageSet:
    return image_sets.read(small.images(), small.labels)


def weights_of(model: onnx.ModelProto, operator: str) -> list[onnx.TensorProto]:
    """What is fed into the nodes of a kind, as the integers behind the Q/DQ nodes."""
    kept = {t.name: t for t in model.graph.initializer}
    return [kept[node.input[0]] for node in model.graph.node if node.op_type == operator and node.input[0] in kept]


def test_the_cpu_scheme_has_unsigned_activations(small: Any, real: Any) -> None:
    data = small.network()
    model = onnx.load_model_from_string(int8.to_int8(data, "m", "u8s8", real, small.bundle().manifest.input))
    zeros = {t.name: t for t in model.graph.initializer}
    kinds = {zeros[n.input[2]].data_type for n in model.graph.node if n.op_type == "QuantizeLinear"}
    assert kinds == {TensorProto.UINT8}


def test_the_tensorrt_scheme_is_symmetric_and_leaves_biases_in_float(small: Any, real: Any) -> None:
    data = int8.to_int8(small.network(), "m", "s8s8", real, small.bundle().manifest.input)
    model = onnx.load_model_from_string(data)
    tensors = {t.name: t for t in model.graph.initializer}
    zero_points = [tensors[n.input[2]] for n in model.graph.node if n.op_type.endswith("QuantizeLinear")]
    assert {t.data_type for t in zero_points} == {TensorProto.INT8}
    assert all(not numpy_helper.to_array(t).any() for t in zero_points)
    biases = [n.input[2] for n in model.graph.node if n.op_type in ("Conv", "Gemm") and len(n.input) > 2]
    assert biases and all(tensors[name].data_type == TensorProto.FLOAT for name in biases)


@pytest.mark.parametrize("scheme", ["u8s8", "s8s8"])
def test_a_file_of_an_old_opset_is_quantised_per_channel(small: Any, real: Any, scheme: Any) -> None:
    """Regression: a file with opset 11, such as YOLOX exports, was refused: `Unrecognized attribute: axis`."""
    old = onnx.load_model_from_string(small.network())
    old.opset_import[0].version = 11
    onnx.checker.check_model(old)
    spec = small.bundle().manifest.input
    model = onnx.load_model_from_string(int8.to_int8(old.SerializeToString(), "m", scheme, real, spec))
    onnx.checker.check_model(model)
    assert model.opset_import[0].version >= 13
    assert any(a.name == "axis" for n in model.graph.node if n.op_type == "DequantizeLinear" for a in n.attribute)


def test_other_images_give_other_ranges(small: Any, real: Any) -> None:
    spec = small.bundle().manifest.input
    dark = image_sets.ImageSet(
        "dark",
        tuple(type(f)(np.asarray(f.image // 8), "rgb", 0, "", "") for f in real.frames),
        real.labels,
        real.groups,
        real.boxes,
    )
    first, second = (int8.to_int8(small.network(), "m", "u8s8", part, spec) for part in (real, dark))
    assert first == int8.to_int8(small.network(), "m", "u8s8", real, spec), "the same images, the same file"
    assert first != second
    assert int8.describe(real, "minmax").sha256 != int8.describe(dark, "minmax").sha256


@pytest.mark.parametrize("method", int8.METHODS)
def test_no_method_writes_into_the_answer_of_the_command(small: Any, real: Any, method: Any, capsys: Any) -> None:
    """`lisard build --json` writes JSON and nothing else to standard output."""
    int8.to_int8(small.network(), "m", "u8s8", real, small.bundle().manifest.input, method)
    assert capsys.readouterr().out == ""


def test_decoding_after_the_last_layer_stays_in_float(small: Any, real: Any) -> None:
    bundle = small.detector()
    data = bundle.data("model.onnx")
    assert set(int8.left_in_float(onnx.load_model_from_string(data))) == {"columns", "rows", "decode"}
    made = onnx.load_model_from_string(int8.to_int8(data, "m", "s8s8", real, bundle.manifest.input))
    (decode,) = [n for n in made.graph.node if n.op_type == "Add"]
    assert "offset" in decode.input and decode.output[0] == "out"


def test_a_fixed_batch_is_calibrated_in_whole_batches(small: Any, real: Any) -> None:
    data = small.network(batch=5)
    made = int8.to_int8(data, "m", "u8s8", real, small.bundle().manifest.input)
    assert onnx.load_model_from_string(made).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 5


@pytest.mark.parametrize("method", sorted(int8.METHODS))
def test_images_are_collected_in_parts_and_give_the_same_ranges_but_for_the_bins(
    small: Any, real: Any, method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All activations of a detector in memory at once were more than a machine has."""
    spec, asked = small.bundle().manifest.input, []
    set_range = int8._Reader.set_range

    def spied(reader: Any, start_index: int, end_index: int) -> None:
        asked.append((end_index - start_index) * reader._size)
        set_range(reader, start_index, end_index)

    monkeypatch.setattr(int8._Reader, "set_range", spied)
    whole, parts = [], []
    for at_once, found in ((len(real), whole), (16, parts)):
        monkeypatch.setattr(int8, "IMAGES_AT_ONCE", at_once)
        asked.clear()
        model = onnx.load_model_from_string(int8.to_int8(small.network(), "m", "u8s8", real, spec, method))
        assert max(asked[1:]) <= at_once and sum(asked[1:]) == len(real)
        tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        found += [float(tensors[n.input[1]]) for n in model.graph.node if n.op_type == "QuantizeLinear"]
    # entropy looks for a range among the bins, and merged parts have other bins
    assert whole and np.allclose(parts, whole, rtol={"minmax": 1e-6, "percentile": 0.05, "entropy": 0.5}[method])


def test_too_few_images_are_refused(small: Any) -> None:
    few = image_sets.read(small.images(count=12), small.labels)
    with pytest.raises(DataError, match="too few images to calibrate int8: found 12, expected at least 32"):
        int8.to_int8(small.network(), "m", "u8s8", few, small.bundle().manifest.input)


def test_a_model_that_cannot_run_is_named(small: Any, real: Any) -> None:
    with pytest.raises(BundleError, match="cannot be quantised to int8 u8s8: .*NoSuchOperator"):
        data = small.network()
        model = onnx.load_model_from_string(data)
        model.graph.node[1].op_type, model.graph.node[1].domain = "NoSuchOperator", "custom"
        model.opset_import.append(onnx.helper.make_opsetid("custom", 1))
        int8.to_int8(model.SerializeToString(), "m", "u8s8", real, small.bundle().manifest.input)
