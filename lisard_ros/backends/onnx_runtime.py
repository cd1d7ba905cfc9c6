"""The ONNX Runtime backend: one of the bundle's ONNX files on the CPU, or on a GPU through its providers.

Threads spin between two operators, because waking them for each one can take longer than the operator
(bench/session_threads.py). Between frames they sleep, because a node shares its cores with DDS, drivers and the rest of
the vehicle.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.bundle.manifest import InputSpec, ModelFile
from lisard_ros.errors import BackendError, BundleError, one_line

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_GPU_CURE = "use backend onnxruntime, or install onnxruntime-gpu (docs/engines.md) beside a CUDA driver"
_NOWHERE = "/dev/null/bundles-hold-their-weights-in-the-onnx-file"


def session_options(threads: int) -> ort.SessionOptions:
    """Return options that use `threads` threads; they wait actively within a run, never between two."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # An ONNX file may name other files that hold its weights, looked up from the working folder; nothing vouches for
    # those, so they are looked up where there are none.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    options.log_severity_level = 3
    return options


def load_session(
    data: bytes, name: str, threads: int, provider: str = CPU, optimise: bool = True
) -> ort.InferenceSession:
    """Load the bytes of an ONNX file; BackendError when ONNX Runtime refuses them or lacks the provider."""
    available = ort.get_available_providers()
    if provider not in available:
        raise BackendError(
            f"this ONNX Runtime has no {provider}", found=", ".join(available), expected=provider, cure=_GPU_CURE
        )
    options = session_options(threads)
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(data, options, providers=[provider])
    except Exception as error:  # ONNX Runtime raises its own untyped family; none of it is ours
        raise BackendError(
            f"ONNX Runtime refuses {name}",
            found=one_line(error),
            expected="one ONNX file with its weights inside",
            cure="export the model again",
        ) from error
    if session.get_providers()[0] != provider:  # it goes on with the CPU when a provider's libraries are missing
        raise BackendError(
            f"ONNX Runtime could not start {provider}",
            found=", ".join(session.get_providers()),
            expected=provider,
            cure=_GPU_CURE,
        )
    return session


class OnnxRuntime:
    """Runs one ONNX file. Models with a fixed batch of 1 are run row by row."""

    name = "onnxruntime"

    def __init__(
        self, bundle: Bundle, threads: int, model: ModelFile | None = None, provider: str = CPU, optimise: bool = True
    ) -> None:
        """Load the model from the bundle's verified bytes and check its input and output against the manifest.

        model: one of the bundle's (default: the fp32 file). optimise: False keeps every rounding of an fp16 file; the
        optimiser would compute it in float32 from end to end on a CPU.
        """
        model = model or model_choice.pick(bundle.manifest)
        self._made_of = (bundle, model, provider, optimise)
        self.threads = threads
        self._session = load_session(bundle.data(model.file), model.file, threads, provider, optimise)
        self._input, self._fixed_batch = _checked_input(self._session, bundle.manifest.input)
        self._output = _checked_output(self._session, bundle.manifest.output.name)
        self.warnings, self.model_sha256 = model_choice.warnings(model), model.sha256
        where = provider.removesuffix("ExecutionProvider")
        self.description = f"ONNX Runtime {ort.__version__} {where} {model_choice.name(model)} threads={threads}"

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run float32 [N, 3, H, W]; returns the manifest's output, float32 [N, ...]."""
        size = self._fixed_batch
        if not size:
            return self._run(x)
        parts = [self._run(x[start : start + size]) for start in range(0, len(x), size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def run_bare(self, x: NDArray[np.float32]) -> NDArray[np.generic]:
        """Run the session and nothing else, for measurements. x: contiguous, with a batch that the model takes."""
        (output,) = self._session.run([self._output], {self._input: x})
        return np.asarray(output)

    @property
    def can_halve(self) -> bool:
        """Whether two calls can run side by side, each on half of the threads. On a GPU there are none to share."""
        _, _, provider, _ = self._made_of
        return provider == CPU and self.threads > 1

    def halved(self) -> OnnxRuntime:
        """Load the same model for half of the threads."""
        bundle, model, provider, optimise = self._made_of
        return OnnxRuntime(bundle, self.threads // 2, model, provider, optimise)

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
        declared = ", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
        raise BundleError(
            "the model's inputs do not fit",
            found=declared,
            expected="one tensor(float) [N, 3, H, W]",
            cure="export the model for float32 images",
        )
    shape = inputs[0].shape
    expected = (3, spec.height, spec.width)
    fits = len(shape) == 4 and all(not isinstance(a, int) or a == b for a, b in zip(shape[1:], expected, strict=True))
    if not fits:
        raise BundleError(
            "the model's input size is not the bundle's",
            found=shape,
            expected=["N", *expected],
            cure="set the bundle's input to the model's size",
        )
    return inputs[0].name, shape[0] if isinstance(shape[0], int) else 0


def _checked_output(session: ort.InferenceSession, name: str) -> str:
    kinds = {output.name: output.type for output in session.get_outputs()}
    if name not in kinds:
        raise BundleError(
            "the model does not have the bundle's output",
            found=", ".join(kinds),
            expected=name,
            cure="name one of them in `output`",
        )
    if not kinds[name].startswith("tensor("):
        raise BundleError(
            f"the model's output {name} is not an array",
            found=kinds[name],
            expected="tensor(float)",
            cure="export it without maps and sequences (ZipMap)",
        )
    return name
