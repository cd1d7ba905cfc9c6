"""OpenVINO as an optional CPU backend. It is held to float32: its own default rounds to bfloat16 where the CPU can."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.bundle.manifest import ModelFile
from lisard_ros.errors import BackendError, BundleError, one_line


class OpenVino:
    """Runs one ONNX file of a bundle."""

    name = "openvino"

    def __init__(self, bundle: Bundle, threads: int, model: ModelFile) -> None:
        """Compile the model from the bundle's verified bytes; BackendError when OpenVINO is absent or refuses it."""
        try:
            import openvino
        except ImportError as error:
            raise BackendError(
                "the openvino backend cannot be loaded",
                found=str(error),
                expected="openvino",
                cure="pip install openvino (requirements/engines.txt)",
            ) from error
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        try:
            core = openvino.Core()
            self._compiled: Any = core.compile_model(core.read_model(bundle.data(model.file)), "CPU", options)
            self._request = self._compiled.create_infer_request()
        except Exception as error:  # OpenVINO raises plain RuntimeErrors of its own
            raise BackendError(
                f"OpenVINO refuses {model.file}",
                found=one_line(error),
                expected="an ONNX file",
                cure="use backend onnxruntime",
            ) from error
        self._lock = threading.Lock()  # node and self test share the request
        self._output = _checked(self._compiled, bundle)
        self.warnings, self.model_sha256 = model_choice.warnings(model), model.sha256
        version = openvino.__version__.split("-")[0]
        self.description = f"OpenVINO {version} CPU {model_choice.name(model)} threads={threads}"

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run float32 [N, 3, H, W]; returns the manifest's output, float32 [N, ...]."""
        with self._lock:
            try:
                outputs = self._request.infer({0: np.ascontiguousarray(x)}, share_inputs=True)
            except Exception as error:  # see __init__
                raise BackendError("OpenVINO failed on a batch", found=one_line(error)) from error
            return np.array(outputs[self._output], np.float32)

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        for name in ("_request", "_output", "_compiled"):
            self.__dict__.pop(name, None)


def _checked(compiled: Any, bundle: Bundle) -> Any:
    wanted = bundle.manifest.output.name
    names = [name for output in compiled.outputs for name in output.get_names()]
    if wanted not in names or len(compiled.inputs) != 1:
        raise BundleError(
            "the model does not have the bundle's output",
            found=", ".join(names),
            expected=wanted,
            cure="name one of them in `output`",
        )
    return compiled.output(wanted)
