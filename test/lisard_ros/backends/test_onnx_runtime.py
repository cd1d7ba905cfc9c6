"""The ONNX Runtime backend on real, tiny networks: options, batches, and models that do not fit their bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lisard_ros.backends import onnx_runtime
from lisard_ros.bundle.manifest import InputSpec, ModelFile, OutputSpec
from lisard_ros.errors import BackendError, BundleError

SPEC = {"width": 16, "height": 16}


def images(count: int) -> np.ndarray:
    """Random input."""
    return np.random.default_rng(0).random((count, 3, 16, 16), np.float32) * np.float32(0.9)


def test_threads_spin_within_a_run_and_never_between_two() -> None:
    options = onnx_runtime.session_options(3)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)


def test_the_session_has_these_options(tiny: Any) -> None:
    backend = onnx_runtime.OnnxRuntime(tiny.classifier(), 2)
    options = backend._session.get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert backend.description.endswith("CPU fp32/plain threads=2")


def test_half_of_the_threads_give_the_same_answers(tiny: Any) -> None:
    bundle = tiny.classifier()
    backend = onnx_runtime.OnnxRuntime(bundle, 5)
    halved = backend.halved()
    assert halved.description.endswith("threads=2")
    np.testing.assert_allclose(halved.infer(images(3)), backend.infer(images(3)), atol=1e-6)
    assert backend.can_halve and not onnx_runtime.OnnxRuntime(bundle, 1).can_halve


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_any_batch_gives_the_answers_of_the_network(tiny: Any, batch: int | str, count: int) -> None:
    bundle = tiny.classifier(model=tiny.classifier_onnx(batch=batch))
    x = images(count)
    found = onnx_runtime.OnnxRuntime(bundle, 1).infer(x)
    assert found.dtype == np.float32 and np.allclose(found, x.mean(axis=(2, 3)) * tiny.gain, atol=1e-4)


def test_strided_input_is_accepted(tiny: Any) -> None:
    backend = onnx_runtime.OnnxRuntime(tiny.classifier(), 1)
    x = images(4)
    assert np.array_equal(backend.infer(x[::2]), backend.infer(x[::2].copy()))


def test_the_fp32_model_is_taken(tiny: Any) -> None:
    models = (ModelFile(file="q.onnx", precision="int8", scheme="u8s8"), ModelFile(file="model.onnx"))
    bundle = tiny.classifier(files={"q.onnx": b"never loaded here"}, models=models)
    assert "fp32/plain" in onnx_runtime.OnnxRuntime(bundle, 1).description


def test_without_an_fp32_model_the_bundle_is_refused(tiny: Any) -> None:
    bundle = tiny.classifier(models=(ModelFile(file="model.onnx", precision="fp16"),))
    with pytest.raises(BundleError, match="has no fp32 model for this backend: found fp16/plain, expected fp32"):
        onnx_runtime.OnnxRuntime(bundle, 1)


@pytest.mark.parametrize("model", [b"", b"\x00" * 64, b"not a model at all", os.urandom(500)])
def test_a_corrupt_model_is_refused(tiny: Any, model: bytes) -> None:
    with pytest.raises(BackendError, match=r"ONNX Runtime refuses model\.onnx: found .*, expected .*; export"):
        onnx_runtime.OnnxRuntime(tiny.classifier(model=model), 1)


def test_a_truncated_model_is_refused(tiny: Any) -> None:
    with pytest.raises(BackendError, match="refuses"):
        onnx_runtime.OnnxRuntime(tiny.classifier(model=tiny.classifier_onnx()[:-200]), 1)


def test_another_input_size_is_refused(tiny: Any) -> None:
    bundle = tiny.classifier(input=InputSpec(width=32, height=16))
    with pytest.raises(BundleError, match=r"found \['n', 3, 16, 16\], expected \['N', 3, 16, 32\]"):
        onnx_runtime.OnnxRuntime(bundle, 1)


def test_another_output_name_is_refused(tiny: Any) -> None:
    bundle = tiny.classifier(output=OutputSpec(name="logits", activation="softmax"))
    with pytest.raises(BundleError, match="does not have the bundle's output: found out, expected logits"):
        onnx_runtime.OnnxRuntime(bundle, 1)


def model_of(node: Any, inputs: list[Any], outputs: list[Any]) -> bytes:
    """A model of one node."""
    model = helper.make_model(
        helper.make_graph([node], "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    return bytes(model.SerializeToString())


def test_two_inputs_are_refused(tiny: Any) -> None:
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3, 16, 16]) for n in ("a", "b", "out")]
    with pytest.raises(BundleError, match="inputs do not fit: found a: .*, b: "):
        onnx_runtime.OnnxRuntime(
            tiny.classifier(model=model_of(helper.make_node("Add", ["a", "b"], ["out"]), tensors[:2], tensors[2:])), 1
        )


def test_an_input_that_is_not_float_is_refused(tiny: Any) -> None:
    image = helper.make_tensor_value_info("a", TensorProto.UINT8, ["n", 3, 16, 16])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3, 16, 16])
    node = helper.make_node("Cast", ["a"], ["out"], to=TensorProto.FLOAT)
    with pytest.raises(BundleError, match=r"tensor\(uint8\).*expected one tensor\(float\)"):
        onnx_runtime.OnnxRuntime(tiny.classifier(model=model_of(node, [image], [out])), 1)


def test_an_output_that_is_no_array_is_refused(tiny: Any) -> None:
    """Regression: a sequence (as ZipMap gives) raised TypeError at the first frame."""
    image = helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 3, 16, 16])
    out = helper.make_tensor_sequence_value_info("out", TensorProto.FLOAT, None)
    node = helper.make_node("SequenceConstruct", ["a"], ["out"])
    with pytest.raises(BundleError, match=r"output out is not an array: found seq\(tensor\(float\)\)"):
        onnx_runtime.OnnxRuntime(tiny.classifier(model=model_of(node, [image], [out])), 1)


def test_weights_outside_the_bundle_are_not_opened(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: an ONNX file that names another file had it read from the working folder, listed nowhere."""
    model = onnx.load_from_string(tiny.classifier_onnx())
    matrix = next(tensor for tensor in model.graph.initializer if tensor.name == "W")
    (tmp_path / "weights.bin").write_bytes(matrix.raw_data)
    matrix.ClearField("raw_data")
    matrix.data_location = TensorProto.EXTERNAL
    entry = matrix.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackendError, match="expected one ONNX file with its weights inside"):
        onnx_runtime.OnnxRuntime(tiny.classifier(model=model.SerializeToString()), 1)


def test_a_batch_that_the_runtime_refuses_is_an_error_of_ours(tiny: Any) -> None:
    backend = onnx_runtime.OnnxRuntime(tiny.classifier(), 1)
    with pytest.raises(BackendError, match="failed on a batch"):
        backend.infer(np.zeros((1, 3, 8, 8), np.float32))
