"""The OpenVINO backend on real, tiny networks: the answers of ONNX Runtime, and what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lisard_ros import backends
from lisard_ros.errors import BackendError, BundleError, UsageError

pytest.importorskip("openvino", reason="requirements/engines.txt is not installed")


def test_it_answers_as_onnx_runtime_does(tiny: Any) -> None:
    bundle = tiny.classifier()
    ours, theirs = (backends.choose(bundle, name, 1).backend for name in ("openvino", "onnxruntime"))
    x = np.random.default_rng(0).random((5, 3, tiny.side_px, tiny.side_px), np.float32) * 0.9
    for count in (1, 5, 2):
        assert np.allclose(ours.infer(x[:count]), theirs.infer(x[:count]), atol=1e-4)
    assert "OpenVINO" in ours.description and "fp32/plain threads=1" in ours.description and ours.warnings == ()
    ours.close()
    ours.close()


def test_a_corrupt_model_is_refused(tiny: Any) -> None:
    with pytest.raises(BackendError, match="OpenVINO refuses model.onnx"):
        backends.choose(tiny.classifier(model=b"no model"), "openvino", 1)


def test_a_missing_output_is_refused(tiny: Any) -> None:
    from lisard_ros.bundle.manifest import OutputSpec

    bundle = tiny.classifier(output=OutputSpec(name="other", activation="softmax"))
    with pytest.raises(BundleError, match="does not have the bundle's output: found .*out.*expected other"):
        backends.choose(bundle, "openvino", 1)


def test_a_batch_that_does_not_fit_is_an_error(tiny: Any) -> None:
    backend = backends.choose(tiny.classifier(), "openvino", 1).backend
    with pytest.raises(BackendError, match="OpenVINO failed on a batch"):
        backend.infer(np.zeros((1, 5, 4), np.float32))


def test_the_pytorch_model_has_one_precision(tiny: Any) -> None:
    with pytest.raises(UsageError, match="the PyTorch model runs in fp32"):
        backends.choose(tiny.classifier(), "torch", 1, "int8")
