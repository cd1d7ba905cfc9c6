"""The ONNX Runtime backend: the bundle's ONNX file on the CPU, without spinning threads.

Spinning is off because a node shares its cores with DDS, drivers and the rest of the vehicle.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from lisard_ros.bundle import Bundle
from lisard_ros.errors import BackendError, BundleError, one_line
from lisard_ros.manifest import InputSpec, Manifest, ModelFile

_NOWHERE = "/dev/null/bundles-hold-their-weights-in-the-onnx-file"


def session_options(threads: int) -> ort.SessionOptions:
    """Return options that use `threads` threads and never busy-wait."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # An ONNX file may name other files that hold its weights, looked up from the working folder; nothing vouches for
    # those, so they are looked up where there are none.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    options.log_severity_level = 3
    return options


def pick_model(manifest: Manifest) -> ModelFile:
    """Return the ONNX file for the CPU: the fp32 one, which every bundle of this release has."""
    for model in manifest.models:
        if model.precision == "fp32":
            return model
    found = ", ".join(f"{m.precision}/{m.flavour}" for m in manifest.models)
    raise BundleError("no model for the CPU in the bundle", found=found, expected="an fp32 model")


def load_session(data: bytes, name: str, threads: int) -> ort.InferenceSession:
    """Load the bytes of an ONNX file; BackendError when ONNX Runtime refuses them."""
    try:
        return ort.InferenceSession(data, session_options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises its own untyped family; none of it is ours
        raise BackendError(
            f"ONNX Runtime refuses {name}", found=one_line(error),
            expected="one ONNX file with its weights inside", cure="export the model again",
        ) from error


class OnnxRuntime:
    """Runs one ONNX file. Models with a fixed batch of 1 are run row by row."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Load the model from the bundle's verified bytes and check its input and output against the manifest."""
        model = pick_model(bundle.manifest)
        self._session = load_session(bundle.data(model.file), model.file, threads)
        self._input, self._fixed_batch = _checked_input(self._session, bundle.manifest.input)
        self._output = _checked_output(self._session, bundle.manifest.output.name)
        self.description = f"ONNX Runtime {ort.__version__} CPU {model.precision}/{model.flavour} threads={threads}"

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run float32 [N, 3, H, W]; returns the manifest's output, float32 [N, ...]."""
        size = self._fixed_batch or max(len(x), 1)
        parts = [self._run(x[start : start + size]) for start in range(0, len(x), size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Free the session; a second call does nothing."""
        self.__dict__.pop("_session", None)

    def _run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        rows = len(x)
        if self._fixed_batch and rows < self._fixed_batch:
            x = np.concatenate([x, np.zeros((self._fixed_batch - rows, *x.shape[1:]), np.float32)])
        try:
            (output,) = self._session.run([self._output], {self._input: np.ascontiguousarray(x)})
        except Exception as error:  # see __init__
            raise BackendError("ONNX Runtime failed on a batch", found=one_line(error)) from error
        return np.asarray(output, np.float32)[:rows]


def _checked_input(session: ort.InferenceSession, spec: InputSpec) -> tuple[str, int]:
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
        raise BundleError("the model's inputs do not fit", found=found, expected="one tensor(float) [N, 3, H, W]",
                          cure="export the model for float32 pictures")
    shape = inputs[0].shape
    expected = (3, spec.height, spec.width)
    fits = len(shape) == 4 and all(not isinstance(a, int) or a == b for a, b in zip(shape[1:], expected, strict=True))
    if not fits:
        raise BundleError("the model's input size is not the bundle's", found=shape, expected=["N", *expected],
                          cure="set the bundle's input to the model's size")
    return inputs[0].name, shape[0] if isinstance(shape[0], int) else 0


def _checked_output(session: ort.InferenceSession, name: str) -> str:
    kinds = {output.name: output.type for output in session.get_outputs()}
    if name not in kinds:
        raise BundleError("the model lacks the bundle's output", found=", ".join(kinds), expected=name,
                          cure="name one of them in `output`")
    if not kinds[name].startswith("tensor("):
        raise BundleError(f"the model's output {name} is not an array", found=kinds[name], expected="tensor(float)",
                          cure="export it without maps and sequences (ZipMap)")
    return name
