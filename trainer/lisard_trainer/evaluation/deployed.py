"""The ONNX files of a bundle on ONNX Runtime, asked beside its PyTorch model: what a vehicle runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lisard_ros import backends, host_cpu
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.inference.preprocess import normalise

from . import versions
from .cache import ResultKey

TORCH, ONNX, INT8 = "torch", "onnxruntime", "onnxruntime_int8"
PRECISIONS = {ONNX: "fp32", INT8: "int8"}
CODE, PACKAGES = ("lisard_ros.backends", "lisard_ros.inference.preprocess"), ("onnxruntime",)
AT_ONCE = 64  # images


class DeployedFiles:
    """The files of a bundle. Each is opened when it is first asked."""

    def __init__(self, bundle: Bundle) -> None:
        """Opens nothing."""
        self._bundle = bundle
        self._opened: dict[str, backends.Backend] = {}

    def sha256(self, name: str) -> str:
        """Hash of the file behind ONNX or INT8; BundleError if there is none."""
        manifest = self._bundle.manifest
        return manifest.files[model_choice.pick(manifest, PRECISIONS[name]).file]

    @property
    def has_int8(self) -> bool:
        """Whether the bundle has an int8 file for CPUs."""
        return any(m.precision == "int8" and m.scheme in model_choice.FOR_CPU for m in self._bundle.manifest.models)

    def key(self, name: str, view: str, *code: str) -> ResultKey:
        """Key of the answers to a view. code: modules of the task that work on what comes out."""
        how: dict[str, object] = {"backend": ONNX, "input": str(self._bundle.manifest.input)}
        if name == INT8:
            how["instruction_sets"] = host_cpu.instruction_sets()
        made_by = versions.of(*CODE, *code, packages=PACKAGES)
        return ResultKey("answers", self.sha256(name), view, settings=how, code=made_by, device="cpu")

    def infer(self, name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """What comes out for images RGB [N,3,H,W] in [0,1]."""
        if name not in self._opened:
            self._opened[name] = backends.choose(self._bundle, ONNX, precision=PRECISIONS[name]).backend
        spec = self._bundle.manifest.input
        ordered = normalise(x if spec.colour == "rgb" else x[:, ::-1], spec)
        parts = [self._opened[name].infer(ordered[at : at + AT_ONCE]) for at in range(0, len(ordered), AT_ONCE)]
        return np.concatenate(parts)

    def close(self) -> None:
        """Frees what was opened."""
        while self._opened:
            self._opened.popitem()[1].close()
